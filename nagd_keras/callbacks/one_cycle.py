"""One cycle of the learning rate and, on request, of the momentum against it."""

import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from nagd_keras import schedules
from nagd_keras.arguments import call_of, optional, positive, value
from nagd_keras.callbacks.learning_rate_sweep import LearningRateSweep
from nagd_keras.callbacks.listed import listed_with
from nagd_keras.callbacks.optimizers import (
    check_settable,
    finished_batches,
    optimizer_of,
    synchronize,
)
from nagd_keras.callbacks.own_rate import OwnRate
from nagd_keras.callbacks.rollbacks import Rollbacks
from nagd_keras.callbacks.together import CYCLE, MOMENTUM, SCALE, check
from nagd_keras.nagd import NAGD
from nagd_keras.schedules.one_cycle import Anneal
from nagd_keras.tensors import number

_NAME = "OneCycle"
_AT_ONCE = 1024  # steps whose values are computed together: one by one would cost more than a batch


class OneCycle(keras.callbacks.Callback):
    r"""Raises the learning rate to a peak and lowers it to nearly 0, over the whole fit.

    It rises from `peak / initial_divisor` to the peak and falls to `peak / initial_divisor /
    final_divisor`, along the half waves of `nagd_keras.schedules.OneCycle`. The values are those of
    PyTorch's `OneCycleLR` with the same settings.

    `OneCycle()` needs no number: the peak is the optimizer's own learning rate. The optimizer gets
    it back when the fit ends, so the next fit begins as this one did. A fit that was killed and
    resumed has the same peak. With a number or a `LearningRateSweep`, the last value of the cycle
    stays; a later `OneCycle()` has the same peak, unless you set the learning rate in between.

    The cycle spans all epochs of the running `fit`. With `total_steps` it spans that many batches
    of the optimizer (`optimizer.iterations`, unless gradients are accumulated), over several fits.
    A `DivergenceGuard` that lowers the learning rate lowers the rest of the cycle.

    Keras lets callbacks act only between executions: with `steps_per_execution`, give the
    optimizer a schedule instead. ReduceLROnPlateau and LearningRateScheduler have no effect beside
    this callback, and EarlyStopping may end it at a high learning rate; a warning says so.

    Args:
        max_learning_rate: the peak, in $(0, \infty)$; a `LearningRateSweep`, for its `suggested`;
            or None, for the optimizer's own learning rate.
        total_steps: the length of the cycle in batches. None: that of the running `fit`, whose
            number of batches must be known. Your own loop must give a number. After the cycle the
            last values hold, and a fit that goes on warns.
        momentum: the largest and the smallest momentum, in [0, 1). The momentum falls while the
            learning rate rises, and rises while it falls. None leaves the momentum alone; then any
            optimizer with a learning rate will do.
        warm_up_fraction: the fraction of the cycle in which the learning rate rises, in (0, 1).
        initial_divisor: the peak divided by the first learning rate, at least 1.
        final_divisor: the first learning rate divided by the last one, in $(0, \infty)$.
        anneal: `"cosine"` or `"linear"`.
        three_phase: whether the way down is as long as the way up. The rest of the cycle then leads
            from the first learning rate to the last. Needs `warm_up_fraction` ≤ 1/2.

    Raises:
        TypeError, ValueError: for an argument out of its range; before training starts, for a
            cycle too short for its phases, or an optimizer whose learning rate or momentum cannot
            be set.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> from nagd_keras import NAGD, callbacks
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile(optimizer=NAGD(direction="orthogonal"), loss="mse")
        >>> history = model.fit(
        ...     np.eye(2), np.array([[1.0], [2.0]]), batch_size=1, epochs=5,
        ...     callbacks=[callbacks.OneCycle()], verbose=0
        ... )
        >>> round(float(model.optimizer.learning_rate), 3)
        0.01

    References:
        Smith (2018), A disciplined approach to neural network hyper-parameters: Part 1, whose cycle
        moves the momentum, too: `momentum=(0.95, 0.85)`.
    """

    def __init__(
        self,
        max_learning_rate: float | LearningRateSweep | None = None,
        *,
        total_steps: int | None = None,
        momentum: tuple[float, float] | None = None,
        warm_up_fraction: float = 0.3,
        initial_divisor: float = 25.0,
        final_divisor: float = 1e4,
        anneal: Anneal = "cosine",
        three_phase: bool = False,
    ) -> None:
        super().__init__()
        if isinstance(max_learning_rate, LearningRateSweep):
            max_learning_rate = max_learning_rate.suggested
        self.max_learning_rate = optional(positive, "max_learning_rate", max_learning_rate)
        # So that the learning rate rises.
        self.initial_divisor = value("initial_divisor", initial_divisor, least=1.0)
        self.final_divisor = positive("final_divisor", final_divisor)
        self.momentum = None if momentum is None else _checked_momenta(momentum)
        self.fit_roles = (CYCLE,) if momentum is None else (CYCLE, MOMENTUM)
        self.warm_up_fraction, self.anneal, self.three_phase = warm_up_fraction, anneal, three_phase
        self.total_steps = total_steps
        # Raises for bad settings; of a fit's length nothing is known yet.
        self._cycle(
            self.max_learning_rate or 1.0, 2**31 - 1 if total_steps is None else total_steps
        )
        self._own: OwnRate | None = None  # of the optimizer
        self._left = 1.0  # of the learning rate, where a DivergenceGuard lowered it
        self._schedules: list[schedules.OneCycle] = []
        self._first = -1  # of the steps whose values are known,
        self._values: list[np.ndarray] = []  # those of each schedule
        self._epoch = 0
        self._is_first = True
        self._step = 0  # that was begun last
        self._ended: int | None = None  # that was ended last

    def _cycle(self, peak: float, total_steps: int) -> list[schedules.OneCycle]:
        """Returns the schedules of the learning rate and, if it is driven, the momentum."""
        initial = peak / self.initial_divisor
        corners = [(initial, peak, initial / self.final_divisor)]
        if self.momentum is not None:
            high, low = self.momentum
            corners.append((high, low, high))
        shape = self.warm_up_fraction, self.anneal, self.three_phase
        try:
            return [schedules.OneCycle(*each, total_steps, *shape) for each in corners]
        except ValueError as error:
            raise ValueError(str(error).replace("peak_fraction", "warm_up_fraction")) from error

    __repr__ = call_of

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks the optimizer and the length of the cycle."""
        optimizer = optimizer_of(self.model)
        who = type(self).__name__
        check_settable(optimizer, "learning_rate", who)
        if self.momentum is not None:
            check_settable(optimizer, "momentum", who, ", or pass momentum=None to leave it alone")
        check(self)
        self._has_guard = any(SCALE in getattr(x, "fit_roles", ()) for x in listed_with(self))
        self._left = 1.0
        self._is_first = True  # of the epochs of the fit
        self._steps = self._steps_of_fit() if self.total_steps is None else self.total_steps
        if self._steps:
            self._cycle(self.max_learning_rate or 1.0, self._steps)  # Raises if that is too short.
        self._schedules, self._own = [], None

    def _steps_of_fit(self) -> int:
        """Returns the number of batches of the running fit."""
        params = self.params or {}
        if "epochs" not in params or "steps" not in params:
            raise ValueError(
                "OneCycle is not in a fit, and cannot tell how many batches there will be. "
                f"Received: total_steps=None, params={self.params}. Pass total_steps to OneCycle, "
                "or epochs and steps to the CallbackList."
            )
        if params["steps"] is None:
            raise ValueError(
                "OneCycle cannot tell how many batches this fit has: its data do not tell their "
                "length. Pass total_steps to OneCycle, or steps_per_epoch to fit."
            )
        return int(params["epochs"] * params["steps"])

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remembers the epoch, from which the steps are counted."""
        self._epoch = epoch
        if self._is_first and self.total_steps is not None:
            self._warn_if_longer(self.total_steps)
        self._is_first = False

    def _warn_if_longer(self, total_steps: int) -> None:
        """Warns of a fit that goes on after the end of the cycle."""
        made, params = finished_batches(optimizer_of(self.model)), self.params or {}
        # In a loop of one's own they may be unknown; then there is at least one of each.
        epochs = params.get("epochs", self._epoch + 1) - self._epoch
        to_come = epochs * (params.get("steps") or 1)
        if made + to_come > total_steps:
            warnings.warn(
                f"The cycle of total_steps={total_steps} ends before this fit does, and then its "
                f"last values hold: the optimizer has made {made} steps, and this fit makes at "
                f"least {to_come}. Pass more steps, or None for a cycle that spans the fit.",
                stacklevel=2,
            )

    def _begin(self) -> None:
        """Makes the schedules, after other callbacks may have loaded a state.

        Raises:
            ValueError: if the optimizer's own learning rate is 0, and is to be the peak.
        """
        optimizer, left = optimizer_of(self.model), self._read_left()
        self._own = OwnRate(optimizer, _NAME, left, self.max_learning_rate)
        peak = self._own.value
        if not peak > 0:
            raise ValueError(
                "The optimizer's own learning rate is the peak of OneCycle(), so it must be above "
                f"0. Received: {peak}. Set it, or pass max_learning_rate."
            )
        self._schedules, self._first = self._cycle(peak, self._steps), -1

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Sets learning rate and momentum."""
        synchronize(self.model)
        if not self._schedules:
            self._begin()
        if self.total_steps is None:
            self._step = self._epoch * self.params["steps"] + batch
        else:
            self._step = finished_batches(optimizer_of(self.model))
        self._set(self._step)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes that the step found its data."""
        self._ended = self._step

    def _set(self, step: int) -> None:
        learning_rate, *momentum = self._at(step)
        self._left = self._read_left()
        if self._own:  # Always: it begins with the schedules.
            self._own.set(learning_rate * self._left, self._left)
        if momentum:
            optimizer_of(self.model).momentum = momentum[0]

    def _read_left(self) -> float:
        """Returns what a guard in the list has left of the learning rate; an earlier fit's is over.

        Its last rollback may come after the last batch began, and it forgets when training ends.
        """
        return Rollbacks.left(optimizer_of(self.model)) if self._has_guard else 1.0

    def _at(self, step: int) -> list[float]:
        """Returns what each schedule gives at a step."""
        first = step - step % _AT_ONCE
        if first != self._first:
            steps = np.arange(first, first + _AT_ONCE)
            self._values = [keras.ops.convert_to_numpy(each(steps)) for each in self._schedules]
            self._first = first
        return [float(values[step - first]) for values in self._values]

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Puts the values of the last batch into the logs."""
        self._left = self._read_left()
        if self._ended not in (None, self._step):  # Where data end, one step more is begun.
            self._set(self._ended)
        if logs is not None:
            optimizer = optimizer_of(self.model)
            logs["learning_rate"] = number(optimizer.learning_rate)
            if self.momentum is not None:
                logs["momentum"] = number(optimizer.momentum)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Gives the optimizer its own learning rate back, if that was the peak."""
        if self._own is None:  # It had no batch.
            return
        synchronize(self.model)
        if self.max_learning_rate is None:
            self._own.give_back(self._left)
        else:
            self._own.leave(self._left)
        self._own = None


def _checked_momenta(momentum: Sequence[float]) -> tuple[float, float]:
    said = f"momentum={momentum!r}"
    if isinstance(momentum, (tuple, list)) and len(momentum) == 2:
        high, low = (NAGD.momentum.number(each, said, alternatives="") for each in momentum)
        if high >= low:
            return high, low
    raise ValueError(
        f"`momentum` must be the largest and the smallest momentum, or None. Received: {said}."
    )
