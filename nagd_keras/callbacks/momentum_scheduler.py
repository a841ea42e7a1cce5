"""A momentum for each epoch."""

from collections.abc import Callable
from typing import Any

import keras

from nagd_keras.arguments import call_of, takes, verbosity
from nagd_keras.callbacks.optimizers import check_settable, optimizer_of
from nagd_keras.callbacks.together import MOMENTUM, check
from nagd_keras.nagd import NAGD
from nagd_keras.tensors import number


class MomentumScheduler(keras.callbacks.Callback):
    r"""Sets the momentum at the beginning of every epoch.

    It is the twin of `keras.callbacks.LearningRateScheduler`. The logs get the momentum of the
    epoch's updates as `momentum`.

    Args:
        schedule: a pure function `schedule(epoch, momentum) -> float`, or `schedule(epoch)`, of
            the epoch, counted from 0, and the present momentum. It returns a number in [0, 1). A
            function of the epoch alone is also tried at the last epoch, before training starts.
        verbose: 1 prints a line for each epoch, 0 does not.

    Raises:
        TypeError: if `schedule` is not a function; before training starts, if the optimizer has no
            momentum that can be set, or a momentum is not a number.
        ValueError: if a momentum that is used or tried is not in [0, 1).

    Example:
        >>> import keras
        >>> import numpy as np
        >>> from nagd_keras import NAGD, callbacks
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile(optimizer=NAGD(momentum=0.5), loss="mse")
        >>> rising = callbacks.MomentumScheduler(lambda epoch, momentum: 1 - 0.5 / (epoch + 1))
        >>> history = model.fit(
        ...     np.eye(2), np.array([[1.0], [2.0]]), epochs=3, callbacks=[rising], verbose=0
        ... )
        >>> [round(momentum, 3) for momentum in history.history["momentum"]]
        [0.5, 0.75, 0.833]
    """

    fit_roles = (MOMENTUM,)

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        super().__init__()
        if not callable(schedule):
            raise TypeError(
                "`schedule` must be a function of the epoch and the momentum. Received: "
                f"schedule={schedule!r}."
            )
        self.schedule = schedule
        self.verbose = verbosity(verbose)
        self._takes_momentum = takes(schedule, 0, 0.0)
        self._is_checked = False

    __repr__ = call_of

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks the optimizer."""
        optimizer = optimizer_of(self.model)
        check_settable(optimizer, "momentum", type(self).__name__)
        check(self)
        self._is_checked = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Sets the momentum."""
        optimizer = optimizer_of(self.model)
        momentum = self._momentum(epoch, number(optimizer.momentum))
        last = (self.params or {}).get("epochs", 0) - 1
        if not self._is_checked and last > epoch and not self._takes_momentum:
            self._momentum(last, momentum)
        self._is_checked = True
        optimizer.momentum = momentum
        if self.verbose > 0:
            # As Keras' own callbacks do: into its log where logging is chosen over printing.
            print(f"\nEpoch {epoch + 1}: MomentumScheduler setting momentum to {momentum}.")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Puts the momentum into the logs."""
        if logs is not None:
            logs["momentum"] = number(optimizer_of(self.model).momentum)

    def _momentum(self, epoch: int, momentum: float) -> float:
        given = self.schedule(epoch, momentum) if self._takes_momentum else self.schedule(epoch)
        received = f"{given!r} from the `schedule` of MomentumScheduler in epoch {epoch}"
        checked: float = NAGD.momentum.number(given, received, alternatives="")
        return checked
