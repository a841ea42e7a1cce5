"""The losses of single batches, and logs from which some batches are left out."""

import math
from copy import copy
from typing import Any, NamedTuple

import keras

from nagd_keras.callbacks.executions import Executions
from nagd_keras.callbacks.monitored import RunningMean
from nagd_keras.callbacks.optimizers import synchronize
from nagd_keras.callbacks.snapshots import assign
from nagd_keras.tensors import number


class BatchLoss(NamedTuple):
    """The loss of the batches of an execution.

    Attributes:
        value: their mean.
        rounding: how wrong it may be.
        batches: their number.
    """

    value: float
    rounding: float
    batches: int

    @property
    def is_finite(self) -> bool:
        """Whether it is no NaN or infinity."""
        return math.isfinite(self.value)


class BatchLosses:
    """Takes Keras' running means of an epoch apart, and bad batches out of them."""

    def __init__(self, monitor: str) -> None:
        """Begins an epoch; takes the name in the logs."""
        self._monitor = monitor
        self._executions = Executions()
        self._mean = self._mean_now = RunningMean()
        self._left_out = 0
        self._metrics: list[Any] | None = None  # after the last good batch of the epoch
        self._has_bad_metrics = False
        self.done = 0  # batches of the epoch, those that were left out included

    def begin(self, batch: int, model: Any) -> None:
        """Notes the first batch of an execution, and sees to it that the metrics are good."""
        self._executions.begin(batch)
        if self._has_bad_metrics:
            synchronize(model)
            model.reset_metrics()
            self._has_bad_metrics = False

    def end(self, callback: Any, batch: int, logs: dict[str, Any]) -> BatchLoss:
        """Returns the loss of the execution that ends, which then is to be accepted or left out.

        Args:
            callback: that of Keras which was told, and knows model and fit.
            batch: what it was told.
            logs: those of the batch.

        Raises:
            ValueError: if they do not have the loss.
        """
        if self._monitor not in logs:
            raise ValueError(
                "The loss of each batch is looked at, but it is not in the logs of batches. "
                f"Received: monitor={self._monitor!r}. There are: {', '.join(logs)}."
            )
        done = self._executions.done(callback, batch)
        batches, self.done = done - self.done, done
        # A mean that is not finite stays so, and one that is huge hides what is added to it.
        self._mean_now = copy(self._mean)
        loss = self._mean_now.since_last(done - self._left_out, number(logs[self._monitor]))
        rounding = self._mean_now.rounding()
        # One that is zero or negative by rounding only would hide that all losses are positive.
        loss = rounding if -rounding <= loss <= 0 else loss
        return BatchLoss(loss, rounding, batches)

    def accept(self, metrics: list[Any]) -> None:
        """Takes the execution for good; the metrics have the values given."""
        self._mean, self._metrics = self._mean_now, metrics

    def leave_out(self, batches: int, metrics: list[keras.Variable]) -> None:
        """Brings the metrics back to what they were before the execution."""
        self._left_out += batches
        if self._metrics is None:
            # Later: if no good batch comes, the epoch's logs should show that.
            self._has_bad_metrics = True
        else:
            assign(metrics, self._metrics)
