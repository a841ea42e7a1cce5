"""Values of a schedule as plain numbers, computed for many steps at once.

Where nothing is compiled, a schedule of some ten operations on scalar tensors costs more than the
update of a small network. On many steps the same operations cost hardly more than on one.
"""

from collections.abc import Iterator
from typing import Any

import keras
from keras.optimizers.schedules import LearningRateSchedule

LENGTH = 1024
# Of these a schedule is a pure function of the step. Another's may look at what changes meanwhile.
_PURE = "keras", "nagd_keras"


class Table:
    """The values of one schedule at the steps around the last one that was asked for.

    Attributes:
        schedule: the schedule.
    """

    def __init__(self, schedule: LearningRateSchedule) -> None:
        """Takes the schedule."""
        self.schedule = schedule
        self._usable = _is_pure(schedule)
        self._start, self._values = 0, list[float]()

    def at(self, step: int) -> float | None:
        """Returns the value at a step; None if the schedule does not take many steps."""
        place = step - self._start
        if not 0 <= place < len(self._values):
            # Blocks begin at fixed steps: so a value does not depend on where a run resumes.
            self._start = step // LENGTH * LENGTH
            place, self._values = step - self._start, self._computed()
        return self._values[place] if self._values else None

    def _computed(self) -> list[float]:
        if not self._usable:
            return []
        dtype = keras.backend.standardize_dtype("int")
        steps = keras.ops.arange(self._start, self._start + LENGTH, dtype=dtype)
        try:
            values = keras.ops.convert_to_numpy(self.schedule(steps))
        except Exception:  # of many kinds, from those that ask whether the step is beyond a mark
            values = None
        self._usable = values is not None and values.shape == (LENGTH,)
        return values.tolist() if values is not None and self._usable else []


def _is_pure(schedule: Any) -> bool:
    own = type(schedule).__module__.partition(".")[0] in _PURE
    return own and all(_is_pure(each) for each in _parts(schedule))


def _parts(schedule: Any) -> Iterator[LearningRateSchedule]:
    for value in vars(schedule).values():
        for each in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(each, LearningRateSchedule):
                yield each
