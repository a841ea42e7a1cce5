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
TINY = 1e-3  # times the first learning rate: nothing is learned
LEAST = 1e-6  # Less of the loss may be rounding.
FEWEST = 5  # losses at the end, of which a standard error says something
SURE = 3.0  # standard errors


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
    if steps < FEWEST:
        return Suggestion(default, False, f"the optimizer's default: {steps} batches say little")
    last = float(first.learning_rates[-1])
    low = max(last / WIDTH, float(first.learning_rates[0]))
    finer: list[LearningRateSweep] = []
    while not finer or (len(finer) < MOST and not finer[-1].falls):
        sweep = run(np.geomspace(low, last, steps), math.inf, len(finer) + 1)
        if not sweep.is_over:  # Its data ended, unlike those of the first.
            return untried(first, default)
        finer.append(sweep.result())
    rate = float(np.exp(np.median(np.log([each.minimum for each in finer]))))

    def tried(rate: float) -> Sweep:
        return run(np.full(steps, rate), math.inf, 0)

    def trained(rate: float) -> np.ndarray:
        return tried(rate).all_losses()

    # The same batches, so that a trial is compared with what it began from, batch by batch.
    still = tried(TINY * float(first.learning_rates[0]))
    if still.is_spoiled:
        why = "a weight is not finite after updates too small to matter: look for NaN in the data"
        return Suggestion(default, False, f"the optimizer's default: {why}")
    untrained = still.all_losses()
    best = _Trial(rate, trained(rate), untrained)
    for power in range(1, TRIALS):
        lower = _Trial(rate / LOWER**power, trained(rate / LOWER**power), untrained)
        if best.is_sure and not (lower.is_sure and lower.level < best.level):
            break
        best = lower
    if best.is_sure:
        return Suggestion(best.rate, True, best.said())
    return Suggestion(default, False, f"the optimizer's default: {best.said()}")


def untried(first: LearningRateSweep, default: float) -> Suggestion:
    """Returns the learning rate if the data allow only the first sweep."""
    why = "the data cannot be gone through again"
    if first.falls:
        return Suggestion(first.minimum, False, f"not tried: {why}")
    return Suggestion(default, False, f"the optimizer's default: the loss did not fall, and {why}")


class _Trial:
    """The result of a short training run, beside the same batches without training."""

    def __init__(self, rate: float, losses: np.ndarray, untrained: np.ndarray) -> None:
        self.rate, self._number = rate, len(losses)
        self.level, self._falls = np.inf, -np.inf
        # A network that exploded may come down to a constant, and never learn.
        high = np.max(untrained) + max(abs(np.max(untrained)), np.ptp(untrained))
        if not np.max(losses) <= high < np.inf:
            return
        count = max(FEWEST, len(losses) // 4)
        before, end = untrained[-count:], losses[-count:]
        self._before, self.level = float(np.mean(before)), float(np.mean(end))
        fall = self._before - self.level
        if not fall > LEAST * max(abs(self._before), abs(self.level)):
            return
        error = np.std(before - end, ddof=1) / np.sqrt(count)
        # Full batches without dropout have no scatter.
        self._falls = fall / error if error > 0 else np.inf

    @property
    def is_sure(self) -> bool:
        """Whether the loss fell, and not by chance."""
        return self._falls > SURE

    def said(self) -> str:
        """Returns it in words."""
        if self.level == np.inf:
            return f"the loss exploded in {self._number} batches with {self.rate:.3g}"
        return (
            f"{self._number} batches with {self.rate:.3g} took the loss from {self._before:.4g} to "
            f"{self.level:.4g}, {self._falls:.3g} standard errors"
        )
