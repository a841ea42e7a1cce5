"""The family: a row for each direction and setting, from which tests take their cases.

Exactness, saving half-way, stateless runs and replicas are tested for every row. A new direction,
or a new setting, is a new row.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nagd_keras import schedules
from tests.reference import directions as reference
from tests.support.problems import Table

Array = np.ndarray
STEPS = 24
EPS = np.linspace(0.02, 0.12, STEPS)
# From 0 on: the first update of a run creates a look-ahead with the momentum at 1.
MU = np.concatenate([[0.0], np.linspace(0.3, 0.95, STEPS)])


@dataclass(frozen=True)
class Member:
    """Settings of NAGD, and what the slow reference needs to know of them.

    Attributes:
        name: what the row is called.
        settings: the arguments.
        rule: (g, slots, t) -> (d, slots): the direction, in NumPy; None for the gradient itself.
            A direction's step length is the learning rate times 1 - mu.
        spoiled: the steps whose gradients hold a NaN.
        decides: the counters that must have moved at the end.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    rule: Callable[[Array, dict[str, Array], int], tuple[Array, dict[str, Array]]] | None = None
    spoiled: tuple[int, ...] = ()
    decides: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


_SKIP: dict[str, Any] = {"skip_nonfinite": True}
_SETTINGS = [
    Member("gradient"),
    Member("schedules", {"learning_rate": Table(EPS), "momentum": Table(MU)}),
    Member("decay", {"weight_decay": 0.1}),
    Member("clipnorm", {"clipnorm": 0.5}),
    Member("global_clipnorm", {"global_clipnorm": 0.5}),
    Member("clipvalue", {"clipvalue": 0.25}),
    Member("multipliers", {"learning_rate_multipliers": {"x0": 0.5, "x1": 0.0}}),
    Member("accumulation", {"gradient_accumulation_steps": 2}),
    Member("averages", {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 3}),
    Member("loss scale", {"loss_scale_factor": 4.0}),
    Member("restart, gradient", {"restart": "gradient"}, decides=("restarts",)),
    Member("restart, speed", {"restart": "speed"}, decides=("restarts",)),
    Member("skip", _SKIP, spoiled=(5,), decides=("skipped_updates",)),
    Member(
        "skip and average",
        {**_SKIP, "use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 2},
        spoiled=(0, 7),
        decides=("skipped_updates",),
    ),
    Member(
        "all",
        {
            "learning_rate": 0.3,
            "momentum": schedules.NesterovMomentum(),
            "restart": "gradient",
            **_SKIP,
            "global_clipnorm": 1.0,
            "weight_decay": 0.1,
            "gradient_accumulation_steps": 2,
            "use_ema": True,
            "ema_momentum": 0.5,
        },
        spoiled=(6,),
        decides=("skipped_updates", "restarts"),
    ),
]


def _directed(name: str, rule: Any) -> list[Member]:
    """The rows of a direction: alone, and with each setting that the gradient has."""
    return [
        replace(
            row,
            name=name if row.name == "gradient" else f"{name}, {row.name}",
            settings={**row.settings, "direction": name},
            rule=rule,
            decides=tuple(x for x in row.decides if x != "restarts"),
        )
        for row in _SETTINGS
    ]


FAMILY = [
    *_SETTINGS,
    *_directed("adaptive", reference.adaptive),
    *_directed("orthogonal", reference.orthogonal),
]


# Where nothing depends on what direction and setting do to each other.
BRIEF = [
    *_SETTINGS,
    *(
        m
        for m in FAMILY
        if m.name in ("adaptive", "orthogonal", "adaptive, all", "orthogonal, all")
    ),
]


def settings_of(name: str) -> dict[str, Any]:
    """The arguments of a row."""
    (member,) = (each for each in FAMILY if each.name == name)
    return dict(member.settings)
