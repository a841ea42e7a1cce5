"""Smith's one cycle: up to a peak, and down to less than where it began."""

import itertools
import math
from typing import Any, Literal, TypeAlias, get_args

import keras
from keras import ops

from nagd_keras.arguments import boolean, choice, count, value
from nagd_keras.schedules.schedule import Schedule
from nagd_keras.schedules.steps import clipped, real, since

Anneal: TypeAlias = Literal["cosine", "linear"]


@keras.saving.register_keras_serializable(package="nagd_keras")
class OneCycle(Schedule):
    r"""From `initial` to `peak`, and on to `final`.

    With $N$ = `total_steps` and $p$ = `peak_fraction`, the peak is at step $pN - 1$ and the end
    at step $N - 1$, as in PyTorch. Between two values $a$ and $b$, a fraction $x$ of the way is

    $$\text{cosine:}\ a \cos^2(\pi x / 2) + b \sin^2(\pi x / 2), \qquad
      \text{linear:}\ a (1 - x) + b x.$$

    Args:
        initial: the value at step 0. It and the next two are in $[0, \infty)$.
        peak: the value at the peak. A momentum moves against the learning rate, so its peak is its
            smallest value.
        final: the value at the end and after it.
        total_steps: $N$, the length of the cycle in steps.
        peak_fraction: $p$, the fraction of the cycle up to the peak, in (0, 1).
        anneal: `"cosine"` or `"linear"`.
        three_phase: whether the way down is as long as the way up and leads back to `initial`. The
            rest of the cycle then leads from there to `final`. Needs $p \le 1/2$.

    Raises:
        ValueError: for a cycle so short that one of its phases has no length.

    Example:
        >>> from nagd_keras import schedules
        >>> schedule = schedules.OneCycle(0.04, 1.0, 4e-6, total_steps=100)
        >>> [round(float(schedule(t)), 6) for t in (0, 29, 64, 99, 1000)]
        [0.04, 1.0, 0.500002, 4e-06, 4e-06]

    References:
        Smith & Topin (2018), Super-Convergence: Very Fast Training of Neural Networks Using Large
        Learning Rates; Smith (2018), A disciplined approach to neural network hyper-parameters.
    """

    def __init__(
        self,
        initial: float,
        peak: float,
        final: float,
        total_steps: int,
        peak_fraction: float = 0.3,
        anneal: Anneal = "cosine",
        three_phase: bool = False,
    ) -> None:
        self.initial = value("initial", initial)
        self.peak = value("peak", peak)
        self.final = value("final", final)
        self.total_steps = count("total_steps", total_steps)
        self.peak_fraction = value("peak_fraction", peak_fraction, supremum=1.0)
        self.anneal = choice("anneal", anneal, get_args(Anneal))
        self.three_phase = boolean("three_phase", three_phase)
        marks = [step for step, _ in self._corners()]
        if any(end <= start for start, end in itertools.pairwise(marks)):
            raise ValueError(
                f"Each phase of the cycle must have a length, but its corners are at the steps "
                f"{[round(mark, 3) for mark in marks]}. Received: total_steps={total_steps}, "
                f"peak_fraction={peak_fraction}, three_phase={three_phase}. Take "
                f"more steps, or move the peak"
                f"{' to one half or less' if three_phase else ''}."
            )

    def _corners(self) -> list[tuple[float, float]]:
        """Returns the steps and values between which the schedule moves, as PyTorch has them."""
        up = self.peak_fraction * self.total_steps
        corners = [(0.0, self.initial), (up - 1, self.peak)]
        if self.three_phase:
            corners.append((2 * up - 2, self.initial))
        return [*corners, (self.total_steps - 1.0, self.final)]

    def value(self, step: Any) -> Any:
        """Returns the value at a tensor of steps."""
        corners = self._corners()
        value = None
        for (start, a), (end, b) in itertools.pairwise(corners):
            # Both ways are measured from their own end, and neither is 1 minus the other: so the
            # small values near the end keep all their digits in float32.
            way = end - start
            done = ops.clip(since(step, start) / way, 0, 1)
            left = ops.clip(-since(step, end) / way, 0, 1)
            if self.anneal == "cosine":
                # On JAX Keras' sine of a float64 is a float32.
                done, left = (ops.square(real(ops.sin(math.pi / 2 * x))) for x in (done, left))
            # Not a rounding beyond.
            part = clipped(a * left + b * done, min(a, b), max(a, b))
            value = part if value is None else ops.where(since(step, start) > 0, part, value)
        return value
