"""PyTorch's compiler takes the steps of NAGD as it takes those of Keras' own SGD."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest

from nagd_keras import NAGD, schedules
from tests.support.drivers import snapshot
from tests.support.tolerances import TRAJECTORY, assert_close

if keras.backend.backend() != "torch":
    pytest.skip("elsewhere `jit_compile=True` is XLA", allow_module_level=True)

import torch

BATCH, BATCHES, EPOCHS = 8, 5, 3


@dataclass(frozen=True)
class Case:
    """What is trained: settings of NAGD, and of Keras' SGD beside it if it has the like."""

    name: str
    nagd: dict[str, Any] = field(default_factory=dict)
    sgd: dict[str, Any] | None = None
    between: Callable[[Any], None] = lambda optimizer: None  # the two fits
    spoiled: tuple[int, ...] = ()  # batches that have a NaN
    embedding: bool = False

    def __str__(self) -> str:
        return self.name

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(0)
        x = rng.normal(size=(BATCH * BATCHES, 3)).astype("float32")
        y = np.sin(x).sum(axis=1, keepdims=True)
        for place in self.spoiled:
            y[place * BATCH] = np.nan
        return (x > 0).astype("int32") if self.embedding else x, y

    def train(self, optimizer: Any, jit_compile: bool) -> tuple[Any, list[float]]:
        """Fits twice, without a further compilation; returns the optimizer and the losses."""
        keras.utils.set_random_seed(0)
        layers: list[Any] = [keras.layers.Dense(1)]
        if self.embedding:
            layers = [keras.layers.Embedding(2, 2), keras.layers.Flatten(), *layers]
        model = keras.Sequential([keras.Input((3,)), *layers])
        model.compile(optimizer=optimizer, loss="mse", jit_compile=jit_compile)
        losses = []
        for first in (True, False):
            if not first:
                self.between(optimizer)
            made = compilations()
            with nullcontext() if first else torch._dynamo.config.patch(error_on_recompile=True):
                history = model.fit(*self.data(), BATCH, EPOCHS, shuffle=False, verbose=0).history
            assert (compilations() > made) == (first and jit_compile)
            losses += history["loss"]
        return model, losses


def compilations() -> int:
    found: int = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    return found


def set_all(optimizer: Any) -> None:
    optimizer.momentum, optimizer.learning_rate, optimizer.weight_decay = 0.5, 0.01, 0.25


def lower(optimizer: Any) -> None:
    optimizer.learning_rate = 0.01


RISING = schedules.NesterovMomentum()
AVERAGES = {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 4}
CASES = [
    Case("plain", sgd={}, between=lower),
    Case("schedule of momentum", {"momentum": RISING}),
    Case("set between fits", {"weight_decay": 0.125}, between=set_all),
    Case("restart by gradient", {"momentum": 0.97, "restart": "gradient"}),
    Case("restart by speed", {"momentum": RISING, "restart": "speed"}),
    Case("skip", {"skip_nonfinite": True}, spoiled=(1, 4)),
    Case("accumulation", *2 * [{"gradient_accumulation_steps": 2}]),
    Case("clipnorm", *2 * [{"clipnorm": 0.5}]),
    Case("global_clipnorm", *2 * [{"global_clipnorm": 0.5}]),
    Case("clipvalue", *2 * [{"clipvalue": 0.25}]),
    Case("averages", *2 * [AVERAGES]),
    Case("embedding", sgd={}, embedding=True),
    Case(
        "together",
        {"momentum": RISING, "restart": "speed", "skip_nonfinite": True, "clipnorm": 1, **AVERAGES},
        spoiled=(1, 4),
        between=lower,
    ),
]
QUICK = {("plain", "inductor")}
CODE = {("plain", "inductor"), ("together", "inductor")}


@pytest.fixture
def fresh_compiler():
    """Without what the compiler has made, of which it keeps a limited number."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


# To compile a step takes from 10 to 30 s, the less part of it in what makes code for the CPU. So
# that is left out of most, and most are left to the long tests.
FORMS = [
    pytest.param(
        case, backend, id=f"{case}-{backend}", marks=[] if form in QUICK else [pytest.mark.long]
    )
    for case in CASES
    for backend in ("inductor", "eager")
    if (form := (case.name, backend)) in CODE or backend == "eager"
]


@pytest.mark.parametrize(("case", "backend"), FORMS)
def test_a_compiled_fit_is_the_plain_one(case, backend, fresh_compiler, monkeypatch):
    # Keras leaves it at PyTorch's default.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    makers = [partial(NAGD, 0.05, **{"momentum": 0.9, **case.nagd})]
    if case.sgd is not None:
        makers.append(partial(keras.optimizers.SGD, 0.05, 0.9, nesterov=True, **case.sgd))
    for make in makers:
        (plain, wanted), (compiled, found) = (case.train(make(), jit) for jit in (False, True))
        # That of an epoch is NaN if a batch is bad.
        np.testing.assert_array_equal(np.isnan(found), bool(case.spoiled))
        assert_close(*map(np.nan_to_num, (found, wanted)), TRAJECTORY["float32"], "losses")
        for a, b in zip(snapshot(compiled), snapshot(plain), strict=True):
            assert_close(a, b, TRAJECTORY["float32"], "weights")
        if make is makers[0]:
            for name in ("age", "iterations", "restarts", "skipped_updates"):
                counts = [int(getattr(m.optimizer, name)) for m in (compiled, plain)]
                assert counts[0] == counts[1], name
            assert counts[0] == 2 * EPOCHS * len(case.spoiled)
