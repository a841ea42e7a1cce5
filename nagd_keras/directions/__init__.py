"""Directions of Nesterov's step, for `NAGD(direction=...)`."""

from nagd_keras.directions.direction import Direction
from nagd_keras.directions.gradient import Gradient

__all__ = ["Direction", "Gradient"]
