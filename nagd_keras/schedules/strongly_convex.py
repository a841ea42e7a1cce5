"""The best constant momentum for strongly convex functions."""

import math
from typing import Any

import keras
from keras import ops

from nagd_keras.arguments import value
from nagd_keras.schedules.schedule import Schedule
from nagd_keras.schedules.steps import real


@keras.saving.register_keras_serializable(package="nagd_keras")
class StronglyConvexMomentum(Schedule):
    r"""The constant momentum for a known condition number $\kappa = L / m$.

    $$\mu = \frac{\sqrt\kappa - 1}{\sqrt\kappa + 1}$$

    With a learning rate of $1/L$ the error of an $L$-smooth, $m$-strongly convex function falls
    at least as $(1 - 1/\sqrt\kappa)^T$.

    Args:
        condition_number: $\kappa$, the largest curvature divided by the smallest, in
            $[1, 10^{15})$; beyond, $\mu$ becomes 1 in float32.

    Example:
        >>> from nagd_keras import schedules
        >>> round(float(schedules.StronglyConvexMomentum(condition_number=100)(0)), 4)
        0.8182

    References:
        Nesterov (2004), Introductory Lectures on Convex Optimization, section 2.2.1.
    """

    quantity = "momentum"

    def __init__(self, condition_number: float) -> None:
        # From 1e15 on, mu is soon 1 in float32.
        self.condition_number = value("condition_number", condition_number, 1e15, least=1.0)
        root = math.sqrt(self.condition_number)
        self.momentum = (root - 1) / (root + 1)

    def value(self, step: Any) -> Any:
        """Returns mu in the shape of the steps."""
        return ops.full_like(real(step), self.momentum)
