"""Generated tables with numbers and categories."""

import keras
import numpy as np
from keras import layers

from benchmarks.race.workload import Problem

CATEGORIES = 7, 40, 200, 1000  # of each column


def categories(count: int) -> Problem:
    """Returns numbers and categories, often and seldom seen, and embeddings of the latter.

    A fifth of the rows is held back.
    """
    rng = np.random.default_rng(0)
    often = [1 / np.arange(1, n + 1) for n in CATEGORIES]
    columns = [rng.choice(len(p), count, p=p / p.sum()) for p in often]
    numbers = rng.normal(size=(count, 6))
    effects = [rng.normal(size=n)[c] for n, c in zip(CATEGORIES, columns, strict=True)]
    slopes = rng.normal(size=(CATEGORIES[0], 6))[columns[0]]  # They depend on the first column.
    score = sum(effects) + effects[1] * effects[2] + np.sum(slopes * np.tanh(numbers), axis=1)
    y = rng.uniform(size=count) < 1 / (1 + np.exp(-score))
    data = [*(c.astype("int32") for c in columns), numbers.astype("float32"), y[:, None] + 0.0]

    def network():
        inputs = [keras.Input((), dtype="int32") for _ in CATEGORIES]
        pairs = zip(CATEGORIES, inputs, strict=True)
        vectors = [layers.Embedding(n, min(16, n // 2 + 1))(x) for n, x in pairs]
        inputs.append(keras.Input((6,)))
        x = layers.Concatenate()([*vectors, inputs[-1]])
        for units in (64, 32):
            x = layers.Dense(units, "relu")(x)
        return keras.Model(inputs, layers.Dense(1)(x))

    held = count // 5
    train, examined = (tuple(a[rows] for a in data) for rows in (slice(held, None), slice(held)))
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    return Problem(network, train, examined, {"loss": loss})


def table() -> Problem:
    """Returns 80,000 rows to train with, and 20,000 to be examined."""
    accuracy = keras.metrics.BinaryAccuracy(threshold=0.0, name="accuracy")
    found = categories(100_000)
    return found._replace(settings={**found.settings, "metrics": [accuracy]})
