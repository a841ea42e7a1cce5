"""The addition problem: a recurrent network that must remember two numbers for a long time."""

from functools import cache
from typing import Any

import keras
import numpy as np
from keras import ops

from benchmarks.sutskever2013.columns import Column, columns
from benchmarks.sutskever2013.curves import Sparse
from benchmarks.sutskever2013.experiment import Experiment
from nagd_keras import schedules

LENGTH, UNITS, BATCH = 80, 100, 100
UPDATES, BEGINNING = 50_000, 1_000
PIECE = 1_000
VARIANCE = 1 / 6  # of the sum of two numbers from [0, 1]: the error of what only has a bias


def sequences(
    count: int, rng: np.random.Generator, length: int = LENGTH
) -> tuple[np.ndarray, np.ndarray]:
    """Returns inputs, (count, length, 2), and the sums, (count, 1), all of mean 0.

    At each time there is a number from [0, 1] and a mark; two of the numbers are marked, one in the
    first tenth and one in what is left of the first half.
    """
    numbers = rng.uniform(size=(count, length))
    marks = np.zeros((count, length))
    first = rng.integers(0, length // 10, count)
    second = rng.integers(length // 10, length // 2, count)
    rows = np.arange(count)
    marks[rows, first] = marks[rows, second] = 1
    sums = numbers[rows, first] + numbers[rows, second] - 1
    inputs = np.stack([numbers - 0.5, marks - 2 / length], axis=-1)
    return inputs.astype("float32"), sums[:, None].astype("float32")


@keras.saving.register_keras_serializable(package="sutskever2013")
class SpectralRadius(keras.initializers.Initializer):
    """Sparse weights, scaled so that the largest eigenvalue has a given absolute value."""

    def __init__(self, radius: float = 1.1, seed: int | None = None) -> None:
        """Takes the absolute value."""
        self.radius, self.seed = radius, seed

    def __call__(self, shape, dtype=None):
        """Returns the weights, a square matrix."""
        weights = ops.convert_to_numpy(Sparse(seed=self.seed)(shape, "float32"))
        largest = np.max(np.abs(np.linalg.eigvals(weights)))
        return ops.convert_to_tensor(weights * self.radius / largest, dtype)

    def get_config(self):
        """Returns the arguments."""
        return {"radius": self.radius, "seed": self.seed}


@keras.saving.register_keras_serializable(package="sutskever2013")
def relative_error(sums, found):
    """The squared error, of that of the best constant."""
    return ops.mean(ops.square(sums - found), axis=-1) / VARIANCE


def network(seed: int, length: int = LENGTH) -> keras.Model:
    """Returns the recurrent network."""
    normal = keras.initializers.RandomNormal
    return keras.Sequential(
        [
            keras.Input((length, 2)),
            keras.layers.SimpleRNN(
                UNITS,
                kernel_initializer=normal(stddev=0.001, seed=4 * seed),
                recurrent_initializer=SpectralRadius(seed=4 * seed + 1),
            ),
            keras.layers.Dense(1, kernel_initializer=normal(stddev=0.1, seed=4 * seed + 2)),
        ]
    )


def model(seed: int) -> tuple[keras.Model, dict[str, Any]]:
    """Returns a network, and what it is compiled with."""
    metric = keras.metrics.MeanMetricWrapper(relative_error, name="error")
    # XLA runs the loop over the times twice as fast.
    settings = {"loss": "mse", "steps_per_execution": 50, "jit_compile": True}
    return network(seed), {**settings, "metrics": [metric]}


def schedule(column: Column, updates: int) -> Any:
    """Returns 0.9 at the beginning, then the column's momentum."""
    beginning = BEGINNING * updates // UPDATES
    return schedules.Piecewise([beginning], [0.9, column.momentum])


@cache
def examined() -> tuple[np.ndarray, np.ndarray]:
    """Returns sequences of which the error is reported."""
    return sequences(10_000, np.random.default_rng(0))


class Batches(keras.utils.PyDataset):
    """New sequences for each batch of a piece."""

    def __init__(self, seed: int, piece: int) -> None:
        """Takes what the sequences depend on."""
        super().__init__()
        self.seed, self.piece = seed, piece

    def __len__(self) -> int:
        """Returns the number of batches."""
        return PIECE

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns a batch."""
        return sequences(BATCH, np.random.default_rng([self.seed, self.piece, index, 1]))


def experiment() -> Experiment:
    """Returns the experiment."""
    return Experiment(
        name="addition",
        columns=columns((0.9, 0.98, 0.995)),
        directed=[],
        rates=(1e-3, 1e-4, 1e-5, 1e-6),
        updates=UPDATES,
        piece=PIECE,
        short=3_000,
        model=model,
        schedule=schedule,
        batches=Batches,
        examined=examined(),
    )
