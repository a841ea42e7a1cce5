"""How many batches of an epoch are done when Keras says that some are."""

from typing import Any


class Executions:
    """Counts the batches of an epoch.

    With `steps_per_execution` Keras tells callbacks the last batch of an execution when it ends;
    its older versions tell them the first.
    """

    def __init__(self) -> None:
        """Begins an epoch."""
        self._first = 0

    def begin(self, batch: int) -> None:
        """Notes the first batch of an execution."""
        self._first = batch

    def done(self, callback: Any, batch: int) -> int:
        """Returns the number of batches that are done at the end of the execution.

        Args:
            callback: that of Keras which was told, and knows model and fit.
            batch: what it was told.
        """
        if batch > self._first:
            return batch + 1
        end = self._first + (getattr(callback.model, "steps_per_execution", None) or 1)
        steps = (callback.params or {}).get("steps")
        return end if steps is None else max(batch + 1, min(end, steps))
