"""Tasks with images: digits, and a photograph."""

import functools
from typing import Any

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits, load_sample_image
from sklearn.model_selection import train_test_split

from benchmarks.race.workload import Problem

BLOCK, ROWS, COLUMNS = 7, 60, 90  # A mean of 7 times 7 pixels is one.
WAVES, FREQUENCY = 64, 3.0
CLASSES = {"loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True)}


@functools.cache
def split(train_size: int) -> tuple[Any, Any]:
    """Returns digits of 64 pixels in [0, 1] and their classes, to train and to validate with."""
    x, y = load_digits(return_X_y=True)
    x = x.astype("float32") / 16
    parts = train_test_split(x, y, train_size=train_size, random_state=0, stratify=y)
    return tuple(parts[::2]), tuple(parts[1::2])


@functools.cache
def digits_cnn() -> Problem:
    """Returns three quarters of the digits, and a convolutional network with dropout."""

    def network():
        return keras.Sequential(
            [
                keras.Input((64,)),
                layers.Reshape((8, 8, 1)),
                layers.Conv2D(16, 3, padding="same", activation="relu"),
                layers.MaxPooling2D(),
                layers.Conv2D(32, 3, padding="same", activation="relu"),
                layers.MaxPooling2D(),
                layers.Flatten(),
                layers.Dropout(0.3),
                layers.Dense(10),
            ]
        )

    return Problem(network, *split(1347), CLASSES)


@functools.cache
def digits_few() -> Problem:
    """Returns 200 digits, and a perceptron."""

    def network():
        hidden = [layers.Dense(64, "relu") for _ in range(2)]
        return keras.Sequential([keras.Input((64,)), *hidden, layers.Dense(10)])

    return Problem(network, *split(200), CLASSES)


@functools.cache
def denoising() -> Problem:
    """Returns digits with noise, and an autoencoder that is to take it away."""
    rng = np.random.default_rng(0)
    clean = [x for x, _ in split(1347)]
    train, examined = (
        ((x + rng.normal(scale=0.3, size=x.shape)).astype("float32"), x) for x in clean
    )

    def network():
        hidden = [layers.Dense(units, "relu") for units in (48, 16, 48)]
        return keras.Sequential([keras.Input((64,)), *hidden, layers.Dense(64, "sigmoid")])

    return Problem(network, train, examined, {"loss": "mse"})


@functools.cache
def photograph() -> Problem:
    """Returns half of a photograph's pixels, and a perceptron on Fourier features of their places.

    The other half is validated on. The features are those of Tancik et al. (2020), section 4.
    """
    rng = np.random.default_rng(0)
    image = load_sample_image("china.jpg")[: BLOCK * ROWS, : BLOCK * COLUMNS] / 255
    y = image.reshape(ROWS, BLOCK, COLUMNS, BLOCK, 3).mean((1, 3)).reshape(-1, 3).astype("float32")
    places = np.indices((ROWS, COLUMNS)).reshape(2, -1).T / ROWS
    phases = 2 * np.pi * places @ rng.normal(scale=FREQUENCY, size=(2, WAVES))
    x = np.concatenate([np.sin(phases), np.cos(phases)], axis=1).astype("float32")
    order = rng.permutation(len(x))
    train, examined = ((x[rows], y[rows]) for rows in np.array_split(order, 2))

    def network():
        hidden = [layers.Dense(64, "relu") for _ in range(2)]
        return keras.Sequential([keras.Input((2 * WAVES,)), *hidden, layers.Dense(3)])

    return Problem(network, train, examined, {"loss": "mse"})
