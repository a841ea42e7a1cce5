"""The stop conditions of classical optimisation."""

import math
from typing import Any

import keras

from nagd_keras.arguments import call_of, count, optional, value, verbosity
from nagd_keras.callbacks.memory import notes_of, warn_if_behind
from nagd_keras.callbacks.monitored import Monitored
from nagd_keras.callbacks.optimizers import nagd_of, optimizer_of, track_gradient_norm
from nagd_keras.callbacks.together import EPOCH_END, STOP, check
from nagd_keras.tensors import number


class StopAtTolerance(keras.callbacks.Callback):
    r"""Stops training when the gradient, or the progress of the loss, has become small.

    An epoch $k$ is calm if at least one of the given conditions holds:

    $$\|g\| \le \text{gradient\_norm}, \qquad
      |f_k - f_{k-1}| \le \text{relative\_loss\_change} \cdot \max(|f_k|, |f_{k-1}|)$$

    Training stops after `patience` calm epochs in a row. $g$ is the gradient of the epoch's last
    update over all variables, before clipping. If an epoch is one batch, it is the objective's;
    otherwise it is a noisy estimate. $f$ is the logs' `loss`. NAGD's state holds the count and the
    last loss; `fit` from epoch 0 begins with none. Callbacks that save the model, such as
    BackupAndRestore, must stand after this one in the list.

    Args:
        gradient_norm: None, or the tolerance of the gradient's L2 norm, in $[0, \infty)$. Needs
            NAGD.
        relative_loss_change: None, or the tolerance of the relative change of the loss, in
            $[0, \infty)$.
        patience: the number of calm epochs in a row, at least 1.
        verbose: 1 prints a line on stopping, 0 does not.

    Raises:
        TypeError, ValueError: for an argument out of its range, or if neither condition is given;
            before training starts, if `gradient_norm` is given and the optimizer is not a NAGD or
            there are several replicas, or if there is another StopAtTolerance.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> from nagd_keras import NAGD, callbacks
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile(optimizer=NAGD(0.1), loss="mse")
        >>> stop = callbacks.StopAtTolerance(gradient_norm=1e-3)
        >>> history = model.fit(
        ...     np.eye(2), np.array([[1.0], [2.0]]), epochs=1000, callbacks=[stop], verbose=0
        ... )
        >>> len(history.epoch) < 1000
        True

    References:
        Nocedal & Wright (2006), Numerical Optimization, chapter 3.
    """

    fit_roles = (STOP, EPOCH_END)

    def __init__(
        self,
        gradient_norm: float | None = None,
        relative_loss_change: float | None = None,
        patience: int = 1,
        *,
        verbose: int = 0,
    ) -> None:
        super().__init__()
        if gradient_norm is None and relative_loss_change is None:
            raise ValueError(
                "StopAtTolerance needs a condition to stop at. Received: gradient_norm=None, "
                "relative_loss_change=None. Pass at least one of them."
            )
        self.gradient_norm = optional(value, "gradient_norm", gradient_norm)
        self.relative_loss_change = optional(value, "relative_loss_change", relative_loss_change)
        self.patience = count("patience", patience)
        self.verbose = verbosity(verbose)
        self._loss = Monitored("loss", "Stopping at a tolerance")
        self._notes: dict[str, Any] = {}
        self._has_stopped = False

    __repr__ = call_of

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks the optimizer, and asks it for the norm of the gradient."""
        if self.gradient_norm is not None:
            track_gradient_norm(self.model, type(self).__name__)
        optimizer = optimizer_of(self.model)
        check(self)
        self._notes = notes_of(optimizer, "StopAtTolerance")
        self._has_stopped = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Begins anew in epoch 0."""
        if epoch == 0:
            self._notes.clear()
        warn_if_behind(self._notes, epoch, type(self).__name__)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Stops if the last epochs were calm."""
        notes = self._notes
        reason = self._reason(notes, logs)
        calm = 1 + notes.get("waited", 0) if reason else 0
        notes["waited"], notes["epoch"] = calm, epoch
        if calm >= self.patience:
            self.model.stop_training = self._has_stopped = True
            if self.verbose > 0:
                print(f"\nEpoch {epoch + 1}: StopAtTolerance stops, as {reason}.")

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Forgets the calm epochs after a stop: a fit that goes on has its patience again."""
        if self._has_stopped:
            self._notes.pop("waited", None)

    def _reason(self, notes: dict[str, Any], logs: dict[str, Any] | None) -> str:
        """Returns which condition holds, or nothing."""
        reasons = []
        if self.relative_loss_change is not None:
            loss = self._loss.read(logs)
            if loss is not None:
                before = notes.get("loss", math.inf)  # which is no change for the first
                notes["loss"] = loss
                change, scale = abs(loss - before), max(abs(loss), abs(before))
                if change <= self.relative_loss_change * scale < math.inf:
                    reasons.append(f"the loss went from {before:.8g} to {loss:.8g}")
        if self.gradient_norm is not None:
            norm = number(nagd_of(self.model, type(self).__name__).gradient_norm)
            if norm <= self.gradient_norm:
                reasons.append(f"the gradient's norm is {norm:.3g}")
        return " and ".join(reasons)
