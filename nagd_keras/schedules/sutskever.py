"""The momentum schedule that first trained deep autoencoders without pre-training."""

from typing import Any

import keras

from nagd_keras.arguments import count, value
from nagd_keras.schedules.schedule import Schedule
from nagd_keras.schedules.steps import clipped, real


@keras.saving.register_keras_serializable(package="nagd_keras")
class SutskeverMomentum(Schedule):
    r"""A momentum that rises in stairs, from 1/2 to its maximum.

    $$\mu_t = \min\left(1 - 2^{-1 - \log_2(\lfloor t / p \rfloor + 1)},\ \mu_{\max}\right)
            = \min\left(1 - \frac{1}{2 (\lfloor t / p \rfloor + 1)},\ \mu_{\max}\right)$$

    Args:
        max_momentum: $\mu_{\max}$, in [0, 1).
        period: $p$, the length of a stair in updates, at least 1.

    Example:
        >>> from nagd_keras import schedules
        >>> schedule = schedules.SutskeverMomentum(max_momentum=0.99, period=250)
        >>> [round(float(schedule(t)), 4) for t in (0, 249, 250, 500, 10**6)]
        [0.5, 0.5, 0.75, 0.8333, 0.99]

    References:
        Sutskever, Martens, Dahl & Hinton (2013), On the importance of initialization and momentum
        in deep learning, equation 5.
    """

    quantity = "momentum"

    def __init__(self, max_momentum: float = 0.99, period: int = 250) -> None:
        self.max_momentum = value("max_momentum", max_momentum, supremum=1.0)
        self.period = count("period", period)

    def value(self, step: Any) -> Any:
        """Returns mu at a tensor of steps."""
        stair = real(step // self.period)
        return clipped(1 - 0.5 / (stair + 1), 0.0, self.max_momentum)
