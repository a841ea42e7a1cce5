"""A hyperparameter: float | schedule | callable, to a tracked, settable, serializable value.

The optimizer holds each hyperparameter as Keras holds its learning rate, as a *source*:
a `keras.Variable` (made from a number, settable while training), a `LearningRateSchedule`
(read at a step), or a callable without arguments (called when the value is needed).
"""

import inspect
import math
import numbers
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras.optimizers.schedules import LearningRateSchedule

from nagd_keras.tensors import detached, is_array, is_real, is_symbolic, static_shape

_ALTERNATIVES = (
    ", a `keras.optimizers.schedules.LearningRateSchedule`, or a callable without arguments"
)


@dataclass(frozen=True)
class Hyperparameter:
    """The name and the range of one hyperparameter, and what follows from them.

    Attributes:
        name: the argument and the property that it is known by.
        supremum: the values allowed are those in [0, supremum).
        first_step: the step at which a schedule is read first.
    """

    name: str
    supremum: float = math.inf
    first_step: int = 0

    def checked(self, value: Any) -> Any:
        """Returns a number as a float, and a schedule or callable as it is.

        Raises:
            TypeError: if it is none of these, or a callable that wants arguments.
            ValueError: if the number, or what the schedule returns for a step that is tried, is
                not a scalar in the allowed range.
        """
        if isinstance(value, LearningRateSchedule):
            # A schedule is a pure function of the step, so it can be tried where it begins.
            integer = keras.backend.standardize_dtype("int")
            for step in sorted({self.first_step, 1}):
                tried = value(keras.ops.convert_to_tensor(step, integer))
                received = f"{tried!r} from {value!r} at step {step}"
                self.check_scalar(tried, received)
                if not is_symbolic(tried):
                    self.number(tried, received)
            return value
        if callable(value) and not is_array(value):
            _check_takes_no_arguments(self.name, value)
            return value
        return self.number(value, f"{self.name}={value!r}")

    def number(self, value: Any, received: str, alternatives: str = _ALTERNATIVES) -> float:
        """Returns `value` as a float; raises if it is not a number in the allowed range."""

        def refusal(of_type: Any, note: str = "") -> str:
            return (
                f"`{self.name}` must be a finite number in [0, {self.supremum:g}){alternatives}. "
                f"Received: {received} (of type {type(of_type).__name__}{note})."
            )

        if is_array(value):
            self.check_scalar(value, received)
        real = is_real(value) if is_array(value) else isinstance(value, numbers.Real)
        if not real or isinstance(value, (bool, np.bool_)):
            raise TypeError(refusal(value))
        try:
            number = float(detached(value))
        except OverflowError:  # An integer beyond the range of a float.
            number = math.inf
        # Seen in the precision that it will be kept in: 1 - 1e-9 is 1 there, and 1e39 is infinite.
        with np.errstate(over="ignore"):
            kept = float(np.asarray(number, value_dtype()))
        if not 0.0 <= kept < self.supremum:
            rounded = 0.0 <= number < self.supremum
            raise ValueError(refusal(value, f"; {kept} in {value_dtype()}" if rounded else ""))
        return number

    def check_scalar(self, value: Any, received: str) -> None:
        """Raises unless `value`, a number or a tensor (symbolic, perhaps), has the shape ()."""
        shape = static_shape(value)
        if shape is not None and shape != ():
            raise ValueError(
                f"`{self.name}` must be one number, a scalar of shape (). Received: {received} "
                f"with the shape {shape}. Give a scalar: one value holds for all variables."
            )

    def source(self, value: Any, add_variable: Any) -> Any:
        """Returns the source for a checked value; a number becomes a tracked variable.

        Args:
            value: what `checked` returned.
            add_variable: the `add_variable` method of the optimizer that will own the variable.
        """
        if callable(value):
            return value
        dtype = value_dtype()
        return add_variable(
            shape=(),
            # As an array of the final dtype: a Python float would pass through float32.
            initializer=keras.initializers.Constant(np.asarray(value, dtype)),
            dtype=dtype,
            aggregation="only_first_replica",
            name=self.name,
        )

    def read(self, source: Any, step: Any) -> Any:
        """Returns the present value: a variable, tensor or number.

        Raises:
            TypeError, ValueError: if a schedule or callable gives anything but a scalar in the
                range. Inside a compiled step only the shape is known.
        """
        if isinstance(source, LearningRateSchedule):
            value = source(step)
        elif callable(source):
            value = source()
        else:
            return source
        received = f"{value!r} from {source!r}"
        self.check_scalar(value, received)
        if not is_symbolic(value):
            self.number(value, received)
        return value

    def assign(self, source: Any, value: Any) -> None:
        """Sets the number behind `source`, which takes effect in the next update.

        Raises:
            TypeError: if `source` is not a number that can be set, or `value` is not a number.
            ValueError: if `value` is out of range.
        """
        if callable(value) and not is_array(value):
            raise TypeError(
                f"`{self.name}` can be set to a number only. Received: {self.name}={value!r}. "
                "A compiled step would not see a new schedule or callable: make "
                f"a new optimizer with {self.name}={value!r} instead."
            )
        if source is None:
            raise TypeError(
                f"This optimizer was built without {self.name}, and a compiled step has no place "
                f"for one. Received: {self.name}={value!r}. Make the optimizer with "
                f"{self.name}=0.0 to set it while training."
            )
        if not isinstance(source, keras.Variable):
            raise TypeError(
                f"This optimizer was built with {self.name}={source!r}, so its {self.name} "
                f"follows that and cannot be set. Received: {self.name}={value!r}. Make the "
                f"optimizer with a number as {self.name} to set it while training."
            )
        if is_symbolic(value):
            # Inside a compiled step the value is not known yet, and perhaps not its shape.
            source.assign(keras.ops.reshape(keras.ops.cast(value, source.dtype), ()))
        else:
            source.assign(self.number(value, f"{self.name}={value!r}", alternatives=""))

    def serialized(self, source: Any) -> Any:
        """Returns what stands for `source` in an optimizer's config.

        Raises:
            ValueError: if it is a schedule or a callable that Keras would not load again.
        """
        if callable(source):
            return _loadable(self.name, source)
        value = float(source.numpy())
        if keras.backend.standardize_dtype(source.dtype) == "float32":
            # The shortest decimal that gives it back: 0.9, not 0.8999999761581421.
            return float(str(np.float32(value)))
        return value


LEARNING_RATE = Hyperparameter("learning_rate")
MOMENTUM = Hyperparameter("momentum", supremum=1.0, first_step=1)
WEIGHT_DECAY = Hyperparameter("weight_decay")


def value_dtype() -> str:
    """The dtype that hyperparameters are kept in: never 16 bits, where a momentum of 0.999 is 1."""
    return "float64" if keras.config.floatx() == "float64" else "float32"


def deserialized(value: Any, custom_objects: dict[str, Any] | None = None) -> Any:
    """The reverse of `Hyperparameter.serialized`."""
    if isinstance(value, dict):
        return keras.saving.deserialize_keras_object(value, custom_objects=custom_objects)
    return value


def _loadable(name: str, source: Any) -> Any:
    """Returns Keras' config of a schedule or a callable; raises if it could not be loaded."""
    reason = "it is a lambda, which is code, and code from a file is not safe to load"
    if getattr(source, "__name__", "") != "<lambda>":
        try:
            config = keras.saving.serialize_keras_object(source)
            again = keras.saving.deserialize_keras_object(config, safe_mode=True)
        except Exception as error:  # Keras raises errors of many kinds.
            reason = str(error).partition("\n")[0]
        else:
            # A function is found by its name, which may be that of one of Keras' own.
            if type(again) is type(source) and (again is source or not inspect.isroutine(source)):
                return config
            reason = f"Keras would load {again!r} in its place"
    kind = "schedule" if isinstance(source, LearningRateSchedule) else "callable"
    raise ValueError(
        f"The optimizer cannot be saved or copied, since its {name} could not be loaded again. "
        f"Received: {name}={source!r}, and {reason}. Decorate the {kind}'s definition, a function "
        "or a class with `get_config`, with `@keras.saving.register_keras_serializable()`; or "
        "give a number or a schedule of Keras or nagd_keras. `save_weights` works as it is."
    )


def _check_takes_no_arguments(name: str, function: Any) -> None:
    try:
        signature = inspect.signature(function)
    except ValueError:  # Some built-in functions do not tell.
        return
    try:
        signature.bind()
    except TypeError as error:
        raise TypeError(
            f"A callable given as `{name}` is called without arguments. Received: "
            f"{name}={function!r} with the signature {signature}. For a function of the step, "
            "subclass `keras.optimizers.schedules.LearningRateSchedule`."
        ) from error
