"""The hyperparameters of one optimizer: read, set and scaled while it trains."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, TypeAlias

import keras
import numpy as np
from keras.optimizers.schedules import LearningRateSchedule

from nagd_keras import keras_private as private
from nagd_keras.backends.current import current
from nagd_keras.hyperparameters import Hyperparameter, loadable, value_dtype
from nagd_keras.scalar import Scalar
from nagd_keras.state.scalars import COUNTERS, Scalars
from nagd_keras.state.tables import Table
from nagd_keras.tensors import detached, is_array, is_symbolic, number, tensor

GivenAs: TypeAlias = Literal["number", "schedule", "callable", "None"]


class Hyperparameters:
    """The hyperparameters of one optimizer.

    Each has a source: a number, which is kept among the optimizer's scalars under its name, a
    schedule, a callable, or None.
    """

    def __init__(
        self,
        optimizer: Any,
        kinds: Mapping[str, Hyperparameter],
        given: Mapping[str, Any],
        scalars: Scalars,
    ) -> None:
        """Takes what `Hyperparameter.checked` returned for each.

        Args:
            optimizer: the optimizer that has them.
            kinds: the declarations, by name.
            given: the values, by name.
            scalars: the optimizer's scalars, which keep the numbers.
        """
        self._optimizer, self.kinds, self._scalars = optimizer, kinds, scalars
        self.sources: dict[str, Any] = {}
        self._tables: dict[str, Table] = {}
        # The numbers that the optimizer was made with.
        self.began = {name: shortest(x) for name, x in given.items() if isinstance(x, float)}
        self._loaded: dict[str, float] = {}
        for name, kind in kinds.items():
            value = given[name]
            is_number = isinstance(value, float)
            self.sources[name] = scalars if is_number else value
            scalars.number(name, value if is_number else 0.0)
            if not is_number:
                scalars.unused.add(name)
            if kind.scaled:
                # Always in use: a schedule may still take the place of a number.
                scalars.number(kind.factor, 1.0)

    def given_as(self, name: str) -> GivenAs:
        """Returns what a hyperparameter is: "number", "schedule", "callable" or "None"."""
        source = self.sources[name]
        if source is self._scalars:
            return "number"
        if isinstance(source, LearningRateSchedule):
            return "schedule"
        return "None" if source is None else "callable"

    def read(self, numbers: Mapping[str, Any]) -> dict[str, Any]:
        """Returns all values of an update, from the numbers that were read for it."""
        values = {name: self.now(name, numbers) for name in self.kinds}
        return {name: None if x is None else current.scalar(x) for name, x in values.items()}

    def now(self, name: str, numbers: Any = None) -> Any:
        """Returns the value of the next update: a scalar that can be set, a tensor or a number."""
        kind, source = self.kinds[name], self.sources[name]
        numbers = self._scalars if numbers is None else numbers
        if source is None:
            return None
        if source is self._scalars:
            return numbers[name]
        value = self._tabulated(kind, source) if numbers is not self._scalars else None
        if value is not None:
            return value * numbers[kind.factor] if kind.scaled else value
        value = kind.given(source, partial(self._step, kind))
        is_variable = isinstance(value, (keras.Variable, *current.native_types))
        if is_variable:
            # Python makes no number of one of replicas, nor on PyTorch of one with a gradient.
            value = detached(keras.ops.cast(value, value.dtype))
        if not (kind.scaled and isinstance(source, LearningRateSchedule)):
            return value
        value, factor = tensor(value), numbers[kind.factor]
        return value * keras.ops.cast(getattr(factor, "value", factor), value.dtype)

    def _tabulated(self, kind: Hyperparameter, source: Any) -> float | None:
        """Returns what a schedule gives, as a number, where the step is known as a number."""
        if not (current.reads_numbers and isinstance(source, LearningRateSchedule)):
            return None
        table = self._tables.get(kind.name)
        if table is None or table.schedule is not source:
            table = self._tables[kind.name] = Table(source)
        if kind.clock == "age":
            step = self._scalars.read(COUNTERS)["age"] + 1
        else:
            step = current.scalar(private.batches(self._optimizer))
        value = table.at(step) if isinstance(step, int) else None
        return None if value is None else kind.checked_given(value, source)

    def _step(self, kind: Hyperparameter) -> Any:
        """Returns the step at which a schedule is read."""
        if kind.clock == "age":
            return self._scalars["age"].value + 1
        return private.batches(self._optimizer)

    def set(self, name: str, value: Any) -> None:
        """Sets the number of a hyperparameter, which takes effect in the next update.

        Raises:
            TypeError: if it was not given as a number, or `value` is not a number.
            ValueError: if `value` is out of range.
        """
        kind, source = self.kinds[name], self.sources[name]
        if value is None and source is None:
            return
        is_callable = callable(value) and not is_array(value)
        if is_callable and kind.scaled and not self._optimizer.built:
            # Keras lets a schedule take the place of a number, and no step is compiled yet.
            self.sources[name] = kind.checked(value)
            self._scalars.unused.add(name)
            return
        if kind.scaled and isinstance(source, LearningRateSchedule) and not is_callable:
            self._lower_to(kind, value)
            return
        self._check_settable(kind, source, value)
        if is_symbolic(value):  # Inside a compiled step the value is not known yet.
            value = keras.ops.reshape(value, ())
        else:
            value = kind.number(value, alternatives="")
        self._scalars[name].assign(value)

    def _check_settable(self, kind: Hyperparameter, source: Any, value: Any) -> None:
        name = kind.name
        is_number = source is self._scalars
        if not is_number or (callable(value) and not is_array(value)):
            was = "a number" if is_number else f"{name}={source!r}"
            raise TypeError(
                f"`{name}` can be set to a number only, where the optimizer was made with one: a "
                f"compiled step sees nothing else. Received: {name}={value!r} for an optimizer "
                f"that was made with {was}. Make a new optimizer with {name}={value!r}, or with a "
                f"number, such as {name}=0.0, to set it while training."
            )

    def _lower_to(self, kind: Hyperparameter, value: Any) -> None:
        """Scales a schedule so that it gives `value` now, which must not be above the present one.

        A caller that lowers the learning rate, like ReduceLROnPlateau, means a fraction of all that
        is to come. A caller that raises it, like LearningRateScheduler, means the number itself,
        and would get it only once.
        """
        if is_symbolic(value):  # Inside a compiled step nothing is known yet.
            own, factor = self._own(kind), self._scalars[kind.factor]
            ratio = keras.ops.divide_no_nan(keras.ops.cast(value, own.dtype), own)
            factor.assign(keras.ops.where(own > 0, ratio, factor.value))
            return
        now, value = number(self.now(kind.name)), kind.number(value, alternatives="")
        if value > now * (1 + 1e-6) > 0:  # Not for a rounding to float32.
            name = kind.name
            raise ValueError(
                "A learning rate that follows a schedule can be lowered by setting it, "
                "which scales all of the schedule, as ReduceLROnPlateau does. Received: "
                f"{name}={value:g}, where the schedule gives {now:g} now: {self.sources[name]!r}. "
                "To set numbers, as LearningRateScheduler does, make the optimizer with a number; "
                f"to raise the schedule, call optimizer.scale_learning_rate({value / now:g})."
            )
        self.scale_to(kind.name, value)

    def scale_to(self, name: str, value: float) -> None:
        """Sets a number, or scales a schedule so that it gives `value` now.

        Raises:
            ValueError: for a schedule that is 0 now, or a value out of range.
        """
        kind = self.kinds[name]
        if not isinstance(self.sources[name], LearningRateSchedule):
            self.set(name, value)
            return
        now, value = number(self._own(kind)), kind.number(value, alternatives="")
        if value == now == 0:
            return  # No ratio can be told, and none is needed.
        if now == 0:
            step = int(number(self._step(kind)))
            raise ValueError(
                "Setting a learning rate that follows a schedule scales the schedule, but its "
                f"value is 0 at step {step}. Received: {kind.name}={value}, schedule: "
                f"{self.sources[kind.name]!r}. Set it at another step, or give the optimizer a "
                "number."
            )
        # Which refuses a ratio that has no place in a float32.
        ratio = kind.number(value / now, f"{value / now} times {now}", alternatives="")
        self._scalars[kind.factor].assign(ratio)

    def _own(self, kind: Hyperparameter) -> Any:
        """Returns what a schedule gives now, without its factor."""
        return tensor(kind.given(self.sources[kind.name], partial(self._step, kind)))

    def scale_of(self, name: str) -> Scalar | None:
        """Returns what scaling a hyperparameter multiplies: the number, or a schedule's factor.

        None if a callable gives it.
        """
        places = {"number": name, "schedule": self.kinds[name].factor}
        place = places.get(self.given_as(name))
        return None if place is None else self._scalars[place]

    def scale(self, name: str, factor: float) -> None:
        """Multiplies a hyperparameter, now and at all steps to come.

        Raises:
            TypeError: if a callable gives it, or the factor is not a number.
            ValueError: if the result is out of range.
        """
        kind, scale = self.kinds[name], self.scale_of(name)
        if scale is None:
            self._check_settable(kind, self.sources[name], factor)
        assert scale is not None  # The check has raised.
        factor = kind.number(factor, f"the factor {factor!r}", alternatives="")
        product = number(scale) * factor
        scale.assign(kind.number(product, f"{factor!r} times it", alternatives=""))

    def shown(self) -> dict[str, str]:
        """Returns each that is not None as text, live numbers as they are now."""
        return {
            name: str(self._scalars[name]) if source is self._scalars else repr(source)
            for name, source in self.sources.items()
            if source is not None
        }

    def config(self) -> dict[str, Any]:
        """Returns each as an optimizer's config has it, live numbers as they are now.

        Raises:
            ValueError: for a schedule or a callable that Keras could not load again.
        """
        return {
            name: source if source is None or isinstance(source, float) else loadable(name, source)
            for name, source in self.as_given().items()
        }

    def as_given(self) -> dict[str, Any]:
        """Returns each as an argument of the optimizer, live numbers as they are now."""
        return {
            name: shortest(self._scalars[name].numpy()) if source is self._scalars else source
            for name, source in self.sources.items()
        }

    def load(
        self, now: Mapping[str, float], began: Mapping[str, float], everything: bool
    ) -> list[str]:
        """Takes the numbers of a saved state, except those that were chosen here.

        A number is taken if both optimizers began with it, and nothing but another load has set it
        here: callbacks may have changed it before it was saved. Any other number was chosen here,
        and stays.

        Args:
            now: the saved numbers, among others.
            began: these numbers when their optimizer was made, if they are known.
            everything: whether to take all.

        Returns:
            In words, each number that stays and differs from the saved one.
        """
        stay = []
        for name, here in self.as_given().items():
            if name not in now:
                continue
            start = began.get(name, now[name])
            untouched = here in (start, self._loaded.get(name)) and start == self.began.get(name)
            if isinstance(here, float) and (everything or untouched):
                self._scalars[name].assign(now[name])
                self.began[name], self._loaded[name] = start, now[name]
            elif here != now[name]:
                stay.append(f"{name} is {here!r} here, and was {now[name]:g}")
        return stay


def shortest(number: Any) -> float:
    """Returns the shortest decimal that gives a number back: 0.9, not 0.8999999761581421."""
    return float(str(np.asarray(number, value_dtype())))
