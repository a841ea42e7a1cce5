"""How often a training run went back, and what its learning rate lost by it."""

from typing import Any

from nagd_keras.callbacks.memory import notes_of
from nagd_keras.nagd import NAGD
from nagd_keras.tensors import number

_NAME = "DivergenceGuard"


class Rollbacks:
    """Counts rollbacks and lowers the learning rate; kept with the optimizer's state."""

    def __init__(self, optimizer: NAGD, factor: float) -> None:
        """Takes up what the optimizer's state holds.

        Args:
            optimizer: the optimizer.
            factor: what each rollback multiplies the learning rate by.
        """
        self._optimizer, self._factor = optimizer, factor
        self._notes = notes_of(optimizer, _NAME)

    @staticmethod
    def forget(optimizer: NAGD) -> None:
        """Begins anew, with the learning rate as it is."""
        notes_of(optimizer, _NAME).clear()

    @staticmethod
    def left(optimizer: Any) -> float:
        """Returns what rollbacks of the running fit left of the learning rate, in (0, 1]."""
        return float(notes_of(optimizer, _NAME).get("left", 1.0))

    def settle(self) -> None:
        """Ends a fit: what was lost belongs to the optimizer's learning rate from now on."""
        if "left" in self._notes:
            self._notes["before"] = self._notes.pop("left") * self._notes.get("before", 1.0)

    @property
    def count(self) -> int:
        """The rollbacks since the start, or since the learning rate was given back."""
        return int(self._notes.get("rollbacks", 0))

    def add(self, batches: int, power: int = 1) -> None:
        """Counts a rollback and lowers the learning rate.

        Args:
            batches: those that the optimizer has made.
            power: that of the factor.
        """
        if self._factor != 1:
            if self.count == 0:
                self._notes["rate"] = number(self._optimizer.learning_rate_scale)
            self._scale(self._factor**power)
        self._notes["rollbacks"], self._notes["since"] = self.count + 1, batches

    def _scale(self, factor: float) -> None:
        self._optimizer.scale_learning_rate(factor)
        self._notes["left"] = self.left(self._optimizer) * factor

    def take_back(self, power: int) -> None:
        """Takes back the last rollback, which was one with that power of the factor."""
        if self._factor != 1:
            self._scale(self._factor**-power)
        self._notes["rollbacks"] = self.count - 1

    def is_over(self, batches: int, recovery: int) -> bool:
        """Whether there was a rollback, and so many batches since then, of those made."""
        since = self._notes.get("since")
        return since is not None and batches - since >= recovery

    def give_back(self) -> None:
        """Gives the learning rate what it lost, and begins to count anew."""
        now = number(self._optimizer.learning_rate_scale) if self._factor != 1 else 0.0
        if now:
            left = self.left(self._optimizer) * self._notes.get("before", 1.0)
            # Notes that were saved by an earlier version do not have the product.
            whole = now / (left if left < 1 else self._factor**self.count)
            # No more than it was: a callback may have set it meanwhile.
            self._optimizer.scale_learning_rate(min(whole, max(now, self._notes["rate"])) / now)
        self._notes.clear()
