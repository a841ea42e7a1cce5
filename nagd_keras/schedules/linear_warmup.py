"""A straight line up to the beginning of another schedule."""

from typing import Any

import keras
from keras import ops

from nagd_keras.arguments import count, value, value_or_schedule
from nagd_keras.schedules.schedule import Schedule
from nagd_keras.schedules.steps import as_step, real


@keras.saving.register_keras_serializable(package="nagd_keras")
class LinearWarmup(Schedule):
    r"""A line from `start` to the first value of another schedule, which then begins.

    $$\eta(t) = \begin{cases}
      \text{start} + (\text{then}(0) - \text{start}) \, t / n & t < n \\
      \text{then}(t - n) & t \ge n \end{cases}$$

    Args:
        then: what comes after the warm-up: a number, or a schedule. It counts its steps from the
            end of the warm-up.
        steps: $n$, the length of the warm-up in steps, at least 1.
        start: the value at step 0, in $[0, \infty)$. With the default of 0 the first batch moves
            nothing; `then / steps` avoids that.

    Example:
        >>> import keras
        >>> from nagd_keras import schedules
        >>> decay = keras.optimizers.schedules.CosineDecay(0.1, decay_steps=90)
        >>> schedule = schedules.LinearWarmup(decay, steps=10)
        >>> [round(float(schedule(t)), 4) for t in (0, 5, 10, 100)]
        [0.0, 0.05, 0.1, 0.0]

    References:
        Goyal et al. (2017), Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour,
        section 2.2.
    """

    def __init__(self, then: Any, steps: int, start: float = 0.0) -> None:
        self.then = value_or_schedule("then", then)
        self.steps = count("steps", steps)
        self.start = value("start", start)

    def value(self, step: Any) -> Any:
        """Returns the value at a tensor of steps."""
        beyond = step - self.steps
        # What is left is not 1 minus what has passed, which would round small values away.
        passed = real(ops.maximum(step, 0)) / self.steps
        left = -real(ops.minimum(beyond, 0)) / self.steps
        line = self.start * left + following(self.then, ops.zeros_like(step)) * passed
        return ops.where(beyond < 0, line, following(self.then, ops.maximum(beyond, 0)))


def following(schedule: Any, step: Any) -> Any:
    """Returns what a schedule, or a number, gives at a tensor of steps."""
    if callable(schedule):
        return real(as_step(schedule(step)))
    return ops.full_like(real(step), schedule)
