"""Short range tests, and models for them."""

from typing import Any

import keras

from nagd_keras.callbacks import find_learning_rate
from tests.support.training import data


def sweep(model: Any, x: Any = None, y: Any = None, **settings: Any) -> Any:
    """Of 30 batches and no output, if nothing else is said."""
    if x is None:
        x, y = data()
    settings = {"verbose": 0, "steps": 30, "min": 1e-4, "max": 1.0, **settings}
    return find_learning_rate(model, x, y, **settings)


def rich_model(optimizer: Any, built: bool = True, **settings: Any) -> Any:
    """With statistics of a normalization, random numbers, metrics and two inputs."""
    keras.utils.set_random_seed(1)
    layers = [
        keras.layers.Dense(6),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(1),
    ]
    model = keras.Sequential([keras.Input((4,)), *layers] if built else layers)
    model.compile(optimizer, "mse", metrics=["mae"], **settings)
    return model


class Breaking(keras.layers.Layer):
    """Gives NaN once it has seen some batches."""

    def build(self, shape: Any) -> None:
        self.count = self.add_weight(shape=(), trainable=False, initializer="zeros")

    def call(self, x: Any) -> Any:
        self.count.assign(self.count + 1)
        return x / keras.ops.cast(self.count < 7, x.dtype)
