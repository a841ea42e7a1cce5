"""Values of a schedule as plain numbers, computed for many steps at once.

Where nothing is compiled, a schedule of some ten operations on scalar tensors costs more than the
update of a small network. On many steps the same operations cost hardly more than on one.
"""

from typing import Any

import keras
import numpy as np
from keras.optimizers.schedules import LearningRateSchedule

LENGTH = 1024
# Of these a schedule is a pure function of the step. Another's may look at what changes meanwhile.
_PURE = "keras", "nagd_keras"
_PLAIN = bool, int, float, str, np.number, type(None)


class Table:
    """The values of one schedule at the steps around the last one that was asked for.

    Attributes:
        schedule: the schedule.
    """

    def __init__(self, schedule: LearningRateSchedule) -> None:
        """Takes the schedule."""
        self.schedule = schedule
        self._usable = True
        self._settings = _settings(schedule)
        self._start, self._values = 0, list[float]()

    def at(self, step: int) -> float | None:
        """Returns the value at a step; None if the schedule does not take many steps."""
        place, settings = step - self._start, _settings(self.schedule)
        if settings != self._settings or not 0 <= place < len(self._values):
            # Blocks begin at fixed steps: so a value does not depend on where a run resumes.
            self._settings, self._start = settings, step // LENGTH * LENGTH
            place, self._values = step - self._start, self._computed()
        return self._values[place] if self._values else None

    def _computed(self) -> list[float]:
        if not self._usable or self._settings is None:
            return []
        dtype = keras.backend.standardize_dtype("int")
        steps = keras.ops.arange(self._start, self._start + LENGTH, dtype=dtype)
        try:
            values = keras.ops.convert_to_numpy(self.schedule(steps))
        except Exception:  # of many kinds, from those that ask whether the step is beyond a mark
            values = None
        self._usable = values is not None and values.shape == (LENGTH,)
        return values.tolist() if values is not None and self._usable else []


def _settings(schedule: LearningRateSchedule) -> list[Any] | None:
    """Returns all numbers that a schedule computes with, or None if they may change unseen."""
    if type(schedule).__module__.partition(".")[0] not in _PURE:
        return None
    found: list[Any] = []
    for value in vars(schedule).values():
        for each in value if isinstance(value, (list, tuple)) else (value,):
            part = _settings(each) if isinstance(each, LearningRateSchedule) else [each]
            if part is None or not all(isinstance(x, _PLAIN) for x in part):
                return None
            found += part
    return found
