"""The Curves autoencoder: images of smooth curves, and the network that learns them."""

from functools import cache
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from benchmarks.sutskever2013.columns import Column, columns, directed
from benchmarks.sutskever2013.experiment import Experiment
from nagd_keras import schedules

SIDE, COUNT, BATCH = 28, 20_000, 200
ENCODER = (400, 200, 100, 50, 25, 6)
INCOMING = 15  # weights of a unit that are not zero at first
MARGIN, THICKNESS = 4.0, 1.0  # of a curve, in pixels
UPDATES, PERIOD, DROP = 75_000, 250, 1_000
PIECE = 1_000  # updates, which are ten passes through all images
SAMPLES = 48  # points of a curve; the longest has them 2 pixels apart, and is dimmer between them


def images(count: int = COUNT, seed: int = 0) -> np.ndarray:
    """Returns images, (count, 784) in [0, 1], each of a parabola through three random points.

    The brightness of a pixel falls from 1 to 0 within one pixel beyond half the thickness, which
    smooths the edge.
    """
    rng = np.random.default_rng(seed)
    axis = np.arange(SIDE, dtype="float32")
    found = np.empty((count, SIDE, SIDE), "float32")
    t = np.linspace(0, 1, SAMPLES, dtype="float32")
    # Lagrange's polynomials for t = 0, 1/2 and 1.
    through = np.stack([(2 * t - 1) * (t - 1), 4 * t * (1 - t), t * (2 * t - 1)])
    for begin in range(0, count, 500):
        size = min(500, count - begin)
        corners = rng.uniform(MARGIN, SIDE - 1 - MARGIN, (size, 2, 3)).astype("float32")
        x, y = np.moveaxis(corners @ through, 1, 0)  # (size, SAMPLES) each
        # Squared distances along an axis, of every sample from every column, and row.
        columns = np.square(x[:, :, None] - axis)
        rows = np.square(y[:, :, None] - axis)
        nearest = np.full((size, SIDE, SIDE), np.inf, "float32")
        for i in range(SAMPLES):
            np.minimum(nearest, rows[:, i, :, None] + columns[:, i, None, :], out=nearest)
        distance = np.sqrt(nearest)
        found[begin : begin + size] = np.clip(THICKNESS / 2 + 1 - distance, 0, 1)
    return found.reshape(count, -1)


@keras.saving.register_keras_serializable(package="sutskever2013")
class Sparse(keras.initializers.Initializer):
    """Gives each unit some incoming weights that are N(0, 1), and zeros (Martens 2010)."""

    def __init__(self, incoming: int = INCOMING, seed: int | None = None) -> None:
        """Takes how many are not zero, or all if a unit has no more."""
        self.incoming, self.seed = incoming, seed

    def __call__(self, shape, dtype=None):
        """Returns the weights, one column for each unit."""
        rng = np.random.default_rng(self.seed)
        inputs, units = shape
        chosen = min(self.incoming, inputs)
        weights = np.zeros(shape)
        for unit in range(units):
            rows = rng.choice(inputs, chosen, replace=False)
            weights[rows, unit] = rng.normal(size=chosen)
        return ops.convert_to_tensor(weights, dtype or keras.config.floatx())

    def get_config(self):
        """Returns the arguments."""
        return {"incoming": self.incoming, "seed": self.seed}


def network(seed: int, encoder: tuple[int, ...] = ENCODER) -> keras.Model:
    """Returns the autoencoder: sigmoid units around a linear code, and logits of the pixels."""
    widths = [*encoder, *encoder[-2::-1], SIDE * SIDE]
    layers = [
        keras.layers.Dense(
            width,
            activation=None if width in (encoder[-1], SIDE * SIDE) else "sigmoid",
            kernel_initializer=Sparse(seed=1000 * seed + i),
        )
        for i, width in enumerate(widths)
    ]
    return keras.Sequential([keras.Input((SIDE * SIDE,)), *layers])


@keras.saving.register_keras_serializable(package="sutskever2013")
def cross_entropy(pixels, logits):
    """The loss of each image: the sum over its pixels."""
    return ops.sum(ops.binary_crossentropy(pixels, logits, from_logits=True), axis=-1)


@keras.saving.register_keras_serializable(package="sutskever2013")
def squared_error(pixels, logits):
    """What is reported of each image: the sum over its pixels."""
    return ops.sum(ops.square(pixels - ops.sigmoid(logits)), axis=-1)


def model(seed: int) -> tuple[keras.Model, dict[str, Any]]:
    """Returns a network, and what it is compiled with."""
    settings = {"loss": cross_entropy, "steps_per_execution": 50, "jit_compile": False}
    metric = keras.metrics.MeanMetricWrapper(squared_error, name="error")
    return network(seed), {**settings, "metrics": [metric]}


def schedule(column: Column, updates: int) -> Any:
    """Returns the paper's momentum; a run of fewer updates goes through the same in its time.

    The last updates have at most 0.9, which lets the error of the noise settle.
    """
    rising = schedules.SutskeverMomentum(column.momentum, max(1, PERIOD * updates // UPDATES))
    drop = min(DROP, updates // 10)
    return schedules.Piecewise([updates - drop], [rising, min(0.9, column.momentum)])


@cache
def data() -> np.ndarray:
    """Returns the images, the same for all runs."""
    return images()


def batches(seed: int, piece: int) -> Any:
    """Returns the batches of a piece: passes through all images, each in an order of its own."""
    rng = np.random.default_rng([seed, piece])
    passes = PIECE * BATCH // COUNT
    order = np.concatenate([rng.permutation(COUNT) for _ in range(passes)])
    x = tf.constant(data())
    rows = tf.data.Dataset.from_tensor_slices(order.reshape(-1, BATCH))
    return rows.map(lambda row: (tf.gather(x, row),) * 2).prefetch(8)


def experiment() -> Experiment:
    """Returns the experiment."""
    return Experiment(
        name="curves",
        columns=columns((0.9, 0.99, 0.995, 0.999)),
        directed=directed((0.9,)),
        rates=(0.05, 0.01, 0.005, 0.001, 0.0005, 0.0001),
        updates=UPDATES,
        piece=PIECE,
        short=3_000,
        model=model,
        schedule=schedule,
        batches=batches,
        examined=(data(), data()),
    )
