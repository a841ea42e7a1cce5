"""The function scheme of adaptive restart."""

import warnings
from typing import Any

import keras

from nagd_keras.arguments import call_of, count, optional, value, verbosity
from nagd_keras.callbacks.executions import Executions
from nagd_keras.callbacks.memory import notes_of, warn_if_behind
from nagd_keras.callbacks.monitored import Mode, Monitored, RunningMean, is_rising
from nagd_keras.callbacks.optimizers import nagd_of, synchronize
from nagd_keras.callbacks.together import EPOCH_END, RESTART, check

_NAME = "AdaptiveRestart"


class AdaptiveRestart(keras.callbacks.Callback):
    r"""Resets the momentum of NAGD whenever the objective gets worse.

    $$f(\theta_{t}) > f(\theta_{t-1}) + \text{min\_delta} \qquad
      \Rightarrow\ s \leftarrow 0,\ \text{age} \leftarrow 0$$

    This is the function scheme of O'Donoghue & Candès, on the means over epochs, or over every n
    batches. It finds the rate of the best momentum without knowing the condition number. The loss
    of a batch is that of the point before its update, so with full batches this callback sees a
    rise one update late. `NAGD(restart=...)` looks at the gradient instead, within the update.

    The optimizer's state holds the objective that was compared last; `fit` from epoch 0 begins
    without one. Callbacks that save the model, such as BackupAndRestore, must stand after this one
    in the list.

    Args:
        monitor: the name of the objective in the logs.
        mode: `"min"`, `"max"`, or `"auto"`, which tells from the name whether it should fall.
        min_delta: how much worse it must get, in $[0, \infty)$.
        every_n_batches: None to compare at the end of every epoch, or n, to compare the means over
            n batches. Keras' logs are means since the epoch began, in float32. The means over n
            batches follow from them if all batches have the same size. A change that the rounding
            can explain, some $10^{-7}$ times the number of batches, counts as none. Batches left
            over at the end of an epoch are not compared.
        verbose: 1 prints a line for each restart, 0 does not.

    Raises:
        TypeError, ValueError: for an argument out of its range; before training starts, if the
            optimizer is not a NAGD, or if there is another AdaptiveRestart.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> from nagd_keras import NAGD, callbacks
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile(optimizer=NAGD(0.5, momentum=0.99), loss="mse")
        >>> history = model.fit(
        ...     np.eye(2), np.array([[1.0], [2.0]]), epochs=40,
        ...     callbacks=[callbacks.AdaptiveRestart()], verbose=0
        ... )
        >>> int(model.optimizer.restarts) > 0
        True

    References:
        O'Donoghue & Candès (2015), Adaptive restart for accelerated gradient schemes, section 3.2.
    """

    def __init__(
        self,
        monitor: str = "loss",
        mode: Mode = "auto",
        min_delta: float = 0.0,
        *,
        every_n_batches: int | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__()
        self._monitored = Monitored(monitor, "Adaptive restart")
        self.monitor, self.mode = monitor, mode
        self._sign = -1.0 if is_rising(monitor, mode) else 1.0
        self.min_delta = value("min_delta", min_delta)
        self.every_n_batches = optional(count, "every_n_batches", every_n_batches)
        self.verbose = verbosity(verbose)
        self.fit_roles = (RESTART, EPOCH_END) if self.every_n_batches is None else (RESTART,)
        # Without work per batch, Keras need not wait for it.
        self.async_safe = self.every_n_batches is None
        self._mean = RunningMean()
        self._executions = Executions()

    __repr__ = call_of

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks the optimizer."""
        nagd_of(self.model, type(self).__name__)
        check(self)
        steps = (self.params or {}).get("steps")
        if steps is not None and (self.every_n_batches or 0) > steps:
            warnings.warn(
                f"AdaptiveRestart never compares anything: an epoch has {steps} batches. "
                f"Received: every_n_batches={self.every_n_batches}. Pass fewer, or None to compare "
                "epochs.",
                stacklevel=2,
            )

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Begins new means, and in epoch 0 forgets the earlier objective."""
        self._mean, self._executions = RunningMean(), Executions(self.every_n_batches)
        optimizer = nagd_of(self.model, type(self).__name__)
        notes = notes_of(optimizer, _NAME)
        if epoch == 0:
            notes.clear()
        if self.every_n_batches is None:
            warn_if_behind(notes, epoch, type(self).__name__)
        else:  # The end of an epoch brings no work that a backup could miss.
            notes.pop("epoch", None)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes where an execution begins."""
        self._executions.begin(batch)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Compares the last n batches with those before."""
        done = self._executions.told(self, batch)
        mean = self._monitored.read(logs) if done else None
        if mean is not None:
            synchronize(self.model)
            objective = self._mean.since_last(done, mean)
            self._compare(objective, f"batch {done}", self._mean.rounding())

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Compares the epoch with that before."""
        if self.every_n_batches is None:
            objective = self._monitored.read(logs)
            if objective is not None:
                self._compare(objective, f"epoch {epoch + 1}")
            notes_of(nagd_of(self.model, type(self).__name__), _NAME)["epoch"] = epoch

    def _compare(self, objective: float, when: str, rounding: float = 0.0) -> None:
        optimizer = nagd_of(self.model, type(self).__name__)
        notes = notes_of(optimizer, _NAME)
        before = notes.get("objective")
        notes["objective"] = objective
        if before is not None and self._sign * (objective - before) > self.min_delta + rounding:
            optimizer.reset_momentum()
            if self.verbose > 0:
                print(
                    f"\nAdaptiveRestart: {self.monitor} went from {before:.6g} to "
                    f"{objective:.6g} at {when}; momentum reset."
                )
