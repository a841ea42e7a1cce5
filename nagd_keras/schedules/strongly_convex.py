"""The constant momentum that is best for strongly convex functions."""

import math
from typing import Any

import keras
from keras import ops

from nagd_keras.arguments import value
from nagd_keras.hyperparameters import Hyperparameter
from nagd_keras.schedules.schedule import Schedule
from nagd_keras.schedules.steps import real


@keras.saving.register_keras_serializable(package="nagd_keras")
class StronglyConvexMomentum(Schedule):
    r"""The constant momentum for a known condition number $\kappa = L / m$.

    $$\mu = \frac{\sqrt\kappa - 1}{\sqrt\kappa + 1}$$

    With a learning rate of $1/L$ the error of an $L$-smooth, $m$-strongly convex function falls
    at least as $(1 - 1/\sqrt\kappa)^T$.

    Args:
        condition_number: $\kappa$, at least 1; at most about $10^{15}$, where $\mu$ becomes 1 in
            float32.

    Raises:
        TypeError, ValueError: for an argument out of its range.

    Example:
        >>> from nagd_keras import schedules
        >>> round(float(schedules.StronglyConvexMomentum(condition_number=100)(0)), 4)
        0.8182

    References:
        Nesterov (2004), Introductory Lectures on Convex Optimization, section 2.2.1.
    """

    def __init__(self, condition_number: float) -> None:
        self.condition_number = value("condition_number", condition_number)
        if self.condition_number < 1:
            raise ValueError(
                "`condition_number` is the largest curvature divided by the smallest, so it is at "
                f"least 1. Received: condition_number={condition_number!r}."
            )
        root = math.sqrt(self.condition_number)
        self.momentum = Hyperparameter("momentum", supremum=1.0).number(
            (root - 1) / (root + 1), f"that of condition_number={condition_number!r}", ""
        )

    def value(self, step: Any) -> Any:
        """Returns mu in the shape of the steps."""
        return ops.full_like(real(step), self.momentum)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make this schedule again."""
        return {"condition_number": self.condition_number}
