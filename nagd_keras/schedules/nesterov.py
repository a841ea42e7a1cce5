"""Nesterov's own sequence of momenta, without its recursion."""

from typing import Any

import keras
from keras import ops

from nagd_keras.arguments import count
from nagd_keras.hyperparameters import value_dtype
from nagd_keras.schedules.schedule import Schedule
from nagd_keras.schedules.steps import clipped, real

# The recursion makes 2a - ln(a)/2 - 1/(192 a^2) - 1/(576 a^3) - ... grow by exactly 1 per step.
# The coefficients follow from putting the recursion in; the constant is that of a_0 = 1.
_GROWTH_FROM = 1.9930444920383570
_INVERSE_POWERS = (
    (2, 1 / 384),
    (3, 1 / 1152),
    (4, 1 / 7680),
    (5, -1 / 14400),
    (6, -397 / 6193152),
    (7, -1027 / 72253440),
    (8, 113 / 7077888),
    (9, 10781 / 696729600),
)


@keras.saving.register_keras_serializable(package="nagd_keras")
class NesterovMomentum(Schedule):
    r"""Nesterov's momentum, which rises from 0 towards 1 as $1 - 3/t$.

    $$a_0 = 1, \qquad a_{t+1} = \frac{1 + \sqrt{4 a_t^2 + 1}}{2}, \qquad
      \mu_t = \frac{a_t - 1}{a_{t+1}}$$

    It is for smooth convex functions and a learning rate of $1/L$. The sequence has no closed
    form. The schedule evaluates it in a fixed number of operations at any step: it inverts the
    function of $a$ that grows by 1 in each step (see the comments in the code). The error is below
    $1.2 \times 10^{-7}$ in float32, two units of its rounding, up to step $10^8$, and below
    $10^{-9}$ in float64. The value stays below 1: from about step $5 \times 10^7$ on it is the
    largest float32 below 1.

    The index is that of Sutskever et al. In `NAGD`, update $t$ creates the look-ahead with $\mu_t$
    from `schedule(t)`. Counted like this, Nesterov's theorem has the sequence one update later:
    its second gradient is still without momentum. `delay=1` gives exactly that, and with it
    $f(\theta_T) - f^* \le 2 L \|\theta_0 - \theta^*\|^2 / (T + 1)^2$.

    Args:
        delay: the number of updates by which the sequence begins later, an integer of at least 0.
            Until then the momentum is 0.

    Example:
        >>> from nagd_keras import NAGD, schedules
        >>> schedule = schedules.NesterovMomentum()
        >>> [round(float(schedule(t)), 4) for t in (0, 1, 2, 100, 10**6)]
        [0.0, 0.2818, 0.434, 0.9714, 1.0]
        >>> optimizer = NAGD(momentum=schedule)

    References:
        - Nesterov (1983), A method for solving the convex programming problem with convergence
          rate O(1/k^2).
        - Sutskever, Martens, Dahl & Hinton (2013), On the importance of initialization and
          momentum in deep learning, appendix A.1.
    """

    quantity = "momentum"

    def __init__(self, delay: int = 0) -> None:
        self.delay = count("delay", delay, least=0)

    def value(self, step: Any) -> Any:
        """Returns mu at a tensor of steps."""
        n = real(ops.maximum(step - self.delay, 0))
        a = _a(n + 1)
        # (a_n - 1) / a_{n+1} with a_n = sqrt(a_{n+1}^2 - a_{n+1}), without its cancellation.
        mu = 1 - (1 + 1 / (1 + ops.sqrt(1 - 1 / a))) / a
        largest = 1 - (2.0**-53 if value_dtype() == "float64" else 2.0**-24)
        return ops.where(n > 0, clipped(mu, 0.0, largest), ops.zeros_like(mu))


def _a(n: Any) -> Any:
    """Returns a_n for n >= 1, by Newton's method on a - ln(a)/4 - ... = (n + constant) / 2."""
    x = (n + _GROWTH_FROM) / 2
    a = x + ops.log(x) / 4
    for _ in range(3):  # The third is for float64's sake.
        excess = a - ops.log(a) / 4 - sum(c / a**power for power, c in _INVERSE_POWERS) - x
        a = a - excess / (1 - 1 / (4 * a))
    return a
