"""What the scripts that train on several devices of JAX share: the data, the network, measures."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from nagd_keras import NAGD
from tests.support.agreement import largest

IDS = np.random.default_rng(0).integers(0, 16, size=(64, 3)).astype("int32")
TARGETS = np.sin(IDS.sum(axis=1, keepdims=True)).astype("float32")
TARGETS[40:48] *= 3  # so that the sixth batch, of 8, leads uphill
POISONED = TARGETS.copy()
POISONED[19] = np.nan
SCHEDULE = keras.optimizers.schedules.PolynomialDecay(0.5, 16, 0.95)


def make(**settings: Any) -> Any:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            keras.layers.Embedding(16, 8, name="table"),
            keras.layers.Flatten(),
            keras.layers.Dense(8, "tanh", name="hidden"),
            keras.layers.Dense(1, name="out"),
        ]
    )
    settings = {"learning_rate": 0.05, "momentum": 0.875, **settings}
    model.compile(optimizer=NAGD(**settings), loss="mse")
    return model


def misplaced(model: Any) -> list[str]:
    """The slots that do not lie as their variables do, but for those of another shape."""
    optimizer = model.optimizer
    return [
        f"{kind} of {v.path}: {v.value.sharding} and {s.value.sharding}"
        for kind, place, s in optimizer._state.slots.items()
        for v in [optimizer._state.trained[place]]
        if s.shape == v.shape
        and not s.value.sharding.is_equivalent_to(v.value.sharding, v.value.ndim)
    ]


def apart(found: Any, wanted: Any) -> float:
    """How far logged numbers are apart, of which a NaN may stand for one that is not known."""
    assert np.array_equal(np.isnan(found), np.isnan(wanted))
    return largest(np.subtract(found, wanted))


def same_bits(found: Iterable[Any], wanted: Iterable[Any]) -> bool:
    pairs = zip(found, wanted, strict=True)
    return all(a.numpy().tobytes() == b.numpy().tobytes() for a, b in pairs)
