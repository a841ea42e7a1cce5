"""Tasks with tables: numbers, categories, and classes of which one is rare."""

import functools
from typing import Any

import keras
from keras import layers
from sklearn.datasets import load_breast_cancer, load_diabetes, make_classification
from sklearn.model_selection import train_test_split

from benchmarks.race import tables
from benchmarks.race.workload import Problem

BINARY = {"loss": keras.losses.BinaryCrossentropy(from_logits=True)}


def split(x: Any, y: Any, stratify: Any = None) -> tuple[Any, Any]:
    """Returns three quarters to train with and the rest, inputs standardized by the former."""
    parts = train_test_split(x, y[:, None], test_size=0.25, random_state=0, stratify=stratify)
    (x, y), (z, w) = parts[::2], parts[1::2]
    mean, deviation = x.mean(0), x.std(0)
    train, examined = ((x - mean) / deviation, y), ((z - mean) / deviation, w)
    return tuple(tuple(a.astype("float32") for a in part) for part in (train, examined))


@functools.cache
def cancer() -> Problem:
    """Returns the breast-cancer data, and a perceptron with batch normalization."""
    x, y = load_breast_cancer(return_X_y=True)

    def network():
        found = keras.Sequential([keras.Input((30,))])
        for units in (32, 16):
            found.add(layers.Dense(units, use_bias=False))
            found.add(layers.BatchNormalization())
            found.add(layers.ReLU())
        found.add(layers.Dense(1))
        return found

    return Problem(network, *split(x, y, stratify=y), BINARY)


@functools.cache
def diabetes_raw() -> Problem:
    """Returns the diabetes data with targets as they are, 25 to 346, and a perceptron."""

    def network():
        hidden = [layers.Dense(units, "relu") for units in (32, 16)]
        return keras.Sequential([keras.Input((10,)), *hidden, layers.Dense(1)])

    return Problem(network, *split(*load_diabetes(return_X_y=True)), {"loss": "mse"})


@functools.cache
def diabetes() -> Problem:
    """Returns the same with targets that are standardized by those to train with."""
    raw = diabetes_raw()
    y = raw.train[1]
    train, examined = ((x, (z - y.mean()) / y.std()) for x, z in (raw.train, raw.examined))
    return raw._replace(train=train, examined=examined)


@functools.cache
def categories() -> Problem:
    """Returns numbers and categories, often and seldom seen, and embeddings of the latter."""
    return tables.categories(10_000)


@functools.cache
def imbalanced() -> Problem:
    """Returns two generated classes, of which the second has three examples of a hundred."""
    x, y = make_classification(
        8000, n_features=20, n_informative=8, weights=[0.97], flip_y=0.0, random_state=0
    )

    def network():
        hidden = [layers.Dense(units, "relu") for units in (64, 32)]
        return keras.Sequential([keras.Input((20,)), *hidden, layers.Dense(1)])

    return Problem(network, *split(x, y, stratify=y), BINARY)
