"""The one learning rate that a range test suggests."""

import math
from collections.abc import Callable

import numpy as np

from nagd_keras.callbacks.learning_rate_sweep import LearningRateSweep, Suggestion
from nagd_keras.callbacks.sweep import Sweep

# The finer sweep goes through so many times its first learning rate, up to where the first ended.
WIDTH = 1e3
MOST = 3  # finer sweeps, where the first has no clear answer
LOWER = 3.0  # by this factor a learning rate is lowered
TRIALS = 6
LEAST = 1e-6  # Less of the loss may be rounding.
SURE = 3.0  # standard errors of the mean loss


def suggested(
    first: LearningRateSweep, run: Callable[..., Sweep], steps: int, default: float
) -> Suggestion:
    """Returns the learning rate to train with.

    Args:
        first: the sweep through all learning rates, which shows where the loss explodes.
        run: a function of learning rates, of the multiple of the smallest smoothed loss at which
            to stop, and of the number of the repeat, which chooses the batches. It trains.
        steps: the number of batches of each run.
        default: the learning rate to suggest if the data give no answer.
    """
    last = float(first.learning_rates[-1])
    low = max(last / WIDTH, float(first.learning_rates[0]))
    finer: list[LearningRateSweep] = []
    while not finer or (len(finer) < MOST and not finer[-1].falls):
        sweep = run(np.geomspace(low, last, steps), math.inf, len(finer) + 1)
        if not sweep.is_over:  # Its data ended, unlike those of the first.
            return untried(first, default)
        finer.append(sweep.result())
    rate = float(np.exp(np.median(np.log([each.minimum for each in finer]))))
    # Of the first tenth, where the learning rate is tiny.
    untrained = first.losses[: max(2, len(first.losses) // 10)]

    def trial(rate: float) -> _Trial:
        return _Trial(rate, run(np.full(steps, rate), math.inf, 0).all_losses(), untrained)

    best = trial(rate)
    for power in range(1, TRIALS):
        lower = trial(rate / LOWER**power)
        if best.falls > SURE and lower.level >= best.level:
            break
        best = lower
    if best.falls > SURE:
        return Suggestion(best.rate, True, best.said())
    return Suggestion(default, False, f"the optimizer's default: {best.said()}")


def untried(first: LearningRateSweep, default: float) -> Suggestion:
    """Returns the learning rate if the data allow only the first sweep."""
    why = "the data cannot be gone through again"
    if first.falls:
        return Suggestion(first.minimum, False, f"not tried: {why}")
    return Suggestion(default, False, f"the optimizer's default: the loss did not fall, and {why}")


class _Trial:
    """The result of a short training run."""

    def __init__(self, rate: float, losses: np.ndarray, untrained: np.ndarray) -> None:
        self.rate, self._number, self._before = rate, len(losses), float(np.mean(untrained))
        self.level, self.falls = np.inf, -np.inf
        # A network that exploded may come down to a constant, and never learn.
        high = np.max(untrained) + max(abs(np.max(untrained)), np.ptp(untrained))
        if len(losses) < 2 or not np.max(losses) <= high:
            return
        end = losses[-max(2, len(losses) // 4) :]
        self.level = float(np.mean(end))
        error = np.sqrt(np.var(untrained) / len(untrained) + np.var(end) / len(end))
        fall = self._before - self.level
        if not fall > LEAST * max(abs(self._before), abs(self.level)):
            return
        # Full batches without dropout have no scatter.
        self.falls = fall / error if error > 0 else np.inf

    def said(self) -> str:
        """Returns it in words."""
        if self.level == np.inf:
            return f"the loss exploded in {self._number} batches with {self.rate:.3g}"
        return (
            f"{self._number} batches with {self.rate:.3g} took the loss from {self._before:.4g} to "
            f"{self.level:.4g}, {self.falls:.3g} standard errors"
        )
