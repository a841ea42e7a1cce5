"""What to do about a learning rate that was too high."""

import math
from collections.abc import Sequence

from nagd_keras.callbacks.divergence import Divergence
from nagd_keras.callbacks.rollbacks import Rollbacks
from nagd_keras.nagd import NAGD
from nagd_keras.tensors import number

_LARGE = 100.0  # a loss of targets whose standard deviation is about 10


class Advice:
    """Knows the learning rate before training, and compares it with that after rollbacks."""

    def __init__(self, optimizer: NAGD) -> None:
        """Reads it."""
        self._optimizer = optimizer
        self._rate, self._left = number(optimizer.learning_rate), Rollbacks.left(optimizer)

    def text(self, events: Sequence[Divergence], start: float) -> str:
        """Returns what to say at the end, or nothing.

        Args:
            events: the rollbacks.
            start: the loss at the beginning, NaN if it is not known.
        """
        left, now = (
            Rollbacks.left(self._optimizer) / self._left,
            number(self._optimizer.learning_rate),
        )
        said = []
        if left < 1:
            it = "the learning rate was"
            if not any(event.is_of_rate for event in events):
                it = f"unless batches are spoiled, {it}"
            said.append(f"{it} about {float(f'{1 / left:.2g}'):,g} times too high")
            # A schedule, or another callback, may have given it another value meanwhile.
            is_set = math.isclose(now, left * self._rate, rel_tol=1e-3)
            said.append(
                f"compile with about {now:.3g} instead of {self._rate:.3g}"
                if is_set
                else f"multiply what you gave, or the peak of the schedule, by {left:.3g}"
            )
        if events and start > _LARGE:
            said.append(
                f"the loss began at {start:.4g}: if that is so because targets of a regression are "
                "large, standardize them (subtract their mean, divide by their standard deviation)"
            )
        text = "; ".join(said)
        return text[:1].upper() + text[1:]
