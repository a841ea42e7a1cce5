"""Hyperparameters of an optimizer that can be read, set and scheduled while it trains."""

import math
from typing import Any

import keras
import numpy as np
from keras.optimizers.schedules import LearningRateSchedule

from nagd_keras.hyperparameters import LEARNING_RATE, MOMENTUM, WEIGHT_DECAY, value_dtype
from nagd_keras.tensors import is_array, is_symbolic, number, put, tensor
from nagd_keras.update_rule import Scalars

SETTABLE = ("learning_rate", "momentum", "weight_decay")


class LiveHyperparameters(keras.optimizers.Optimizer):
    """An optimizer with a learning rate, a momentum and a weight decay that are live.

    Each has a source (see hyperparameters.py) in the attribute of its name with an underscore,
    which for the learning rate is that of the base class. A momentum schedule is read at the
    optimizer's age, the other two at its iterations.
    """

    _weight_decay: Any = None  # without decay; the base class' constructor asks before it is set
    _age: Any

    def _track_hyperparameters(self, learning_rate: Any, momentum: Any, weight_decay: Any) -> None:
        """Makes the sources of what `Hyperparameter.checked` returned."""
        self._learning_rate = LEARNING_RATE.source(learning_rate, self.add_variable)
        # Multiplies a schedule. Always there: a schedule may still take the place of a number, and
        # the order of the variables, by which Keras saves them, must not depend on how it came.
        self._learning_rate_factor = self._scalar("learning_rate_factor", value_dtype(), 1)
        self._momentum = MOMENTUM.source(momentum, self.add_variable)
        if weight_decay is not None:
            self._weight_decay = WEIGHT_DECAY.source(weight_decay, self.add_variable)

    def _scalar(self, name: str, dtype: str, start: float = 0) -> Any:
        return self._numbers((), name, dtype, start)

    def _numbers(self, shape: tuple[int, ...], name: str, dtype: str, start: float) -> Any:
        later = math.isnan(start) and keras.distribution.distribution() is not None  # see `put`
        variable = self.add_variable(
            shape=shape,
            initializer=keras.initializers.Constant(0 if later else start),
            dtype=dtype,
            aggregation="only_first_replica",
            name=name,
        )
        if later:
            put(variable, np.full(shape, start, dtype))
        return variable

    @property
    def learning_rate(self) -> Any:
        """The learning rate of the next update; settable, unless a callable gives it.

        Setting one that follows a schedule scales the schedule, now and later on, by the value's
        ratio to what the optimizer would have used.
        """
        value = LEARNING_RATE.read(self._learning_rate, self._iterations)
        if not _is_schedule(self._learning_rate):
            return value
        value = tensor(value)
        return value * keras.ops.cast(self._learning_rate_factor, value.dtype)

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        if callable(value) and not is_array(value) and not self.built:
            # Keras lets a schedule take the place of a number, and no step is compiled yet.
            keras.optimizers.Optimizer.learning_rate.fset(self, LEARNING_RATE.checked(value))
        elif _is_schedule(self._learning_rate) and not callable(value):
            self._scale_learning_rate(value)
        else:
            LEARNING_RATE.assign(self._learning_rate, value)

    def _scale_learning_rate(self, value: Any) -> None:
        now = LEARNING_RATE.read(self._learning_rate, self._iterations)
        if is_symbolic(value) or is_symbolic(now):  # Within a compiled step neither is known.
            ratio = keras.ops.cast(value, value_dtype()) / keras.ops.cast(now, value_dtype())
            self._learning_rate_factor.assign(ratio)
            return
        now = number(now)
        value = LEARNING_RATE.number(value, f"learning_rate={value!r}", alternatives="")
        if value == now == 0:
            return  # No ratio can be told, and none is needed.
        if now == 0:
            step = int(number(self._iterations))
            raise ValueError(
                "Setting a learning rate that follows a schedule scales the schedule, but its "
                f"value is 0 at step {step}. Received: learning_rate={value}, schedule: "
                f"{self._learning_rate!r}. Set it at another step, or give the optimizer a number."
            )
        # Which refuses a ratio that has no place in a float32.
        ratio = LEARNING_RATE.number(value / now, f"{value / now} times {now}", alternatives="")
        self._learning_rate_factor.assign(ratio)

    @property
    def learning_rate_scale(self) -> Any:
        """What `scale_learning_rate` multiplies: the number, or the factor of a schedule.

        None where a callable gives the learning rate.
        """
        kind = self.given_as("learning_rate")
        return {"number": self._learning_rate, "schedule": self._learning_rate_factor}.get(kind)

    def scale_learning_rate(self, factor: float) -> None:
        """Multiplies the learning rate, and that of all steps to come if it follows a schedule.

        Unlike to set it, which takes a ratio to what the schedule gives now, this can be done
        where a schedule is 0.

        Raises:
            TypeError: if a callable gives the learning rate, or the factor is not a number.
            ValueError: if the result is out of range.
        """
        scale = self.learning_rate_scale
        if scale is None:
            LEARNING_RATE.assign(self._learning_rate, factor)  # which says why it cannot be done
            return
        factor = LEARNING_RATE.number(factor, f"the factor {factor!r}", alternatives="")
        product = number(scale) * factor
        scale.assign(LEARNING_RATE.number(product, f"{factor!r} times it", alternatives=""))

    @property
    def momentum(self) -> Any:
        """The momentum of the next update; settable if it was given as a number."""
        # Of the age only a schedule knows what to make.
        step = self._age + 1 if _is_schedule(self._momentum) else None
        return MOMENTUM.read(self._momentum, step)

    @momentum.setter
    def momentum(self, value: Any) -> None:
        MOMENTUM.assign(self._momentum, value)

    @property
    def weight_decay(self) -> Any:
        """The weight decay of the next update, or None; settable if it was given as a number."""
        if self._weight_decay is None:
            return None
        return WEIGHT_DECAY.read(self._weight_decay, self._iterations)

    @weight_decay.setter
    def weight_decay(self, value: Any) -> None:
        if value is not None or self._weight_decay is not None:
            WEIGHT_DECAY.assign(self._weight_decay, value)

    def given_as(self, name: str) -> str:
        """Returns what a hyperparameter is: "number", "schedule", "callable" or "None"."""
        source = getattr(self, f"_{name}")
        if source is None:
            return "None"
        if _is_schedule(source):
            return "schedule"
        return "callable" if callable(source) else "number"

    def __setattr__(self, name: str, value: Any) -> None:
        if name in SETTABLE:
            # Keras and TensorFlow adopt any variable that is assigned to an attribute into the
            # optimizer's saved state; `optimizer.momentum = other.momentum` means the value.
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def _scalars(self, learning_rate: Any) -> Scalars:
        """The present values: variables, tensors or numbers."""
        return Scalars(learning_rate, self.momentum, self.weight_decay)


def _is_schedule(value: Any) -> bool:
    return isinstance(value, LearningRateSchedule)
