"""Trains a small network on handwritten digits with three optimizers, and goes on from a file.

Plain gradient descent, Keras' SGD with Nesterov momentum, and NAGD along the orthogonal direction
start from the same weights, see the same batches and have the same constant learning rate. The NAGD
model is then saved, loaded, compared with the one in memory to the last bit, and trained on.

    python examples/digits.py --help
"""

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import matplotlib
import numpy as np

from nagd_keras import NAGD, saving

matplotlib.use("Agg")  # Figures go to files; no display is needed.
import matplotlib.pyplot as plt
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

Data = tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
REPOSITORY = Path(__file__).resolve().parent.parent
# Okabe and Ito's orange, green and blue, which the colour-blind can tell apart.
STYLES = [("o", "#e69f00"), ("s", "#009e73"), ("^", "#0072b2")]


@dataclass(frozen=True)
class Result:
    """How one optimizer trained."""

    name: str
    model: Any
    loss: list[float]
    accuracy: float
    seconds: float

    def epochs_to(self, loss: float) -> int | None:
        """Returns the first epoch whose training loss is at most `loss`, or None."""
        return next((epoch for epoch, x in enumerate(self.loss, 1) if x <= loss), None)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0] if __doc__ else None,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--epochs", type=positive, default=10, help="epochs of each run")
    parser.add_argument("--batch-size", type=positive, default=32, help="images in a batch")
    parser.add_argument("--learning-rate", type=rate, default=0.01, help="of all optimizers")
    parser.add_argument("--momentum", type=momentum, default=0.9, help="of Keras' SGD and of NAGD")
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches")
    parser.add_argument(
        "--output",
        type=folder,
        default=str(REPOSITORY / "saved_models"),  # as text, so that argparse checks it too
        help="folder for the model and the figure",
    )
    parser.add_argument(
        "--dataset",
        choices=["digits", "mnist"],
        default="digits",
        help="digits: 1,797 images of 8 x 8 that scikit-learn brings; mnist: 70,000 of 28 x 28, "
        "which Keras downloads",
    )
    parser.add_argument(
        "--verbose",
        type=int,
        choices=[0, 1, 2],
        default=0,
        help="what `fit` shows: 0 nothing, 1 a bar for each epoch, 2 a line",
    )
    return parser.parse_args(arguments)


def positive(text: str) -> int:
    """Reads an integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, received {value}")
    return value


def rate(text: str) -> float:
    """Reads a finite number of at least 0."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be finite and at least 0, received {value}")
    return value


def momentum(text: str) -> float:
    """Reads a number in [0, 1)."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be in [0, 1), received {value}")
    return value


def folder(text: str) -> Path:
    """Makes a folder where there is none, and tries to write into it."""
    path = Path(text)
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot write into the folder {path}: {error}") from error
    return path


def load_data(name: str, seed: int) -> Data:
    """Returns ((images, labels) to train on, (images, labels) to test on), pixels in [0, 1]."""
    if name == "mnist":
        try:
            (x, y), (x_test, y_test) = keras.datasets.mnist.load_data()
        except Exception as error:  # Keras raises no narrower class for a failed download.
            raise SystemExit(
                f"MNIST could not be downloaded ({error}). It needs a network the first time; "
                "--dataset digits needs none."
            ) from error
        return (flat(x, 255), y), (flat(x_test, 255), y_test)

    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.2, random_state=seed, stratify=y)
    return (flat(x, 16), y), (flat(x_test, 16), y_test)


def flat(images: np.ndarray, largest: int) -> np.ndarray:
    """Returns a row of floats in [0, 1] for each image."""
    return np.asarray(images.reshape(len(images), -1) / largest, "float32")


def make_model(pixels: int) -> Any:
    """Returns a network of two hidden layers."""
    return keras.Sequential(
        [
            keras.Input((pixels,)),
            keras.layers.Dense(64, activation="tanh"),
            keras.layers.Dense(32, activation="tanh"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


def make_optimizers(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the three contestants."""
    rate, momentum = options.learning_rate, options.momentum
    return {
        "gradient descent": keras.optimizers.SGD(rate),
        "Keras SGD, Nesterov": keras.optimizers.SGD(rate, momentum, nesterov=True),
        "NAGD, orthogonal": NAGD(rate, momentum, direction="orthogonal"),
    }


def train(name: str, optimizer: Any, data: Data, options: argparse.Namespace) -> Result:
    """Trains a new model; the seed gives every optimizer the same weights and batches."""
    print(f"Training with {name} ...", flush=True)
    (x, y), test = data
    keras.utils.set_random_seed(options.seed)
    model = make_model(x.shape[1])
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    began = time.perf_counter()
    history = model.fit(
        x, y, options.batch_size, options.epochs, validation_data=test, verbose=options.verbose
    )
    seconds = time.perf_counter() - began
    return Result(
        name, model, history.history["loss"], history.history["val_accuracy"][-1], seconds
    )


def print_table(results: list[Result], target: float) -> None:
    """Prints a row for each optimizer."""
    print(f"\nEpochs: until the training loss was at most {target:.4f}")
    heads = ["training loss", "test accuracy", "epochs", "seconds"]
    print(f"{'optimizer':<22}" + "".join(f"{head:>14}" for head in heads))
    for result in results:
        cells = [
            f"{result.loss[-1]:.4f}",
            f"{result.accuracy:.1%}",
            str(result.epochs_to(target) or "not reached"),
            f"{result.seconds:.1f}",
        ]
        print(f"{result.name:<22}" + "".join(f"{cell:>14}" for cell in cells))


def draw(results: list[Result], target: float, path: Path) -> None:
    """Draws the loss curves into a PNG file."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for result, (marker, colour) in zip(results, STYLES, strict=True):
        epochs = range(1, len(result.loss) + 1)
        axes.plot(epochs, result.loss, f"{marker}-", color=colour, label=result.name)
    axes.axhline(target, color="grey", linestyle=":", label="gradient descent, last epoch")
    axes.set(xlabel="epoch", ylabel="training loss (cross-entropy)", yscale="log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set_title("The same network, weights, batches and learning rate")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def check_identical(loaded: Any, model: Any) -> int:
    """Compares all variables of two models and of their optimizers; returns how many there are."""
    pairs = list(
        zip(
            [*loaded.variables, *loaded.optimizer.variables],
            [*model.variables, *model.optimizer.variables],
            strict=True,
        )
    )
    for a, b in pairs:
        if a.numpy().tobytes() != b.numpy().tobytes():
            raise SystemExit(f"{b.path} was {b.numpy()} and is {a.numpy()} after loading")
    return len(pairs)


def main(arguments: list[str] | None = None) -> list[Result]:
    """Runs the example; returns the results, the last of them NAGD's."""
    options = parse_arguments(arguments)
    data = load_data(options.dataset, options.seed)
    optimizers = make_optimizers(options)
    results = [train(name, optimizer, data, options) for name, optimizer in optimizers.items()]
    target = results[0].loss[-1]
    print_table(results, target)
    figure = options.output / f"{options.dataset}.png"
    draw(results, target, figure)
    print(f"\nLoss curves: {figure}")

    path = options.output / f"{options.dataset}.keras"
    saving.save_model(results[-1].model, path)  # whole, or not at all
    loaded = saving.load_model(path)
    count = check_identical(loaded, results[-1].model)
    print(f"Model: {path} ({path.stat().st_size / 1024:.0f} KB), loaded again: {count} variables")
    print(f"of model and optimizer are identical to the bit, age {int(loaded.optimizer.age)}.")
    history = loaded.fit(
        *data[0],
        options.batch_size,
        initial_epoch=options.epochs,
        epochs=options.epochs + 1,
        validation_data=data[1],
        verbose=options.verbose,
    ).history
    print(
        f"Trained on from the file, epoch {options.epochs + 1}: training loss "
        f"{history['loss'][0]:.4f}, test accuracy {history['val_accuracy'][0]:.1%}"
    )
    return results


if __name__ == "__main__":
    main()
