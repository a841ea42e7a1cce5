"""Nesterov's own direction."""

from collections.abc import Mapping
from typing import Any

import keras

from nagd_keras.directions.direction import Direction


@keras.saving.register_keras_serializable(package="nagd_keras")
class Gradient(Direction):
    r"""The gradient itself: $d_t = g_t$, and the step length is the learning rate.

    Example:
        >>> from nagd_keras import NAGD, directions
        >>> NAGD(direction=directions.Gradient()).direction.learning_rate
        0.01

    References:
        Nesterov (1983), A method for solving the convex programming problem with convergence rate
        O(1/k^2).
    """

    def direct(
        self, gradient: Any, slots: Mapping[str, Any], t: Any
    ) -> tuple[Any, Mapping[str, Any]]:
        """Returns the gradient, and no slots."""
        return gradient, {}
