"""Directions of Nesterov's step, for `NAGD(direction=...)`."""

from nagd_keras.directions.adaptive import Adaptive
from nagd_keras.directions.direction import Direction
from nagd_keras.directions.gradient import Gradient
from nagd_keras.directions.orthogonal import Orthogonal

__all__ = ["Adaptive", "Direction", "Gradient", "Orthogonal"]
