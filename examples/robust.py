"""Trains the digits network while some batches are spoiled, with and without what NAGD has for it.

One batch in twenty holds a NaN, an infinity, pixels of 1e30, or sample weights on another scale
(1000 instead of 1). Keras' SGD and NAGD without help end in NaN. `skip_nonfinite` leaves out
updates that are not finite, `DivergenceGuard` undoes those that are finite and harmful; with both
the run ends where a run on clean batches ends. A figure shows all five.

All runs decay the weights, so that there is a loss to end at. Without, it falls on with every
update, and those that are left out are missing.

    python examples/robust.py --help
"""

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from digits import REPOSITORY, Data, folder, load_data, make_model, positive

from nagd_keras import NAGD, callbacks

import matplotlib.pyplot as plt  # isort: skip  (digits.py has chosen the backend)
from matplotlib.ticker import MaxNLocator, StrMethodFormatter  # isort: skip

KINDS = ("NaN", "infinity", "1e30", "wrong scale")
WEIGHT_DECAY = 0.1


@dataclass(frozen=True)
class Run:
    """How one training run went."""

    name: str
    losses: list[float]  # on the clean training images, before training and after each epoch
    accuracy: float  # on the test images
    seconds: float
    report: str


class Batches(keras.utils.PyDataset):
    """Shuffled batches, some of them spoiled; the same for all runs."""

    def __init__(self, x: Any, y: Any, options: argparse.Namespace, share: float) -> None:
        super().__init__()
        self._arrays, self._epoch = (x, y), 0
        self._size: int = options.batch_size
        rng = np.random.default_rng(options.seed)
        self._orders: list[np.ndarray] = [rng.permutation(len(x)) for _ in range(options.epochs)]
        batches = options.epochs * len(self)
        # The kinds in turn, in batches drawn at random.
        spoiled = rng.choice(batches, round(share * batches), replace=False)
        self.spoiled = {int(place): KINDS[i % len(KINDS)] for i, place in enumerate(spoiled)}

    def __len__(self) -> int:
        """Returns the batches of an epoch."""
        return -(-len(self._orders[0]) // self._size)

    def __getitem__(self, index: int) -> tuple[Any, Any, Any]:
        """Returns a batch."""
        rows = self._orders[self._epoch][index * self._size :][: self._size]
        x, y = (array[rows] for array in self._arrays)
        kind = self.spoiled.get(self._epoch * len(self) + index)
        weight = np.full(len(x), 1000 if kind == "wrong scale" else 1, "float32")
        return spoil(x, kind), y, weight

    def on_epoch_end(self) -> None:
        """Goes on to the next order; behind the last epoch, Keras asks for nothing more."""
        self._epoch = min(self._epoch + 1, len(self._orders) - 1)


def spoil(x: Any, kind: str | None) -> Any:
    """Returns images with a column of pixels spoiled, if the kind of spoiling is one of pixels."""
    value = {"NaN": np.nan, "infinity": np.inf, "1e30": 1e30}.get(kind or "")
    if value is not None:
        x = x.copy()
        x[:, x.shape[1] // 2] = value
    return x


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0] if __doc__ else None,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--epochs", type=positive, default=20, help="epochs of each run")
    parser.add_argument("--batch-size", type=positive, default=32, help="images in a batch")
    parser.add_argument("--share", type=share, default=0.05, help="of the batches that is spoiled")
    parser.add_argument(
        "--seed", type=int, default=0, help="of weights, batches and what is spoiled"
    )
    parser.add_argument(
        "--output",
        type=folder,
        default=str(REPOSITORY / "saved_models"),  # as text, so that argparse checks it too
        help="folder for the figure",
    )
    return parser.parse_args(arguments)


def share(text: str) -> float:
    """Reads a number in [0, 1]."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be in [0, 1], received {value}")
    return value


def train(
    name: str, optimizer: Any, share: float, data: Data, options: argparse.Namespace, *used: Any
) -> Run:
    """Trains a new model; all have the same weights at first, and see the same batches."""
    (x, y), test = data
    keras.utils.set_random_seed(options.seed)
    model = make_model(x.shape[1])
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    before = model.evaluate(x, y, verbose=0)[0]
    began = time.perf_counter()
    history = model.fit(
        Batches(x, y, options, share),
        epochs=options.epochs,
        shuffle=False,
        validation_data=(x, y),
        verbose=0,
        callbacks=list(used),
    )
    seconds = time.perf_counter() - began
    said = []
    if getattr(model.optimizer, "skip_nonfinite", False):
        said.append(f"{int(model.optimizer.skipped_updates)} skipped")
    said += [
        f"{guard.left_out} put down to the data, {len(guard.events)} rollbacks" for guard in used
    ]
    losses = [before, *history.history["val_loss"]]
    accuracy = model.evaluate(*test, verbose=0)[1]
    print(f"{name}: loss {losses[-1]:.4f} {', '.join(said)}")
    return Run(name, losses, accuracy, seconds, ", ".join(said))


def print_table(runs: Sequence[Run]) -> None:
    """Prints a row for each run."""
    heads = ["training loss", "of the clean", "test accuracy", "seconds"]
    print(f"\n{'run':<32}" + "".join(f"{head:>15}" for head in heads))
    for run in runs:
        cells = [
            f"{run.losses[-1]:.4f}",
            f"{run.losses[-1] / runs[0].losses[-1]:.3f}",
            f"{run.accuracy:.1%}",
            f"{run.seconds:.1f}",
        ]
        print(f"{run.name:<32}" + "".join(f"{cell:>15}" for cell in cells) + f"   {run.report}")


def draw(runs: Sequence[Run], path: Path) -> None:
    """Draws the losses into a PNG file; a cross where one is no number any more."""
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    # Okabe and Ito's colours. A line with a mark ends in NaN; it may have no length.
    styles: list[dict[str, Any]] = [
        {"color": "0.75", "linewidth": 6},
        {"color": "#d55e00", "linestyle": "--", "marker": "x", "markersize": 14},
        {"color": "#000000", "linestyle": ":", "marker": "+", "markersize": 18},
        {"color": "#cc79a7", "linestyle": "-."},
        {"color": "#0072b2"},
    ]
    for run, style in zip(runs, styles, strict=True):
        finite = [loss for loss in run.losses if np.isfinite(loss)]
        ends, name = len(finite) < len(run.losses), run.name
        if ends:
            name += f": NaN from epoch {len(finite)} on"
        mark = style.pop("marker", "x")
        line = axes.plot(finite, label=name, **{"linewidth": 2, **style})[0]
        if ends:
            line.set(marker=mark, markevery=[len(finite) - 1], markeredgewidth=2, clip_on=False)
    axes.set(xlabel="epoch", ylabel="cross-entropy on the clean images", yscale="log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.set_title("One batch in twenty is spoiled")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> list[Run]:
    """Runs the example; returns the runs, the first on clean batches, the last with all help."""
    options = parse_arguments(arguments)
    data = load_data("digits", options.seed)
    spoiled = Batches(*data[0], options, options.share).spoiled
    kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(spoiled.values()).items())
    print(f"{len(spoiled)} batches are spoiled: {kinds or 'none'}\n")
    guard = callbacks.DivergenceGuard(patience=2, verbose=0)
    sgd = keras.optimizers.SGD(0.01, 0.9, nesterov=True, weight_decay=WEIGHT_DECAY)
    decay: dict[str, Any] = {"weight_decay": WEIGHT_DECAY}
    plans: list[tuple[str, Any, float, list[Any]]] = [
        ("NAGD, clean batches", NAGD(**decay), 0.0, []),
        ("Keras SGD, Nesterov", sgd, options.share, []),
        ("NAGD", NAGD(**decay), options.share, []),
        ("NAGD, skip", NAGD(skip_nonfinite=True, **decay), options.share, []),
        (
            "NAGD, skip and DivergenceGuard",
            NAGD(skip_nonfinite=True, **decay),
            options.share,
            [guard],
        ),
    ]
    runs = [
        train(name, optimizer, part, data, options, *used) for name, optimizer, part, used in plans
    ]
    print_table(runs)
    path = options.output / "digits_robust.png"
    draw(runs, path)
    print(f"\nLosses: {path}")
    return runs


if __name__ == "__main__":
    main()
