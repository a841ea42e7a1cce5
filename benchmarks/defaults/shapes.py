"""A task with shapes and textures in noise, and a residual network."""

import functools

import keras
import numpy as np

from benchmarks.race import shapes
from benchmarks.race.workload import Problem

SIDE, NOISE = 16, 0.3
BLOCKS = (16, 1), (32, 2)


@functools.cache
def residual() -> Problem:
    """Returns eight kinds of shapes and textures, and a residual network."""
    rng = np.random.default_rng(0)
    train, examined = (shapes.images(count, rng, SIDE, NOISE) for count in (3000, 400))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return Problem(lambda: shapes.network(SIDE, BLOCKS), train, examined, {"loss": loss})
