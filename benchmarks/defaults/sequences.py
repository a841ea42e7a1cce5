"""Tasks with sequences: waves, characters, words, and rows of images."""

import functools
import sysconfig
from pathlib import Path

import keras
import numpy as np
from keras import layers

from benchmarks.defaults import images
from benchmarks.race.others import Positions
from benchmarks.race.workload import Problem

LENGTH, AHEAD = 20, 4  # of waves: what is seen, and how far ahead the wanted value is
TEXT = "argparse", "dataclasses", "inspect", "shutil", "statistics", "textwrap", "typing"
CONTEXT = 32  # characters
WORDS, TOPICS, LONGEST = 4000, 12, 60  # of documents
WIDTH, HEADS, BLOCKS = 32, 2, 1  # of the transformer


@functools.cache
def waves() -> Problem:
    """Returns sums of two waves with noise, and a GRU that says how they go on."""
    rng, count = np.random.default_rng(0), 2000
    time = np.arange(LENGTH + AHEAD)
    period, phase = rng.uniform(6, 30, (2, count, 1)), rng.uniform(0, 2 * np.pi, (2, count, 1))
    size = rng.uniform(0.3, 1, (2, count, 1))
    x = np.sum(size * np.sin(2 * np.pi * time / period + phase), axis=0)
    seen = x + rng.normal(scale=0.1, size=x.shape)
    data = seen[:, :LENGTH, None].astype("float32"), x[:, -1:].astype("float32")

    def network():
        return keras.Sequential([keras.Input((LENGTH, 1)), layers.GRU(24), layers.Dense(1)])

    train, examined = (tuple(a[rows] for a in data) for rows in (slice(1600), slice(1600, None)))
    return Problem(network, train, examined, {"loss": "mse"})


@functools.cache
def characters() -> Problem:
    """Returns text of Python's own standard library, and causal convolutions."""
    folder = Path(sysconfig.get_path("stdlib"))
    joined = "\n".join((folder / f"{name}.py").read_text("utf-8") for name in TEXT)
    codes = np.frombuffer(joined.encode("ascii", "replace"), "uint8").astype("int32")
    windows = codes[: len(codes) // (CONTEXT + 1) * (CONTEXT + 1)].reshape(-1, CONTEXT + 1)
    windows = np.random.default_rng(0).permutation(np.unique(windows, axis=0))

    def network():
        found = keras.Sequential([keras.Input((CONTEXT,), dtype="int32")])
        found.add(layers.Embedding(128, 32))
        for _ in range(2):
            found.add(layers.Conv1D(64, 4, padding="causal", activation="relu"))
        found.add(layers.Dense(128))
        return found

    train, examined = ((w[:, :-1], w[:, 1:]) for w in (windows[:3200], windows[3200:3700]))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return Problem(network, train, examined, {"loss": loss})


@functools.cache
def bag() -> Problem:
    """Returns documents, whose words are Zipf's and tell of a topic, and a bag of embeddings."""
    rng, count = np.random.default_rng(0), 4000
    often = 1 / np.arange(1, WORDS)  # Word 0 is none.
    told = often * np.exp(rng.normal(size=(TOPICS, WORDS - 1)))
    topics = rng.integers(0, TOPICS, count)
    x = np.zeros((count, LONGEST), "int32")
    for row, topic in zip(x, topics, strict=True):
        length = rng.integers(LONGEST // 3, LONGEST + 1)
        row[:length] = 1 + rng.choice(WORDS - 1, length, p=told[topic] / told[topic].sum())

    def network():
        return keras.Sequential(
            [
                keras.Input((LONGEST,), dtype="int32"),
                layers.Embedding(WORDS, 32, mask_zero=True),
                layers.GlobalAveragePooling1D(),
                layers.Dense(32, "relu"),
                layers.Dense(TOPICS),
            ]
        )

    data = x, topics
    train, examined = (tuple(a[rows] for a in data) for rows in (slice(3200), slice(3200, None)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return Problem(network, train, examined, {"loss": loss})


@functools.cache
def transformer() -> Problem:
    """Returns three quarters of the digits, row after row, and a small transformer."""

    def network():
        inputs = keras.Input((64,))
        x = Positions()(layers.Dense(WIDTH)(layers.Reshape((8, 8))(inputs)))
        for _ in range(BLOCKS):
            normal = layers.LayerNormalization()(x)
            x = x + layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(normal, normal)
            hidden = layers.Dense(2 * WIDTH, "gelu")(layers.LayerNormalization()(x))
            x = x + layers.Dense(WIDTH)(hidden)
        x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
        return keras.Model(inputs, layers.Dense(10)(x))

    return Problem(network, *images.split(1347), images.CLASSES)
