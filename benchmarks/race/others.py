"""Workloads with tables, sequences, clicks and text."""

import random
import sysconfig
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops
from sklearn.datasets import load_breast_cancer

from benchmarks.race.workload import Problem
from benchmarks.sutskever2013 import addition

LENGTH = 30  # of the sequences to be added
USERS, ITEMS, CLICKS = 2_000, 5_000, 120_000
CONTEXT, WIDTH, HEADS, BLOCKS = 64, 64, 4, 2
TEXT = "argparse", "ast", "dataclasses", "datetime", "inspect", "shutil", "statistics", "typing"


def logistic() -> Problem:
    """Returns the breast-cancer data, and logistic regression with an L2 penalty."""
    x, y = load_breast_cancer(return_X_y=True)
    x = ((x - x.mean(0)) / x.std(0)).astype("float32")
    penalty = keras.regularizers.L2(1e-7)

    def network():
        dense = layers.Dense(1, kernel_regularizer=penalty)
        return keras.Sequential([keras.Input((x.shape[1],)), dense])

    data = x, y[:, None].astype("float32")
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    accuracy = keras.metrics.BinaryAccuracy(threshold=0.0, name="accuracy")
    return Problem(network, data, data, {"loss": loss, "metrics": [accuracy]})


def sums() -> Problem:
    """Returns the addition problem with shorter sequences, and a recurrent network."""
    rng = np.random.default_rng(0)
    train, examined = (addition.sequences(n, rng, LENGTH) for n in (40_000, 2_000))

    def network():
        seed = random.randrange(1000)
        return addition.network(seed, LENGTH)

    return Problem(network, train, examined, {"loss": "mse"})


def recommender() -> Problem:
    """Returns clicks of users on items whose popularity is Zipf's, and a matrix factorization."""
    rng = np.random.default_rng(0)
    popularity = 1 / np.arange(1, ITEMS + 1)
    users = rng.integers(0, USERS, CLICKS)
    items = rng.choice(ITEMS, CLICKS, p=popularity / popularity.sum())
    tastes, kinds = rng.normal(size=(USERS, 8)), rng.normal(size=(ITEMS, 8))
    likes = np.sum(tastes[users] * kinds[items], axis=1) / np.sqrt(2)
    clicked = rng.uniform(size=CLICKS) < 1 / (1 + np.exp(-likes))
    data = users.astype("int32"), items.astype("int32"), clicked[:, None].astype("float32")
    held = CLICKS // 10

    def network():
        inputs = [keras.Input((), dtype="int32") for _ in range(2)]
        pairs = list(zip(inputs, (USERS, ITEMS), strict=True))
        vectors = [layers.Embedding(n, 16)(x) for x, n in pairs]
        biases = [layers.Embedding(n, 1, embeddings_initializer="zeros")(x) for x, n in pairs]
        found = layers.Dot(axes=1)(vectors)
        return keras.Model(inputs, layers.Add()([found, *biases]))

    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    accuracy = keras.metrics.BinaryAccuracy(threshold=0.0, name="accuracy")
    train, examined = (tuple(a[part] for a in data) for part in (slice(held, None), slice(held)))
    return Problem(network, train, examined, {"loss": loss, "metrics": [accuracy]})


class Positions(layers.Layer):
    """Adds a learned vector for each position."""

    def build(self, shape):
        """Makes the vectors."""
        self.table = self.add_weight(shape=shape[-2:], initializer="uniform")

    def call(self, x):
        """Returns the sums."""
        return x + self.table


def text() -> Problem:
    """Returns the text of Python's own standard library, and a small transformer."""
    folder = Path(sysconfig.get_path("stdlib"))
    joined = "\n".join((folder / f"{name}.py").read_text() for name in TEXT)
    codes = np.frombuffer(joined.encode("ascii", "replace"), "uint8")
    found, tokens = np.unique(codes, return_inverse=True)
    tokens = tokens[: len(tokens) // (CONTEXT + 1) * (CONTEXT + 1)].reshape(-1, CONTEXT + 1)
    tokens = np.random.default_rng(0).permutation(tokens).astype("int32")
    held = len(tokens) // 10

    def network():
        inputs = keras.Input((CONTEXT,), dtype="int32")
        x = Positions()(layers.Embedding(len(found), WIDTH)(inputs))
        for _ in range(BLOCKS):
            normal = layers.LayerNormalization()(x)
            attention = layers.MultiHeadAttention(HEADS, WIDTH // HEADS)
            x = x + attention(normal, normal, use_causal_mask=True)
            hidden = layers.Dense(4 * WIDTH, "gelu")(layers.LayerNormalization()(x))
            x = x + layers.Dense(WIDTH)(hidden)
        return keras.Model(inputs, layers.Dense(len(found))(layers.LayerNormalization()(x)))

    def accuracy(wanted, logits):
        return ops.equal(ops.cast(wanted, "int32"), ops.argmax(logits, axis=-1))

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    metric = keras.metrics.MeanMetricWrapper(accuracy, name="accuracy")
    train, examined = (
        (part[:, :-1], part[:, 1:]) for part in (tokens[held:], tokens[: min(held, 128)])
    )
    return Problem(network, train, examined, {"loss": loss, "metrics": [metric]})
