"""What the schedules have in common."""

import inspect
from typing import Any

import keras
import numpy as np
from keras.optimizers.schedules import LearningRateSchedule

from nagd_keras.arguments import count
from nagd_keras.figures import new_axes
from nagd_keras.schedules.steps import as_step

POINTS = 2000  # More than a figure has pixels to show them in; of fewer steps, each has its own.


class Schedule(LearningRateSchedule):
    """A pure function of the step, for the learning rate or the momentum of an optimizer.

    Call it with a step, a number, tensor or variable of any shape. It returns the value there,
    computed in float32, or in float64 if that is Keras' `floatx`. Integer steps are exact up to
    2^31 - 1. After its last mark a schedule keeps its last value.

    A subclass computes the value in `value`. To be saved, it keeps its arguments under their names,
    or has its own `get_config`.

    Attributes:
        quantity: what the values are, for the axis of a figure.
    """

    quantity = "value"

    def __call__(self, step: Any) -> Any:
        """Returns the value at a step, or at many."""
        return self.value(as_step(step))

    def value(self, step: Any) -> Any:
        """Returns the value at a tensor of steps."""
        raise NotImplementedError(f"{type(self).__name__} must define `value`.")

    def _arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make this schedule again."""
        arguments = self._arguments().items()
        return {name: keras.saving.serialize_keras_object(value) for name, value in arguments}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Schedule":
        """Makes the schedule from what `get_config` returned."""
        values = {n: keras.saving.deserialize_keras_object(value) for n, value in config.items()}
        return cls(**values)

    def plot(self, steps: int, ax: Any = None, *, label: str | None = None) -> Any:
        """Draws the schedule over the steps 0 ... `steps`.

        Args:
            steps: the last step that is drawn, at least 1.
            ax: matplotlib axes to draw into; new ones if None.
            label: what the legend says; the name of the class if None.

        Returns:
            The axes.

        Raises:
            ImportError: without matplotlib, which the extra `plot` brings.
            TypeError, ValueError: if `steps` is not an integer of at least 1.
        """
        last = count("steps", steps)
        ax = new_axes() if ax is None else ax
        at = np.unique(np.linspace(0, last, POINTS + 1).round()).astype("int32")
        ax.plot(at, self._values(at), label=type(self).__name__ if label is None else label)
        ax.set(xlabel="step", ylabel=self.quantity)
        ax.grid(alpha=0.3)
        ax.legend()
        return ax

    def _values(self, at: np.ndarray) -> Any:
        try:
            return keras.ops.convert_to_numpy(self(at))
        except Exception:  # of many kinds, where a part of Keras' own takes but one step
            return [float(self(int(step))) for step in at]

    def __repr__(self) -> str:
        try:
            arguments = self._arguments()
        except AttributeError:  # A subclass may keep them as it likes.
            return object.__repr__(self)
        listed = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        return f"{type(self).__name__}({listed})"
