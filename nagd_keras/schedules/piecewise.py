"""One schedule after the other."""

import itertools
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from nagd_keras.arguments import count, value_or_schedule
from nagd_keras.schedules.linear_warmup import following
from nagd_keras.schedules.schedule import Schedule


@keras.saving.register_keras_serializable(package="nagd_keras")
class Piecewise(Schedule):
    r"""Hands over from one schedule to the next at given steps.

    $$\eta(t) = \text{schedules}_i(t - b_i), \qquad b_i \le t < b_{i+1},$$

    where $b_0 = 0$: each schedule counts its steps from its own beginning.

    Args:
        boundaries: the rising steps $b_1 < b_2 < \ldots$, each at least 1, at which the next
            schedule takes over.
        schedules: numbers or schedules, one more than there are boundaries.

    Raises:
        ValueError: if the boundaries do not rise, or are not one less than the schedules.

    Example:
        >>> from nagd_keras import schedules
        >>> rising = schedules.SutskeverMomentum(max_momentum=0.99, period=250)
        >>> # the momentum of Sutskever et al., lowered for the last updates
        >>> schedule = schedules.Piecewise([9000], [rising, 0.9])
        >>> [round(float(schedule(t)), 4) for t in (0, 8999, 9000, 20000)]
        [0.5, 0.9861, 0.9, 0.9]
    """

    def __init__(self, boundaries: Sequence[int], schedules: Sequence[Any]) -> None:
        for name, given in {"boundaries": boundaries, "schedules": schedules}.items():
            if not isinstance(given, (list, tuple)):
                raise TypeError(f"`{name}` must be a list. Received: {name}={given!r}.")
        self.boundaries = [count(f"boundaries[{i}]", b) for i, b in enumerate(boundaries)]
        self.schedules = [
            value_or_schedule(f"schedules[{i}]", each) for i, each in enumerate(schedules)
        ]
        rise = all(a < b for a, b in itertools.pairwise(self.boundaries))
        if not rise or len(self.schedules) != len(self.boundaries) + 1:
            raise ValueError(
                "`boundaries` must be the rising steps at which the next schedule takes over, one "
                f"less than there are schedules. Received: boundaries={list(boundaries)!r} for "
                f"{len(self.schedules)} schedules."
            )

    def value(self, step: Any) -> Any:
        """Returns the value at a tensor of steps."""
        value = following(self.schedules[0], step)
        for boundary, schedule in zip(self.boundaries, self.schedules[1:], strict=True):
            # Every schedule is evaluated; none is shown a step before its first.
            then = following(schedule, ops.maximum(step - boundary, 0))
            value = ops.where(step < boundary, value, then)
        return value
