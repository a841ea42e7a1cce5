"""How often a training run went back, and what its learning rate lost by it."""

import math
from typing import Any

from nagd_keras.callbacks.state import Memory, Number
from nagd_keras.nagd import NAGD
from nagd_keras.tensors import number

_PLACES = Number.GUARD_ROLLBACKS, Number.GUARD_SINCE, Number.GUARD_RATE


class Rollbacks:
    """Counts rollbacks and lowers the learning rate; kept with the optimizer's state.

    Attributes:
        count: the rollbacks since the start, or since the learning rate was given back.
    """

    def __init__(self, optimizer: NAGD, factor: float) -> None:
        """Takes up what the optimizer's state holds.

        Args:
            optimizer: the optimizer.
            factor: what each rollback multiplies the learning rate by.
        """
        self._optimizer, self._factor = optimizer, factor
        count, self._since, self._before = (Memory(optimizer)[place] for place in _PLACES)
        self.count = 0 if math.isnan(count) else int(count)

    @staticmethod
    def forget(optimizer: NAGD) -> None:
        """Begins anew, with the learning rate as it is."""
        Memory(optimizer).clear(*_PLACES)

    def add(self, batches: int) -> None:
        """Counts a rollback and lowers the learning rate.

        Args:
            batches: those that the optimizer has made.
        """
        before = self._before
        if self._factor != 1:
            if self.count == 0:
                before = number(self._optimizer.learning_rate_scale)
            self._optimizer.scale_learning_rate(self._factor)
        self._keep(self.count + 1, batches, before)

    def batches_since(self, batches: int) -> float:
        """Returns the number of batches since the last rollback, of those made; NaN without one."""
        return batches - self._since

    def give_back(self) -> None:
        """Gives the learning rate what it lost, and begins to count anew."""
        now: Any = None
        if self._factor != 1:
            now = number(self._optimizer.learning_rate_scale)
        if now:
            whole = now / self._factor**self.count
            # No more than it was: a callback may have set it meanwhile.
            self._optimizer.scale_learning_rate(min(whole, max(now, self._before)) / now)
        self._keep(0, math.nan, math.nan)

    def _keep(self, count: int, since: float, before: float) -> None:
        self.count, self._since, self._before = count, since, before
        memory = Memory(self._optimizer)
        for place, each in zip(_PLACES, (count, since, before), strict=True):
            memory[place] = each
