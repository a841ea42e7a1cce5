"""Directions of Nesterov's step, for `NAGD(direction=...)`."""

from nagd_keras.directions.adaptive import Adaptive
from nagd_keras.directions.direction import Direction
from nagd_keras.directions.gradient import Gradient
from nagd_keras.directions.orthogonal import Orthogonal

__all__ = ["Adaptive", "Direction", "Gradient", "Orthogonal"]


def __dir__() -> list[str]:
    """Returns the public names, without the modules that they come from."""
    return list(__all__)
