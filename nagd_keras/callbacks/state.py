"""Numbers that a callback must remember from epoch to epoch, kept where they are saved.

A callback's attributes are lost when training is interrupted and resumed in a new process. NAGD
therefore has a variable with room for them, which is saved and restored with its state.
"""

import math
import warnings
from enum import IntEnum
from typing import Any
from weakref import WeakKeyDictionary, ref

import keras
import numpy as np

from nagd_keras.nagd import NAGD
from nagd_keras.tensors import put


class Number(IntEnum):
    """The place of each number in `NAGD.callback_state`; NaN stands for none."""

    RESTART_OBJECTIVE = 0
    RESTART_EPOCH = 1
    TOLERANCE_LOSS = 2
    TOLERANCE_WAIT = 3
    TOLERANCE_EPOCH = 4
    GUARD_ROLLBACKS = 5
    GUARD_SINCE = 6
    GUARD_RATE = 7


_OWNERS: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()


def take(optimizer: Any, role: str, callback: Any) -> None:
    """Notes, when training begins, which callback has a role that only one can have."""
    _OWNERS.setdefault(optimizer, {})[role] = ref(callback)


def check_alone(optimizer: Any, role: str, callback: Any) -> None:
    """Raises, before the first epoch, if another callback has taken the role.

    Raises:
        ValueError: if so.
    """
    owner = _OWNERS.get(optimizer, {}).get(role)
    other = callback if owner is None else owner()
    if other is not callback:
        both = f"{type(callback).__name__} and {type(other).__name__}"
        raise ValueError(f"Only one callback of a fit can {role}. Received: {both}. Leave one.")


class Memory:
    """The numbers of the callbacks of one optimizer; of another than NAGD, not saved with it."""

    def __init__(self, optimizer: Any) -> None:
        """Finds the variable of a NAGD, or makes an array for another optimizer."""
        self._variable = optimizer.callback_state if isinstance(optimizer, NAGD) else None
        self._array = np.full(len(Number), np.nan)

    def clear(self, *places: Number) -> None:
        """Forgets the numbers at some places."""
        for place in places:
            self[place] = math.nan

    def warn_if_behind(self, place: Number, epoch: int, who: str) -> None:
        """Warns if, where an epoch begins, the epoch kept at a place is not the one before."""
        if self[place] == epoch - 2:
            warnings.warn(
                f"Training goes on in epoch {epoch + 1} from a state that was saved before {who} "
                f"had done its work at the end of epoch {epoch}, which is lost. Put callbacks "
                f"that save, such as BackupAndRestore, behind {who} in the list.",
                stacklevel=2,
            )

    def __getitem__(self, place: Number) -> float:
        """Returns the number at a place."""
        return float(self._values()[place])

    def __setitem__(self, place: Number, value: float) -> None:
        """Keeps a number at a place, rounded to the precision of the variable."""
        values = self._values()
        values[place] = value
        if self._variable is None:
            self._array = values
        else:
            put(self._variable, values)

    def _values(self) -> Any:
        if self._variable is None:
            return self._array.copy()
        return np.array(keras.ops.convert_to_numpy(self._variable))

    def rounded(self, value: float) -> float:
        """Returns a number as it would be kept."""
        return float(self._values().dtype.type(value))
