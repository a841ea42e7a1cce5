"""How many batches of an epoch are done when Keras tells a callback of one."""

from typing import Any


class Executions:
    """Counts the batches of an epoch.

    With `steps_per_execution`, Keras tells callbacks the last batch of an execution when it ends;
    older versions of Keras tell them the first.
    """

    def __init__(self, every: int | None = None) -> None:
        """Begins an epoch. `every`: n to tell every n-th batch, or None to tell none."""
        self._every = every
        self._first = self._told = 0

    def begin(self, batch: int) -> None:
        """Notes the first batch of an execution."""
        self._first = batch

    def done(self, callback: Any, batch: int) -> int:
        """Returns the number of batches that are done at the end of the execution.

        Args:
            callback: the callback of Keras that was told, and knows model and fit.
            batch: the batch that it was told.
        """
        if batch > self._first:
            return batch + 1
        end = self._first + (getattr(callback.model, "steps_per_execution", None) or 1)
        steps = (callback.params or {}).get("steps")
        return end if steps is None else max(batch + 1, min(end, steps))

    def told(self, callback: Any, batch: int) -> int:
        """Returns what `done` does if an n-th batch is among those of the execution, else 0."""
        # Without n this runs in another thread, which must not ask for the model: on JAX that
        # gives the variables the values that the step at work has consumed.
        if self._every is None:
            return 0
        done = self.done(callback, batch)
        before, self._told = self._told, done // self._every
        return done if self._told > before else 0
