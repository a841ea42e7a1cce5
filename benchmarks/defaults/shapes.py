"""A task with shapes and textures in noise, and a residual network."""

import functools

import keras
import numpy as np
from keras import layers

from benchmarks.race.workload import Problem

SIDE, NOISE = 16, 0.3


def images(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns coloured shapes and textures of any place and size, in noise, and their classes."""
    down, right = np.indices((SIDE, SIDE))[:, None] - rng.uniform(4, SIDE - 4, (2, count, 1, 1))
    size, phase = rng.uniform(2.5, 5, (count, 1, 1)), np.pi / rng.uniform(2, 4, (count, 1, 1))
    masks = [
        np.hypot(down, right) < size,
        np.maximum(abs(down), abs(right)) < size,
        abs(np.hypot(down, right) - size) < 1,
        np.minimum(abs(down), abs(right)) < 1,
        np.sin(phase * down) > 0,
        np.sin(phase * right) > 0,
        np.sin(phase * down) * np.sin(phase * right) > 0,
        np.sin(phase * (down + right)) > 0,
    ]
    classes = rng.integers(0, len(masks), count)
    mask = np.stack(masks)[classes, np.arange(count), :, :, None]
    front, back = rng.uniform(-1, 1, (2, count, 1, 1, 3))
    found = np.where(mask, front, back) + rng.normal(scale=NOISE, size=(count, SIDE, SIDE, 3))
    return found.astype("float32"), classes


@functools.cache
def residual() -> Problem:
    """Returns eight kinds of shapes and textures, and a residual network."""
    rng = np.random.default_rng(0)
    train, examined = images(3000, rng), images(400, rng)

    def block(x, filters, strides):
        y = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)(x)
        y = layers.ReLU()(layers.BatchNormalization()(y))
        y = layers.Conv2D(filters, 3, padding="same", use_bias=False)(y)
        y = layers.BatchNormalization()(y)
        if strides > 1:
            x = layers.Conv2D(filters, 1, strides, use_bias=False)(x)
        return layers.ReLU()(layers.Add()([x, y]))

    def network():
        inputs = keras.Input((SIDE, SIDE, 3))
        x = layers.Conv2D(16, 3, 2, padding="same", use_bias=False)(inputs)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        for filters, strides in ((16, 1), (32, 2)):
            x = block(x, filters, strides)
        return keras.Model(inputs, layers.Dense(8)(layers.GlobalAveragePooling2D()(x)))

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return Problem(network, train, examined, {"loss": loss})
