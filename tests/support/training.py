"""A small network, its data, and the ways in which `fit` can be told to train it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import pytest

from nagd_keras import NAGD
from tests.support.limits import needs

STEPS = 6  # batches in an epoch
BATCH = 8


def data() -> tuple[np.ndarray, np.ndarray]:
    """48 samples of a smooth function with noise."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(STEPS * BATCH, 4))
    y = np.sin(x).sum(axis=1, keepdims=True) + 0.3 * rng.normal(size=(len(x), 1))
    return x.astype("float32"), y.astype("float32")


def network(optimizer: Any, **compile_settings: Any) -> Any:
    """A new network with the same weights every time."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(5, activation="tanh", name="hidden"),
            keras.layers.Dense(1, name="out"),
        ]
    )
    settings = {"loss": "mse", "metrics": ["mae"], **compile_settings}
    model.compile(optimizer=optimizer, **settings)
    return model


@dataclass(frozen=True)
class Way:
    """One way to train; `fits` are the arguments of the calls of `fit`, one after the other."""

    name: str
    compile: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    policy: str = "float32"
    fits: tuple[dict[str, int], ...] = ({"epochs": 4},)
    dtype: str = "float32"  # whose rounding the results have
    needs: str | None = None  # one of LIMITS
    compiled: bool = False  # which takes PyTorch some 20 s

    @property
    def marks(self) -> list[pytest.MarkDecorator]:
        """Those of a test that trains in this way."""
        slow = self.compiled and keras.backend.backend() == "torch"
        return [*([needs(self.needs)] if self.needs else []), *([pytest.mark.long] if slow else [])]

    def __str__(self) -> str:
        return self.name

    def start(self, **settings: Any) -> Any:
        """Makes the model."""
        keras.config.set_dtype_policy(self.policy)
        return network(NAGD(**{**settings, **self.optimizer}), **self.compile)

    def train(self, model: Any, callbacks: Sequence[Any] = (), **fit: Any) -> list[Any]:
        """Runs all fits; returns their histories."""
        return [
            model.fit(
                *data(),
                batch_size=BATCH,
                shuffle=False,
                verbose=0,
                callbacks=list(callbacks),
                **{**fit, **arguments},
            )
            for arguments in self.fits
        ]

    def epochs(self) -> list[list[int]]:
        """The epochs of each fit."""
        return [list(range(f.get("initial_epoch", 0), f["epochs"])) for f in self.fits]


WAYS = [
    Way("plain"),  # On the CPU, Keras takes no XLA of itself.
    Way("xla", compile={"jit_compile": True}, compiled=True),
    Way("eager", compile={"run_eagerly": True, "jit_compile": False}),
    Way("steps per execution", compile={"steps_per_execution": 3}, needs="steps per execution"),
    Way("accumulation", optimizer={"gradient_accumulation_steps": 2}),
    Way("mixed float16", policy="mixed_float16", dtype="float16"),
    Way("initial epoch", fits=({"epochs": 5, "initial_epoch": 2},)),
    Way("second fit goes on", fits=({"epochs": 3}, {"epochs": 5, "initial_epoch": 3})),
]

# Of a test for each.
EACH_WAY = pytest.mark.parametrize(
    "way", [pytest.param(way, marks=way.marks) for way in WAYS], ids=str
)


def nagd(model: Any) -> Any:
    """The NAGD of a model, without loss scaling."""
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


def fit(model: Any, *callbacks: Any, **settings: Any) -> Any:
    """Trains for three epochs; returns the history."""
    settings = {"epochs": 3, "batch_size": BATCH, "shuffle": False, "verbose": 0, **settings}
    return model.fit(*data(), callbacks=list(callbacks), **settings)
