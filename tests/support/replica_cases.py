"""What is tried with two replicas; see `replicas.py`, which does it in a process of its own."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras

from nagd_keras import callbacks, schedules


@dataclass(frozen=True)
class Settings:
    """Settings of NAGD."""

    settings: dict[str, Any] = field(default_factory=dict)
    momentum: float = 0.875
    table: bool = False  # whether the model looks up embeddings
    spoiled: bool = False  # whether one sample, so one replica's share, is NaN
    constraint: str | None = None
    decides: tuple[str, ...] = ()  # the counters that must have moved
    long: bool = False  # whether it is left to the long tests


@dataclass(frozen=True)
class Callbacks:
    """Callbacks of a fit."""

    make: Callable[[], list[Any]]
    spoiled: bool = False
    long: bool = False


_SKIP, _TWO = {"skip_nonfinite": True}, {"gradient_accumulation_steps": 2}
_SKIPS, _RESTARTS = ("skipped_updates",), ("restarts",)
SETTINGS = {
    "nothing else": Settings(long=True),
    "clipnorm": Settings({"clipnorm": 0.05}, long=True),
    "global_clipnorm": Settings({"global_clipnorm": 0.05}, long=True),
    "restart, gradient": Settings(
        {"restart": "gradient"}, momentum=0.99, decides=_RESTARTS, long=True
    ),
    "restart, speed": Settings({"restart": "speed"}, momentum=0.99, decides=_RESTARTS, long=True),
    "skip and restart": Settings(
        {**_SKIP, "restart": "gradient"},
        momentum=0.99,
        spoiled=True,
        decides=_SKIPS + _RESTARTS,
    ),
    "skip and clip": Settings(
        {**_SKIP, "clipvalue": 0.02}, spoiled=True, decides=_SKIPS, long=True
    ),
    "skip and constraint": Settings(
        _SKIP, spoiled=True, constraint="unit_norm", decides=_SKIPS, long=True
    ),
    "accumulation": Settings(_TWO, long=True),
    "accumulation, clipped, decayed": Settings(
        {**_TWO, "global_clipnorm": 0.05, "weight_decay": 0.1}, long=True
    ),
    "accumulation and restart": Settings(
        {**_TWO, "restart": "gradient"}, decides=_RESTARTS, long=True
    ),
    "ema_overwrite_frequency": Settings({"use_ema": True, "ema_overwrite_frequency": 3}, long=True),
    "average, accumulation and skip": Settings(
        {"use_ema": True, "ema_overwrite_frequency": 2, **_TWO, **_SKIP},
        spoiled=True,
        decides=_SKIPS,
        long=True,
    ),
    "multipliers": Settings({"learning_rate_multipliers": {"bias": 2.0, "out": 0.0}}, long=True),
    "embedding, clipped": Settings({"global_clipnorm": 0.05}, table=True, long=True),
    "embedding, lazy, clipped": Settings(
        {"sparse_updates": "lazy", "clipnorm": 0.05}, table=True, long=True
    ),
    "embedding, lazy, restart": Settings(
        {"sparse_updates": "lazy", "restart": "gradient"},
        momentum=0.99,
        table=True,
        decides=_RESTARTS,
        long=True,
    ),
    "adaptive, lazy": Settings(
        {"direction": "adaptive", "sparse_updates": "lazy"}, table=True, long=True
    ),
    "orthogonal": Settings({"direction": "orthogonal", **_SKIP}, spoiled=True, decides=_SKIPS),
    "embedding, slot_dtype": Settings({"slot_dtype": "float64"}, table=True, long=True),
}
# Those that several processes try as well.
WORKERS = (
    "restart, gradient",
    "restart, speed",
    "skip and clip",
    "accumulation, clipped, decayed",
    "ema_overwrite_frequency",
    "embedding, lazy, clipped",
    "embedding, slot_dtype",
    "adaptive, lazy",
    "orthogonal",
)
CALLBACKS = {
    "MomentumScheduler": Callbacks(
        lambda: [callbacks.MomentumScheduler(schedules.SutskeverMomentum(0.99, 2))],
        long=True,
    ),
    "ReduceLROnPlateau": Callbacks(
        lambda: [keras.callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=1.0)],
        long=True,
    ),
    "OneCycle": Callbacks(lambda: [callbacks.OneCycle(0.25, momentum=(0.95, 0.85))], long=True),
    "AdaptiveRestart": Callbacks(lambda: [callbacks.AdaptiveRestart(every_n_batches=2)], long=True),
    "EvaluateAtIterate": Callbacks(lambda: [callbacks.EvaluateAtIterate()], long=True),
    "HyperparameterMonitor": Callbacks(
        lambda: [callbacks.HyperparameterMonitor(norms=True)], long=True
    ),
    "StopAtTolerance": Callbacks(lambda: [callbacks.StopAtTolerance(0.9)], long=True),
    "DivergenceGuard": Callbacks(lambda: [callbacks.DivergenceGuard()], spoiled=True, long=True),
}
