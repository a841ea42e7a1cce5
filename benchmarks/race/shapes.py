"""Generated images of shapes and textures, and residual networks for them."""

import keras
import numpy as np
from keras import layers

from benchmarks.race.workload import Problem

CLASSES = 8
SIDE, NOISE, DECAY = 32, 0.6, 1e-4  # of the race's


def images(
    count: int, rng: np.random.Generator, side: int, noise: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns coloured shapes and textures of any place and size, in noise, and their classes."""
    down, right = np.indices((side, side))[:, None] - rng.uniform(4, side - 4, (2, count, 1, 1))
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
    classes = rng.integers(0, CLASSES, count)
    mask = np.stack(masks)[classes, np.arange(count), :, :, None]
    front, back = rng.uniform(-1, 1, (2, count, 1, 1, 3))
    found = np.where(mask, front, back) + rng.normal(scale=noise, size=(count, side, side, 3))
    return found.astype("float32"), classes


def network(
    side: int, blocks: tuple[tuple[int, int], ...], decay: float = 0.0, **bn
) -> keras.Model:
    """Returns a residual network.

    Args:
        side: of the images.
        blocks: filters and strides of each.
        decay: the L2 penalty of kernels.
        **bn: settings of batch normalization.
    """
    penalty = keras.regularizers.L2(decay) if decay else None

    def convolved(x, filters, size, strides):
        return layers.Conv2D(
            filters, size, strides, padding="same", use_bias=False, kernel_regularizer=penalty
        )(x)

    def block(x, filters, strides):
        y = convolved(x, filters, 3, strides)
        y = layers.ReLU()(layers.BatchNormalization(**bn)(y))
        y = layers.BatchNormalization(**bn)(convolved(y, filters, 3, 1))
        if strides > 1:
            x = convolved(x, filters, 1, strides)
        return layers.ReLU()(layers.Add()([x, y]))

    inputs = keras.Input((side, side, 3))
    x = layers.ReLU()(layers.BatchNormalization(**bn)(convolved(inputs, 16, 3, 2)))
    for filters, strides in blocks:
        x = block(x, filters, strides)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(CLASSES, kernel_regularizer=penalty)(x))


def residual() -> Problem:
    """Returns images that are flipped and moved, and a residual network with an L2 penalty.

    What is judged has no penalty in it.
    """
    rng = np.random.default_rng(0)
    train, examined = (images(count, rng, SIDE, NOISE) for count in (10_000, 1_000))
    blocks = (16, 1), (32, 2), (64, 2)

    def augmented():
        moved = [layers.RandomFlip(), layers.RandomTranslation(0.1, 0.1, "reflect")]
        return keras.Sequential(
            [keras.Input((SIDE, SIDE, 3)), *moved, network(SIDE, blocks, DECAY, momentum=0.9)]
        )

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    metrics = [keras.metrics.SparseCategoricalCrossentropy("cross_entropy", from_logits=True)]
    return Problem(augmented, train, examined, {"loss": loss, "metrics": [*metrics, "accuracy"]})
