"""What the tests of the conversions share: twin runs, and the settings of Keras' SGD."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from tests.support.drivers import DRIVERS, Run
from tests.support.problems import random_quadratic
from tests.support.tolerances import TRAJECTORY, assert_close, relative_error

STEPS = 100
SHAPES = [(3, 2), (4,)]
SIZES = [int(np.prod(shape)) for shape in SHAPES]
PROBLEM = random_quadratic(np.random.default_rng(3), sum(SIZES), condition=30.0)
START = np.random.default_rng(4).normal(size=sum(SIZES))
FALLING = keras.optimizers.schedules.ExponentialDecay(0.3, 20, 0.8)


def split(x: np.ndarray) -> list[np.ndarray]:
    """Cuts a vector into arrays of SHAPES."""
    parts = np.split(x, np.cumsum(SIZES)[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, SHAPES, strict=True)]


def join(parts: list[np.ndarray]) -> np.ndarray:
    """The reverse of `split`."""
    return np.concatenate([np.ravel(part) for part in parts])


def constant_rate() -> float:
    """A callable for a learning rate."""
    return 0.3


@dataclass(frozen=True)
class Case:
    """Settings that Keras' SGD and NAGD share, and what is done to the SGD before its first step.

    `steps` are the gradients that it sees before it is converted.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    before: Callable[[Any, list[Any]], None] = lambda optimizer, variables: None
    steps: int = 7
    dtype: str = "float32"

    def __str__(self) -> str:
        return self.name

    def keywords(self) -> dict[str, Any]:
        """The arguments of SGD and of NAGD, but `nesterov`."""
        return {"learning_rate": 0.3, "momentum": 0.9, **self.settings}


def exclude(optimizer: Any, variables: list[Any]) -> None:
    """Keeps the second variable from decaying."""
    optimizer.exclude_from_weight_decay(var_list=[variables[1]])


def exclude_by_name(optimizer: Any, variables: list[Any]) -> None:
    """Keeps the first variable from decaying, by its name."""
    optimizer.exclude_from_weight_decay(var_names=["x0"])


ACCUMULATION = {"gradient_accumulation_steps": 4}
CASES = [
    Case("plain"),
    Case("no step yet", steps=0),
    Case("gradient descent", {"momentum": 0.0}),
    Case("schedule", {"learning_rate": FALLING}),
    Case("callable", {"learning_rate": constant_rate}),
    Case("weight decay, one excluded", {"weight_decay": 0.05}, exclude),
    Case("weight decay, one excluded by name", {"weight_decay": 0.05}, exclude_by_name),
    Case("clipnorm", {"clipnorm": 0.2}),
    Case("clipvalue", {"clipvalue": 0.1}),
    Case("global_clipnorm", {"global_clipnorm": 0.3}),
    Case(
        "average, overwriting",
        {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 5},
    ),
    Case("accumulation in mid-window", {**ACCUMULATION}, steps=4 * 3 + 2),
    Case(
        "accumulation, schedule, average",
        {"learning_rate": FALLING, "use_ema": True, "ema_overwrite_frequency": 3, **ACCUMULATION},
        steps=4 * 4 + 3,
    ),
    Case("loss scale", {"loss_scale_factor": 8.0}),
    Case("everything", {"learning_rate": FALLING, "weight_decay": 0.05, "clipnorm": 0.5}, exclude),
    # Whose momentum is the same number in bfloat16; Keras' SGD would round another.
    Case("bfloat16", {"momentum": 0.875, "learning_rate": 0.25}, dtype="bfloat16"),
]


def begun(make: Callable[..., Any], case: Case) -> Run:
    """A run of an optimizer that has made a case's first steps."""
    run = Run.__new__(Run)
    run.optimizer, run.dtype = make(**case.keywords()), case.dtype
    run.variables = [
        keras.Variable(keras.ops.cast(x, case.dtype), dtype=case.dtype, name=f"x{i}")
        for i, x in enumerate(split(START))
    ]
    case.before(run.optimizer, run.variables)
    run.optimizer.build(run.variables)
    run._apply = lambda gradients: run.optimizer.apply(gradients, run.variables)
    advance(run, case.steps)
    return run


def step(run: Run, x: np.ndarray) -> np.ndarray:
    """Makes a step with the gradient of PROBLEM at x, where the run stands; returns the next."""
    scale = run.optimizer.loss_scale_factor or 1.0
    run.step(split(scale * PROBLEM.gradient(x)))
    return join(run.look_ahead)


def advance(run: Run, steps: int) -> None:
    """Makes steps."""
    x = join(run.look_ahead)
    for _ in range(steps):
        x = step(run, x)


def assert_same_steps(run: Run, twin: Run, steps: int = STEPS) -> float:
    """Holds the next steps of two runs against each other, each at the gradients of its own.

    Compiled, where the backend compiles an update alone, since that is faster. Returns the largest
    error.
    """
    compiled = next((name for name in ("graph", "jit") if name in DRIVERS), "eager")
    for each in (run, twin):
        each._apply = DRIVERS[compiled](each.optimizer, each.variables)
    worst, (a, b) = 0.0, (join(each.look_ahead) for each in (run, twin))
    for t in range(steps):
        a, b = step(run, a), step(twin, b)
        assert_close(a, b, TRAJECTORY[run.dtype], f"step {t}")
        worst = max(worst, relative_error(a, b))
    return worst
