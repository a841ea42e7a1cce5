"""The optimizer's hyperparameters and counters in the logs."""

from typing import Any

import keras

from nagd_keras.arguments import boolean, call_of, count, optional
from nagd_keras.callbacks.executions import Executions
from nagd_keras.callbacks.listed import listed_with
from nagd_keras.callbacks.optimizers import nagd_of, optimizer_of, synchronize, track_gradient_norm
from nagd_keras.callbacks.together import GO_BACK, RESTART, SHOW, check, roles_of
from nagd_keras.hyperparameters import declared
from nagd_keras.nagd import NAGD
from nagd_keras.tensors import global_norm, number


class HyperparameterMonitor(keras.callbacks.Callback):
    r"""Puts what the optimizer does into the logs.

    These are `learning_rate`, `momentum` and `weight_decay`, as far as the optimizer has them;
    `restarts`, where the optimizer or a callback restarts; `skipped_updates`, where updates may be
    skipped; and on request the norms `gradient_norm` $\|g_t\|$ and `displacement_norm`
    $\|s_{t+1}\|$ over all variables. History, CSVLogger, TensorBoard and the progress bar then
    show them. Callbacks that log must stand after this one in the list.

    A value is that at the end of the epoch or batch. A number is the one that the last update used;
    a schedule's value is the one that the next update will use.

    Args:
        every_n_batches: None for the logs of epochs only, or n, for the logs of every n-th batch
            as well.
        norms: whether to add the two norms. The gradient's is that of the last update, before
            clipping. It costs a pass over the gradients, in later fits too (see
            `NAGD.tracks_gradient_norm`), and Keras compiles the training step again for it.

    Raises:
        TypeError, ValueError: for an argument out of its range; before training starts, if `norms`
            is set and the optimizer is not a NAGD, or there are several replicas.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> from nagd_keras import NAGD, callbacks
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile(optimizer=NAGD(0.1, momentum=0.5), loss="mse")
        >>> monitor = callbacks.HyperparameterMonitor(norms=True)
        >>> history = model.fit(np.eye(2), np.ones((2, 1)), callbacks=[monitor], verbose=0)
        >>> sorted(history.history)
        ['displacement_norm', 'gradient_norm', 'learning_rate', 'loss', 'momentum']
    """

    fit_roles = (SHOW,)

    def __init__(self, every_n_batches: int | None = None, *, norms: bool = False) -> None:
        super().__init__()
        self.every_n_batches = optional(count, "every_n_batches", every_n_batches)
        self.norms = boolean("norms", norms)
        # Without work per batch, Keras need not wait for it.
        self.async_safe = self.every_n_batches is None
        self._executions = Executions()
        self._counters: list[str] = []  # those of NAGD's that can change

    __repr__ = call_of

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks the optimizer, and asks it for the norm of the gradient."""
        optimizer = optimizer_of(self.model)
        check(self)
        roles = {role for each in listed_with(self) for role in roles_of(each)}
        restarts = getattr(optimizer, "restart", None) or roles & {RESTART, GO_BACK}
        skips = getattr(optimizer, "skip_nonfinite", False)
        can_change = {"restarts": restarts, "skipped_updates": skips}
        self._counters = [name for name, can in can_change.items() if can]
        if self.norms:
            track_gradient_norm(self.model, type(self).__name__)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Begins to count batches."""
        self._executions = Executions(self.every_n_batches)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes where an execution begins."""
        self._executions.begin(batch)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds to the logs of every n-th batch."""
        if self._executions.told(self, batch) and logs is not None:
            synchronize(self.model)
            logs.update(self._values())

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds to the logs of the epoch."""
        if logs is not None:
            logs.update(self._values())

    def _values(self) -> dict[str, float | int]:
        optimizer = optimizer_of(self.model)
        # Those of NAGD, of which another optimizer may have some.
        names = [*declared(NAGD), *(declared(type(optimizer))), *self._counters]
        found = {name: getattr(optimizer, name, None) for name in names}
        values = {
            name: int(number(x)) if name in self._counters else number(x)
            for name, x in found.items()
            if x is not None
        }
        if self.norms:
            nagd = nagd_of(self.model, type(self).__name__)
            values["gradient_norm"] = number(nagd.gradient_norm)
            values["displacement_norm"] = number(global_norm(nagd.displacements))
        return values
