"""What of a training run can be given back: its last good state."""

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras

from nagd_keras import keras_private as private
from nagd_keras.backends.backend import Backend
from nagd_keras.backends.current import current
from nagd_keras.nagd import NAGD
from nagd_keras.state.slots import ACCUMULATOR, AVERAGE, DISPLACEMENT
from nagd_keras.tensors import copied, global_norm, number, tensor

# Of the numbers, those that resetting the momentum changes.
_MOMENTUM = "age", "velocity_norm"
FAR = 1.0  # the distance of weights from where they began, in units of their length there


class State(NamedTuple):
    """A state that is kept.

    Attributes:
        values: what the variables held.
        where: when that was in the training, in words.
        losses: those that were in line before.
        is_first: whether it is that of the beginning.
    """

    values: list[Any]
    where: str
    losses: tuple[float, ...] = ()
    is_first: bool = False


class Reading(NamedTuple):
    """What the variables hold at the end of a batch.

    Attributes:
        values: those of what would be restored; none if weights were not asked for.
        not_finite: the weights that have an element that is not finite, if they were asked for.
        metrics: the values behind the logs.
        skipped: the updates that NAGD skipped since its start.
        made: the batches that NAGD was given since its start.
    """

    values: list[Any]
    not_finite: list[Any]
    metrics: list[Any]
    skipped: int
    made: int


class Watched:
    """The variables of a model that trains, by what becomes of them when the guard goes back.

    Attributes:
        model: the model.
        optimizer: its NAGD.
        weights: the model's weights, the statistics of normalization among them.
        restored: the weights, and what NAGD has of each, such as averages, get their former values;
            displacements only if the momentum is kept, which else is reset, so that none need be.
        cleared: what gradients are accumulated in is zero afterwards.
        metrics: those behind the logs, some of which Keras makes in the first step.
        watches_metrics: whether that is over.
        fresh_averages: those that no update has set yet, with the variables that they average.
    """

    def __init__(self, model: Any, optimizer: NAGD, keeps_momentum: bool) -> None:
        """Sorts the variables of a built model and its built optimizer."""
        self.model, self.optimizer = model, optimizer
        self.weights: list[Any] = list(model.weights)
        self.metrics: list[Any] = []
        self.watches_metrics = False
        slots: dict[str, list[Any]] = {}
        for kind, _, slot in optimizer._state.slots.items():
            slots.setdefault(kind, []).append(slot)
        self.cleared = slots.pop(ACCUMULATOR, [])
        if not keeps_momentum:
            slots.pop(DISPLACEMENT, None)
        scalars = optimizer._state.scalars
        # What directions remember of each weight belongs to so many updates.
        numbers = [scalars[x] for x in ("updates", *(_MOMENTUM if keeps_momentum else ()))]
        self.restored = [*self.weights, *(v for slot in slots.values() for v in slot), *numbers]
        self._floats = [v for v in self.weights if keras.backend.is_float_dtype(v.dtype)]
        self._counters = [private.batches(optimizer), optimizer.skipped_updates]
        everything = [*self._counters, *self.restored]
        self._reads_all = self._reads_notes = Backend().reader(everything, self._floats)
        pairs = zip(optimizer._state.slots[AVERAGE], optimizer._state.trained, strict=True)
        is_first = number(optimizer.iterations) == 0
        self.fresh_averages = [(a, v) for a, v in pairs if is_first and a is not None]

    def watch_metrics(self) -> None:
        """Takes note of the metrics, once all are there."""
        self.watches_metrics = True
        self.metrics = list(self.model.metrics_variables)
        notes = [*self.metrics, *self._counters]
        self._reads_notes = current.reader(notes, [])
        self._reads_all = current.reader([*notes, *self.restored], self._floats)

    def read(self, weights: bool) -> Reading:
        """Returns what the variables hold, in memory that training does not touch."""
        values, finite = self._reads_all() if weights else self._reads_notes()
        n = len(self.metrics)
        made, skipped = number(values[n]), number(values[n + 1])
        return Reading(
            values[len(values) - len(self.restored) :] if weights else [],
            [] if number(finite) else [v for v in self._floats if not _is_finite(v)],
            values[:n],
            int(skipped),
            int(made),
        )

    def updates_skipped(self, before: Reading, now: Reading, batches: int, bad: bool) -> bool:
        """Whether updates of the batches between two readings were skipped.

        Args:
            before: the reading before the batches.
            now: that after them.
            batches: their number.
            bad: whether their loss is not finite.
        """
        # A wrapper that scales losses does not even call NAGD.
        wrapped = self.model.optimizer is not self.optimizer and now.made - before.made < batches
        # What was accumulated is not finite, and will be skipped when it is its turn.
        steps = self.optimizer.gradient_accumulation_steps or 1
        accumulated = bad and self.optimizer.skip_nonfinite and now.made % steps != 0
        return now.skipped > before.skipped or wrapped or accumulated


def _is_finite(variable: Any) -> bool:
    return bool(number(keras.ops.all(keras.ops.isfinite(tensor(variable)))))


def _moved(value: Any, kept: Any) -> float | None:
    """Returns the distance to what was kept over the length of that, None if that is zero."""
    length = number(global_norm([kept]))
    if length == 0:
        return None
    distance = number(global_norm([tensor(value) - kept])) / length
    return distance if math.isfinite(distance) else math.inf


def assign(variables: Sequence[Any], values: Sequence[Any]) -> None:
    """Sets variables to what `reader` read of them, which stays as it is."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(copied(value))


class Kept:
    """Keeps the last state that is known to be good, a candidate, the best one, and the first.

    A candidate is known to be good when a loss is that was computed with its weights.
    """

    def __init__(self, watched: Watched, first: State) -> None:
        """Takes the first state for a good one, and for the best."""
        self._watched = watched
        self._first: State | None = first
        self._best = self._good = first
        self._candidate: State | None = None

    def take(self, now: State) -> None:
        """Takes the present state for the candidate."""
        self._candidate = now

    def promote(self) -> None:
        """Takes the candidate, if there is one, for good."""
        if self._candidate is not None:
            self._good, self._candidate = self._candidate, None

    def prefer(self) -> None:
        """Takes the good state for the best."""
        self._best = self._good

    def settle(self) -> None:
        """Gives the first state up, with its memory, if it is not the best."""
        self._first = None

    def is_far(self, best: bool = False) -> bool:
        """Whether the latest state, or the best one, is far from the first, if that is still kept.

        Such weights are spoiled, though their losses may not show it, as where units are dead.
        """
        return self._distance((self._best if best else self._latest()).values) > FAR

    def restore(self, best: bool = False) -> State:
        """Brings the good state back, or the best one, and gives the candidate up."""
        self._good, self._candidate = self._best if best else self._good, None
        return self.undo()

    def begin_anew(self) -> State:
        """Brings the first state back, which must be kept, and gives the others up."""
        self._best = self._first or self._best
        return self.restore(best=True)

    def moved(self) -> float:
        """Returns how far the weights are from those of the first state, as `_distance` does."""
        return self._distance(self._watched.weights)

    def _distance(self, values: Sequence[Any]) -> float:
        """Returns what half of the matrices have moved, in units of their lengths at first.

        Vectors, and what begins at zero, have no length that says how large they should be.
        """
        if self._first is None:
            return 0.0
        found = [
            _moved(value, kept)
            for weight, value, kept in zip(
                self._watched.weights, values, self._first.values, strict=False
            )
            if weight.trainable and len(weight.shape) > 1
        ]
        return statistics.median_low([each for each in found if each is not None] or [0.0])

    def undo(self) -> State:
        """Brings the latest state back, be it good or a candidate."""
        assign(self._watched.restored, self._latest().values)
        if self._latest().is_first:
            # They are zeros: Keras sets them in the update of its first step, which is over.
            for average, variable in self._watched.fresh_averages:
                average.assign(copied(variable))
        for variable in self._watched.cleared:
            variable.assign(keras.ops.zeros(variable.shape, variable.dtype))
        return self._latest()

    def _latest(self) -> State:
        return self._candidate or self._good

    def mend(self) -> None:
        """Gives weights that are not trained their last values, if they are not finite."""
        for variable, value in zip(self._watched.weights, self._latest().values, strict=False):
            if not variable.trainable and not _is_finite(variable):
                variable.assign(copied(value))
