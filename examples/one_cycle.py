"""Finds a learning rate, and trains the digits network with it and with one cycle up to it.

The range test trains with a rising learning rate and suggests one. NAGD then trains three times
from the same weights: with its default learning rate and with the suggested one, both constant,
and with one cycle whose peak is the suggested one. A figure shows the sweep, the cycle and the
losses.

    python examples/one_cycle.py --help
"""

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
from digits import REPOSITORY, STYLES, Data, folder, load_data, make_model, positive

from nagd_keras import NAGD, callbacks

import matplotlib.pyplot as plt  # isort: skip  (digits.py has chosen the backend)
from matplotlib.ticker import StrMethodFormatter  # isort: skip


@dataclass(frozen=True)
class Run:
    """How one training run went."""

    name: str
    history: dict[str, list[float]]
    seconds: float
    cycle: "Values | None" = field(default=None, repr=False)


class Values(keras.callbacks.Callback):
    """Notes the learning rate of each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.learning_rates: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Reads the optimizer."""
        self.learning_rates.append(float(self.model.optimizer.learning_rate))


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0] if __doc__ else None,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--epochs", type=positive, default=30, help="epochs of each run")
    parser.add_argument("--batch-size", type=positive, default=32, help="images in a batch")
    parser.add_argument(
        "--suggestion",
        choices=["suggested", "steepest", "minimum", "valley"],
        default="suggested",
        help="which of the range test's suggestions is taken",
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches")
    parser.add_argument(
        "--output",
        type=folder,
        default=str(REPOSITORY / "saved_models"),  # as text, so that argparse checks it too
        help="folder for the figure",
    )
    return parser.parse_args(arguments)


def compiled_model(options: argparse.Namespace, pixels: int, learning_rate: float = 0.01) -> Any:
    """Returns the network with the same weights every time."""
    keras.utils.set_random_seed(options.seed)
    model = make_model(pixels)
    model.compile(
        optimizer=NAGD(learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def train(name: str, model: Any, data: Data, options: argparse.Namespace, *used: Any) -> Run:
    """Trains a model; all see the same batches, epoch by epoch."""
    (x, y), test = data
    began = time.perf_counter()
    history = model.fit(
        x,
        y,
        options.batch_size,
        options.epochs,
        validation_data=test,
        verbose=0,
        callbacks=list(used),
    )
    cycle = next((each for each in used if isinstance(each, Values)), None)
    return Run(name, history.history, time.perf_counter() - began, cycle)


def print_table(runs: list[Run]) -> None:
    """Prints a row for each run."""
    heads = ["epochs", "training loss", "test loss", "test accuracy", "seconds"]
    print(f"\n{'NAGD':<26}" + "".join(f"{head:>14}" for head in heads))
    for run in runs:
        cells = [
            str(len(run.history["loss"])),
            f"{run.history['loss'][-1]:.4f}",
            f"{run.history['val_loss'][-1]:.4f}",
            f"{run.history['val_accuracy'][-1]:.1%}",
            f"{run.seconds:.1f}",
        ]
        print(f"{run.name:<26}" + "".join(f"{cell:>14}" for cell in cells))


def draw(sweep: callbacks.LearningRateSweep, runs: list[Run], path: Path) -> None:
    """Draws the sweep, the cycle and the losses into a PNG file."""
    figure = plt.figure(figsize=(9, 7.5), layout="constrained")
    axes = figure.subplot_mosaic([["sweep", "cycle"], ["losses", "losses"]])
    left, right, below = (axes[name] for name in ("sweep", "cycle", "losses"))
    sweep.plot(ax=left)
    left.legend(fontsize="small")
    left.set_title("The range test finds a learning rate")

    cycle = runs[-1].cycle
    assert cycle is not None
    right.plot(cycle.learning_rates, STYLES[-1][1])
    right.set(xlabel="batch", ylabel="learning rate", title="One cycle goes up to it, and down")
    right.grid(alpha=0.3)

    for run, (marker, colour) in zip(runs, STYLES, strict=True):
        epochs = range(1, len(run.history["loss"]) + 1)
        below.plot(epochs, run.history["loss"], ":", color=colour)
        below.plot(epochs, run.history["val_loss"], color=colour, marker=marker, label=run.name)
    below.plot([], [], ":", color="grey", label="dotted: their training losses")
    below.set(xlabel="epoch", ylabel="cross-entropy", yscale="log", title="Test losses")
    below.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    below.grid(alpha=0.3)
    below.legend()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> list[Run]:
    """Runs the example; returns the runs, the last of them the cycle's."""
    options = parse_arguments(arguments)
    data = load_data("digits", options.seed)
    (x, y), _ = data

    print("The range test:")
    sweep = callbacks.find_learning_rate(
        compiled_model(options, x.shape[1]),
        x,
        y,
        min=1e-5,
        steps=150,
        batch_size=options.batch_size,
    )
    rates = {"suggested": sweep.suggested, **sweep.suggestions}
    for name, rate in rates.items():
        print(f"  {name + ':':<10}{rate:.3g}")
    found = rates[options.suggestion]

    plans: list[tuple[str, float, list[Any]]] = [
        ("constant 0.01", 0.01, []),
        (f"constant {found:.3g}", found, []),
        (f"one cycle to {found:.3g}", 0.01, [callbacks.OneCycle(found), Values()]),
    ]
    runs = [
        train(name, compiled_model(options, x.shape[1], rate), data, options, *used)
        for name, rate, used in plans
    ]
    print_table(runs)
    path = options.output / "digits_one_cycle.png"
    draw(sweep, runs, path)
    print(f"\nSweep, cycle and losses: {path}")
    return runs


if __name__ == "__main__":
    main()
