"""How often a training run went back, and what its learning rate lost by it."""

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

    @property
    def count(self) -> int:
        """The rollbacks since the start, or since the learning rate was given back."""
        return int(self._notes.get("rollbacks", 0))

    def add(self, batches: int) -> None:
        """Counts a rollback and lowers the learning rate.

        Args:
            batches: those that the optimizer has made.
        """
        if self._factor != 1:
            if self.count == 0:
                self._notes["rate"] = number(self._optimizer.learning_rate_scale)
            self._optimizer.scale_learning_rate(self._factor)
        self._notes["rollbacks"], self._notes["since"] = self.count + 1, batches

    def is_over(self, batches: int, recovery: int) -> bool:
        """Whether there was a rollback, and so many batches since then, of those made."""
        since = self._notes.get("since")
        return since is not None and batches - since >= recovery

    def give_back(self) -> None:
        """Gives the learning rate what it lost, and begins to count anew."""
        now = number(self._optimizer.learning_rate_scale) if self._factor != 1 else 0.0
        if now:
            whole = now / self._factor**self.count
            # No more than it was: a callback may have set it meanwhile.
            self._optimizer.scale_learning_rate(min(whole, max(now, self._notes["rate"])) / now)
        self._notes.clear()
