"""What the schedules have in common."""

from typing import Any

from keras.optimizers.schedules import LearningRateSchedule

from nagd_keras.schedules.steps import as_step


class Schedule(LearningRateSchedule):
    """A pure function of the step, for the learning rate or the momentum of an optimizer.

    Called with a step (a number, tensor or variable, of any shape) it returns the value there,
    computed in float32 (in float64 if that is Keras' `floatx`). Integer steps are exact up to
    2^31 - 1; beyond its last mark a schedule keeps its last value.

    A subclass says what the value is in `value`, and has a `get_config` to be saved.
    """

    def __call__(self, step: Any) -> Any:
        """Returns the value at a step, or at many."""
        return self.value(as_step(step))

    def value(self, step: Any) -> Any:
        """Returns the value at a tensor of steps."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its `value` is.")

    def plot(self, steps: int, axes: Any = None) -> Any:
        """Draws the schedule over the steps 0 ... `steps`.

        Args:
            steps: the last step that is drawn, at least 1.
            axes: matplotlib axes to draw into; new ones if None.

        Returns:
            The axes.

        Raises:
            ImportError: without matplotlib, which the extra `plot` brings.
            ValueError: if `steps` is no integer of at least 1.
        """
        from nagd_keras.schedules.plotting import plot  # Matplotlib is wanted by nothing else.

        return plot(self, steps, axes)

    def __repr__(self) -> str:
        try:
            arguments = {name: getattr(self, name) for name in self.get_config()}
        except (AttributeError, NotImplementedError):  # A subclass may keep them as it likes.
            return object.__repr__(self)
        listed = ", ".join(f"{name}={each!r}" for name, each in arguments.items())
        return f"{type(self).__name__}({listed})"
