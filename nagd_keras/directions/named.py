"""Directions by name."""

from typing import Any, Literal, TypeAlias

from nagd_keras.directions.adaptive import Adaptive
from nagd_keras.directions.direction import Direction
from nagd_keras.directions.gradient import Gradient
from nagd_keras.directions.orthogonal import Orthogonal

DirectionName: TypeAlias = Literal["gradient", "adaptive", "orthogonal"]
NAMED: dict[DirectionName, type[Direction]] = {
    "gradient": Gradient,
    "adaptive": Adaptive,
    "orthogonal": Orthogonal,
}


def named_direction(given: Any) -> Direction:
    """Returns a direction as it is, and a name's direction with its own settings."""
    if isinstance(given, Direction):
        return given
    if isinstance(given, str) and given in NAMED:
        return NAMED[given]()
    raise ValueError(
        f"`direction` must be one of {', '.join(map(repr, NAMED))}, or an object of "
        f"nagd_keras.directions. Received: direction={given!r}."
    )
