"""Configurations of NAGD whose training is saved, and what is trained."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from nagd_keras import NAGD, schedules
from tests.support.drivers import to_float64
from tests.support.training import BATCH, nagd

STEPS = 8
RESTART = 4  # the step after which the momentum is reset, where a case does so


@dataclass(frozen=True)
class Case:
    """One configuration: settings of the optimizer, and what is done before and after steps."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    policy: str = "float32"
    prepare: Callable[[Any], None] = lambda optimizer: None
    after: dict[int, Callable[[Any], None]] = field(default_factory=dict)
    at_iterate: bool = False  # while it is saved

    def __str__(self) -> str:
        return self.name

    def start(self, run_eagerly: bool = True) -> Any:
        """Makes the model, the same every time."""
        keras.config.set_dtype_policy(self.policy)
        keras.utils.set_random_seed(0)
        layers = [
            keras.layers.Dense(5, activation="tanh", name="hidden"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dense(1, name="out"),
        ]
        model = keras.Sequential([keras.Input((4,)), *layers])
        optimizer = NAGD(**self.settings)
        self.prepare(optimizer)
        # As objects: Keras cannot load the names "mse" and "mae" from its older format.
        loss, metric = keras.losses.MeanSquaredError(), keras.metrics.MeanAbsoluteError()
        model.compile(optimizer, loss, metrics=[metric], run_eagerly=run_eagerly)
        return model

    def step(self, model: Any, number: int) -> float:
        """Trains on one batch; returns the loss."""
        optimizer = nagd(model)
        if self.at_iterate:
            model.optimizer.build(model.trainable_variables)
            optimizer.swap_to_lookahead()
        x, y = batch(number)
        loss = model.train_on_batch(x, y)[0]
        self.after.get(number, lambda _: None)(optimizer)
        if self.at_iterate:
            optimizer.swap_to_iterate()
        return float(loss)


def batch(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A batch of a smooth function; no random numbers, which could change with NumPy."""
    k = np.arange(BATCH * 4, dtype="float64").reshape(BATCH, 4)
    x = np.sin(0.7 * k + 1.3 * number + 0.1 * k**2)
    return x.astype("float32"), np.sin(2 * x).sum(axis=1, keepdims=True).astype("float32")


def set_live(optimizer: Any) -> None:
    optimizer.momentum, optimizer.learning_rate, optimizer.weight_decay = 0.8, 0.04, 0.02


def halve(optimizer: Any) -> None:
    optimizer.learning_rate = 0.5 * float(optimizer.learning_rate)


@keras.saving.register_keras_serializable(package="nagd_keras_tests")
def registered() -> float:
    return 0.7


RISING = schedules.NesterovMomentum()
WARM = schedules.LinearWarmup(0.05, steps=5)
CASES = [
    Case("plain", {"learning_rate": 0.05}),
    Case("schedules", {"learning_rate": WARM, "momentum": RISING, "weight_decay": WARM}),
    Case("scaled schedule", {"learning_rate": WARM, "momentum": 0.9}, after={3: halve}),
    Case("callable", {"learning_rate": 0.05, "momentum": registered}),
    Case("live", {"weight_decay": 0.0}, after={2: set_live, 5: halve}),
    Case(
        "multipliers", {"learning_rate": 0.05, "learning_rate_multipliers": {"out": 0.5, "hid": 2}}
    ),
    Case(
        "decay of some",
        {"learning_rate": 0.05, "weight_decay": 0.1},
        prepare=lambda optimizer: optimizer.exclude_from_weight_decay(var_names=["bias", "gamma"]),
    ),
    Case("restart", {"momentum": RISING}, after={RESTART: lambda o: o.reset_momentum()}),
    Case("average", {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 3}),
    Case("accumulation", {"learning_rate": 0.05, "gradient_accumulation_steps": 3}),
    Case("loss scale", {"loss_scale_factor": 8.0, "global_clipnorm": 0.5}),
    Case("mixed float16", {"learning_rate": 0.05}, policy="mixed_float16"),
    Case("bfloat16", {"learning_rate": 0.05, "weight_decay": 0.01}, policy="bfloat16"),
    Case("at the iterate", {"learning_rate": 0.05}, at_iterate=True),
    Case(
        "everything",
        {
            "learning_rate": WARM,
            "momentum": RISING,
            "weight_decay": 0.01,
            "learning_rate_multipliers": {"out": 0.5},
            "clipnorm": 0.5,
            "use_ema": True,
            "ema_momentum": 0.9,
            "ema_overwrite_frequency": 2,
            "gradient_accumulation_steps": 2,
        },
        prepare=lambda optimizer: optimizer.exclude_from_weight_decay(var_names=["bias"]),
        after={RESTART: lambda o: o.reset_momentum(), 5: halve},
        at_iterate=True,
    ),
]


def state(model: Any) -> list[str]:
    """All weights, and variables of the optimizer, as text, for which one NaN is like another."""
    variables = [*model.weights, *model.optimizer.variables]
    values = [to_float64(v) for v in variables]
    return [repr(np.asarray(value).tolist()) for value in values]
