"""What of a training run can be given back: its last good state, in memory or on disk."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import keras

from nagd_keras import saving
from nagd_keras.nagd import NAGD
from nagd_keras.tensors import all_finite, number, tensor, total

Reader: TypeAlias = Callable[[], tuple[list[Any], Any]]
_MOMENTUM = "displacement", "age", "velocity_norm"  # what resetting the momentum sees to


class State(NamedTuple):
    """A state that is kept.

    Attributes:
        values: what the variables held.
        where: when that was in the training, in words.
        losses: those that were in line before.
    """

    values: list[Any]
    where: str
    losses: tuple[float, ...] = ()


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
        staying: all others: the counters and hyperparameters, which follow the clock and other
            callbacks, the seeds, and the scale of losses.
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
        for name, variable in optimizer.named_variables().items():
            if name.path or name.slot in _MOMENTUM:  # The others belong to no weight.
                slots.setdefault(name.slot, []).append(variable)
        self.cleared = slots.pop("gradient_accumulator", [])
        reset = [] if keeps_momentum else [v for name in _MOMENTUM for v in slots.pop(name, [])]
        self.restored = [*self.weights, *(v for slot in slots.values() for v in slot)]
        changed = {id(v) for v in (*self.restored, *self.cleared, *reset)}
        present = (*model.variables, *model.optimizer.variables, *optimizer.variables)
        self.staying = [v for v in {id(v): v for v in present}.values() if id(v) not in changed]
        self._floats = [v for v in self.weights if keras.backend.is_float_dtype(v.dtype)]
        self._counters = [optimizer._iterations]
        if optimizer.skip_nonfinite:
            self._counters.append(optimizer.skipped_updates)
        everything = [*self._counters, *self.restored]
        self._reads_all: Reader = partial(_read, everything, self._floats)
        self._reads_notes: Reader = self._reads_all
        averages = getattr(optimizer, "_model_variables_moving_average", [])
        pairs = zip(averages, optimizer.trained_variables, strict=False)
        is_first = number(optimizer.iterations) == 0
        self.fresh_averages = [(a, v) for a, v in pairs if is_first and a is not None]

    def watch_metrics(self) -> None:
        """Takes note of the metrics, once all are there."""
        self.watches_metrics = True
        self.metrics = list(self.model.metrics_variables)
        notes = [*self.metrics, *self._counters]
        self._reads_notes = reader(notes, [])
        self._reads_all = reader([*notes, *self.restored], self._floats)

    def read(self, weights: bool) -> Reading:
        """Returns what the variables hold, in memory that training does not touch."""
        values, finite = self._reads_all() if weights else self._reads_notes()
        n = len(self.metrics)
        made, skipped = number(values[n]), 0.0
        if self.optimizer.skip_nonfinite:
            skipped = number(values[n + 1])
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


def reader(variables: Sequence[Any], checked: Sequence[Any]) -> Reader:
    """Returns a function that returns the variables' values, and whether others are finite.

    The values are not the training's: its steps may write over the memory of a variable's, or give
    it away. Whether others are finite is told by their sums, which may overflow where they are.
    """
    if keras.backend.backend() == "tensorflow":
        from nagd_keras.callbacks import _tensorflow

        return _tensorflow.reader(variables, checked)
    if keras.backend.backend() == "jax":
        from nagd_keras.callbacks import _jax

        return _jax.reader(variables, checked)
    return partial(_read, variables, checked)


def _read(variables: Sequence[Any], checked: Sequence[Any]) -> tuple[list[Any], Any]:
    sums = [total(keras.ops.stop_gradient(tensor(v))) for v in checked]
    return [copied(v) for v in variables], all_finite(sums) if sums else True


def copied(value: Any) -> Any:
    """Returns the value of a variable or tensor in memory that nothing else writes to."""
    return keras.ops.copy(keras.ops.stop_gradient(tensor(value)))


def assign(variables: Sequence[Any], values: Sequence[Any]) -> None:
    """Sets variables to what `reader` read of them, which stays as it is."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(copied(value))


class InMemory:
    """Keeps two states: the last one that is known to be good, and a candidate.

    A candidate is known to be good when a loss is that was computed with its weights.
    """

    def __init__(self, watched: Watched, first: State) -> None:
        """Takes the first state for a good one."""
        self._watched = watched
        self._first = self._good = first
        self._candidate: State | None = None

    def take(self, now: State) -> None:
        """Takes the present state for the candidate."""
        self._candidate = now

    def promote(self) -> None:
        """Takes the candidate, if there is one, for good."""
        if self._candidate is not None:
            self._good, self._candidate = self._candidate, None

    def restore(self) -> State:
        """Brings the good state back, and gives the candidate up."""
        self._candidate = None
        return self.undo()

    def undo(self) -> State:
        """Brings the latest state back, be it good or a candidate."""
        self._load()
        if self._latest() is self._first:
            # They are zeros: Keras sets them in the update of its first step, which is over.
            for average, variable in self._watched.fresh_averages:
                average.assign(copied(variable))
        for variable in self._watched.cleared:
            variable.assign(keras.ops.zeros(variable.shape, variable.dtype))
        return self._latest()

    def _latest(self) -> State:
        return self._candidate or self._good

    def _load(self) -> None:
        assign(self._watched.restored, self._latest().values)

    def mend(self) -> None:
        """Gives weights that are not trained their last values, if they are not finite."""
        for variable, value in zip(self._watched.weights, self._latest().values, strict=False):
            if not variable.trainable and not _is_finite(variable):
                variable.assign(copied(value))

    def close(self) -> None:
        """Ends it."""


class OnDisk(InMemory):
    """Keeps the two states in two files of a folder."""

    def __init__(self, watched: Watched, first: State, folder: Path) -> None:
        """Writes the first state.

        Raises:
            OSError: if it cannot be written; the message names it.
        """
        super().__init__(watched, self._not_trained(watched, first))
        self._folder, self._is_ours = folder, not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        self._paths = [folder / f"{name}.weights.h5" for name in ("good", "candidate")]
        saving.save_weights(watched.model, self._paths[0])

    @staticmethod
    def _not_trained(watched: Watched, state: State) -> State:
        """Returns what is kept in memory all the same: what `mend` needs."""
        pairs = zip(watched.weights, state.values, strict=False)
        return state._replace(values=[None if v.trainable else value for v, value in pairs])

    def take(self, now: State) -> None:
        """Writes the present state for the candidate."""
        saving.save_weights(self._watched.model, self._paths[1])
        super().take(self._not_trained(self._watched, now))

    def promote(self) -> None:
        """Has the candidate's file take the place of the good one's."""
        if self._candidate is not None:
            os.replace(self._paths[1], self._paths[0])
        super().promote()

    def _load(self) -> None:
        # A file holds all there is.
        staying = [copied(v) for v in self._watched.staying]
        path = self._paths[self._candidate is not None]
        saving.check(path, sealed=True)
        saving.load_weights(self._watched.model, path)
        assign(self._watched.staying, staying)

    def close(self) -> None:
        """Deletes the files, and the folder if it was made for them."""
        for path in self._paths:
            path.unlink(missing_ok=True)
        if self._is_ours:
            with suppress(OSError):  # Somebody else may keep something there.
                self._folder.rmdir()
