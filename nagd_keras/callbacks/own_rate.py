"""The optimizer's own learning rate, while a callback sets others."""

import math
from typing import Any

from nagd_keras.callbacks.memory import notes_of
from nagd_keras.tensors import number

_SAME = 1e-6  # The variable that holds the learning rate has the digits of a float32.


class OwnRate:
    """Knows the learning rate without the callback, and gives it back.

    A NAGD keeps it with its state: a run that was killed leaves the callback's learning rate, which
    the next run must not take for the optimizer's own. After the callback a guard may have lowered
    that by a factor.
    """

    def __init__(self, optimizer: Any, who: str, factor: float, value: float | None = None) -> None:
        """Reads the learning rate.

        Args:
            optimizer: the optimizer.
            who: the name of the callback.
            factor: what a guard has left of the learning rate.
            value: the learning rate that is to be its own from now on; None leaves it.
        """
        self._optimizer, self._notes = optimizer, notes_of(optimizer, who)
        now = number(optimizer.learning_rate)
        left = self._notes.get("set", math.nan) * factor / self._notes.get("factor", 1.0)
        if value is not None:
            self._notes["own"] = value
        elif not math.isclose(now, left, rel_tol=_SAME):
            self._notes["own"] = now
        self.value = float(self._notes["own"])

    def set(self, rate: float, factor: float) -> None:
        """Sets another one for now; takes what a guard has left, which is in it."""
        self._optimizer.learning_rate = rate
        self._notes["set"], self._notes["factor"] = rate, factor

    def give_back(self, factor: float) -> None:
        """Sets it again, multiplied by a factor."""
        self._optimizer.learning_rate = factor * self.value
        self._notes.clear()

    def leave(self, factor: float) -> None:
        """Leaves what it is now, and remembers its own, multiplied by a factor."""
        now = number(self._optimizer.learning_rate)  # Others may have lowered it after `set`.
        self._notes.update(own=factor * self.value, set=now, factor=1.0)
