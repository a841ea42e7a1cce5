"""Workloads with images: digits, curves, and one photograph."""

import random

import keras
import numpy as np
from keras import layers, ops
from sklearn.datasets import load_digits, load_sample_image
from sklearn.model_selection import train_test_split

from benchmarks.race.workload import Problem
from benchmarks.sutskever2013 import curves

SIDE, FREQUENCY = 96, 30.0


def digits() -> Problem:
    """Returns scikit-learn's digits, and a convolutional network with batch normalization."""
    x, y = load_digits(return_X_y=True)
    x = x.reshape(-1, 8, 8, 1).astype("float32") / 16
    parts = train_test_split(x, y, test_size=0.25, random_state=0, stratify=y)
    train, examined = parts[::2], parts[1::2]

    def network():
        found = keras.Sequential([keras.Input((8, 8, 1))])
        for filters, strides in ((16, 1), (32, 2)):
            found.add(layers.Conv2D(filters, 3, strides, padding="same", use_bias=False))
            found.add(layers.BatchNormalization(momentum=0.9))  # There are few updates.
            found.add(layers.ReLU())
        found.add(layers.GlobalAveragePooling2D())
        found.add(layers.Dense(10))
        return found

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return Problem(network, train, examined, {"loss": loss, "metrics": ["accuracy"]})


def autoencoder() -> Problem:
    """Returns images of curves, and the autoencoder of Sutskever et al. without its widest layers.

    With them an update of Muon takes ten times that of the others.
    """
    x = curves.images(10_000)
    metric = keras.metrics.MeanMetricWrapper(curves.squared_error, name="squared_error")
    settings = {"loss": curves.cross_entropy, "metrics": [metric]}
    return Problem(
        lambda: curves.network(random.randrange(1000), curves.ENCODER[1:]),
        (x, x),
        (x[:2000], x[:2000]),
        settings,
    )


class Sine(layers.Layer):
    """A dense layer of sines with the initialization of Sitzmann et al. (2020), section 3.2."""

    def __init__(self, units: int, first: bool, **settings) -> None:
        """Takes the number of units, and whether the coordinates come in here."""
        super().__init__(**settings)
        self.units, self.first = units, first

    def build(self, shape):
        """Makes the weights."""
        limit = 1 / shape[-1] if self.first else np.sqrt(6 / shape[-1]) / FREQUENCY
        uniform = keras.initializers.RandomUniform(-limit, limit)
        self.kernel = self.add_weight(shape=(shape[-1], self.units), initializer=uniform)
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros")

    def call(self, x):
        """Returns the sines."""
        return ops.sin(FREQUENCY * (x @ self.kernel + self.bias))


def photograph() -> Problem:
    """Returns the pixels of a photograph by their coordinates, and a SIREN."""
    image = load_sample_image("china.jpg").astype("float32") / 127.5 - 1
    image = image[:420, 110:530]  # a square, of whose pixels each mean is one
    rows = np.linspace(0, 420, SIDE + 1).astype(int)
    means = np.add.reduceat(np.add.reduceat(image, rows[:-1], axis=0), rows[:-1], axis=1)
    sizes = np.diff(rows)
    y = (means / (sizes[:, None, None] * sizes[None, :, None])).reshape(-1, 3).astype("float32")
    axis = np.linspace(-1, 1, SIDE, dtype="float32")
    x = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)

    def network():
        sines = [Sine(64, first=i == 0) for i in range(3)]
        return keras.Sequential([keras.Input((2,)), *sines, layers.Dense(3)])

    return Problem(network, (x, y), (x, y), {"loss": "mse"})
