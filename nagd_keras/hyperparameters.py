"""One hyperparameter: what it may be, and how an optimizer's attribute reads and sets it.

To add one to an optimizer, declare it in the class, take it as an argument, and use its value in
the pipeline. It is then checked, live, scheduled, saved and serialized.
"""

import inspect
import math
import numbers
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self, SupportsFloat, TypeAlias, overload

import keras
import numpy as np
from keras.optimizers.schedules import LearningRateSchedule

from nagd_keras.backends.current import current
from nagd_keras.scalar import Scalar
from nagd_keras.tensors import detached, is_array, is_real, is_symbolic, static_shape

_ALTERNATIVES = (
    ", a `keras.optimizers.schedules.LearningRateSchedule`, or a callable without arguments"
)
# What can be set: numbers of all kinds, and before the first step a schedule or a callable.
Settable: TypeAlias = SupportsFloat | Callable[..., Any] | None


@dataclass
class Hyperparameter:
    """One hyperparameter, as an attribute of an optimizer's class, and what its values may be.

    Reading it gives the value of the next update. Setting it changes the number that was given.

    Attributes:
        name: the name of the argument and of the attribute.
        supremum: the allowed values are those in [0, supremum).
        clock: what a schedule is read at: "batches", the finished ones, or "age", counted from 1.
        scaled: whether setting it scales the schedule that it follows.
        optional: whether it may be None.
        default: its value if none is given.
    """

    name: str = ""
    supremum: float = math.inf
    clock: str = "batches"
    scaled: bool = False
    optional: bool = False
    default: float | None = None

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, optimizer: None, owner: type | None = None) -> Self: ...

    @overload
    def __get__(self, optimizer: object, owner: type | None = None) -> Scalar | Any: ...

    def __get__(self, optimizer: Any, owner: type | None = None) -> Any:
        # A number is a `Scalar`; a schedule gives a tensor, of which Keras has no type.
        return self if optimizer is None else optimizer._state.hyperparameters.now(self.name)

    def __set__(self, optimizer: Any, value: Settable) -> None:
        # Keras' constructor sets some of these attributes, to nothing, before there are any.
        if hasattr(optimizer, "_state"):
            optimizer._state.hyperparameters.set(self.name, value)

    @property
    def factor(self) -> str:
        """The name of the number that a schedule is multiplied by."""
        return f"{self.name}_factor"

    def checked(self, value: Any) -> Any:
        """Returns a number as a float, and a schedule or callable as it is.

        Raises:
            TypeError: if it is none of these, or a callable that needs arguments.
            ValueError: if the number is not in the allowed range, or what the schedule returns for
                its first steps is not a scalar there.
        """
        if value is None and self.optional:
            return None
        if isinstance(value, LearningRateSchedule):
            # A schedule is a pure function of the step, so it can be tried where it begins.
            integer = keras.backend.standardize_dtype("int")
            for step in (0, 1) if self.clock == "batches" else (1,):
                tried = value(keras.ops.convert_to_tensor(step, integer))
                self._check_given(tried, f"{tried!r} from {value!r} at step {step}")
            return value
        # On JAX a compiled step would hold what the callable returns for a constant.
        callable_too = ", or pass a callable that returns it, lambda: variable"
        way = callable_too if current.writes_in_place else ""
        check_no_variable(
            self.name, value, f"Give a number, and set optimizer.{self.name} while training{way}."
        )
        if callable(value) and not is_array(value):
            _check_takes_no_arguments(self.name, value)
            return value
        return self.number(value, f"{self.name}={value!r}")

    def number(self, value: Any, received: str = "", alternatives: str = _ALTERNATIVES) -> float:
        """Returns `value` as a float; raises if it is not a number in the allowed range."""
        received = received or f"{self.name}={value!r}"

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
            found = float(detached(value))
        except OverflowError:  # An integer beyond the range of a float.
            found = math.inf
        # Seen in the precision that it will be kept in: 1 - 1e-9 is 1 there, and 1e39 is infinite.
        with np.errstate(over="ignore"):
            kept = float(np.asarray(found, value_dtype()))
        if not 0.0 <= kept < self.supremum:
            rounded = 0.0 <= found < self.supremum
            raise ValueError(refusal(value, f"; {kept} in {value_dtype()}" if rounded else ""))
        return found

    def check_scalar(self, value: Any, received: str) -> None:
        """Raises unless `value`, a number or a tensor (even a symbolic one), has the shape ()."""
        shape = static_shape(value)
        if shape is not None and shape != ():
            raise ValueError(
                f"`{self.name}` must be one number, a scalar of shape (). Received: {received} "
                f"with the shape {shape}. Give a scalar: one value holds for all variables."
            )

    def _check_given(self, value: Any, received: str) -> None:
        """Raises unless what a schedule or a callable gave is in range, if its value is known."""
        self.check_scalar(value, received)
        if not is_symbolic(value):
            self.number(value, received)

    def given(self, source: Any, step: Callable[[], Any]) -> Any:
        """Returns what a schedule or a callable gives, and checks it if its value is known."""
        value = source(step()) if isinstance(source, LearningRateSchedule) else source()
        return self.checked_given(value, source)

    def checked_given(self, value: Any, source: Any) -> Any:
        """Returns what a source gave; raises as `number` does if its value is known."""
        # To print a tensor and a source costs more than the update of a small network.
        if not self._surely_fits(value):
            # In a compiled step some versions of Keras cannot print a variable.
            shown = value.path if isinstance(value, keras.Variable) else repr(value)
            self._check_given(value, f"{shown} from {source!r}")
        return value

    def _surely_fits(self, value: Any) -> bool:
        """Whether a value is a known number in the range, and stays there however it is rounded."""
        if not isinstance(value, float):
            scalar = is_array(value) and static_shape(value) == () and is_real(value)
            if not scalar or is_symbolic(value):
                return False
            value = float(detached(value))
        return bool(0.0 <= value < min(self.supremum * (1 - 1e-6), 1e38))


def check_no_variable(name: str, value: Any, otherwise: str) -> None:
    """Raises TypeError for a variable: only its present value would be used."""
    if isinstance(value, (keras.Variable, *current.native_types)):
        raise TypeError(
            f"`{name}` must not be a variable, whose later changes would be lost. Received: "
            f"{name}={value!r}. {otherwise}"
        )


def declared(owner: type) -> dict[str, Hyperparameter]:
    """Returns the hyperparameters that a class and those that it derives from declare."""
    return {
        name: kind
        for each in reversed(owner.__mro__)
        for name, kind in vars(each).items()
        if isinstance(kind, Hyperparameter)
    }


def value_dtype() -> str:
    """The dtype of hyperparameters: never one of 16 bits, in which a momentum of 0.999 is 1."""
    return "float64" if keras.config.floatx() == "float64" else "float32"


def loadable(name: str, source: Any) -> Any:
    """Returns Keras' config of a schedule or a callable; raises if it could not be loaded."""
    try:
        config = keras.saving.serialize_keras_object(source)
        again = keras.saving.deserialize_keras_object(config, safe_mode=True)
        # A function is found by its name, which may be that of one of Keras' own.
        if type(again) is type(source) and (again is source or not inspect.isroutine(source)):
            return config
        reason = f"Keras would load {again!r} in its place"
    except Exception as error:  # Keras raises errors of many kinds, for lambdas too.
        reason = str(error).partition("\n")[0]
    kind = "schedule" if isinstance(source, LearningRateSchedule) else "callable"
    raise ValueError(
        f"The optimizer cannot be saved or copied, since its {name} could not be loaded again. "
        f"Received: {name}={source!r}, and {reason}. Decorate the {kind}'s definition, a function "
        "or a class with `get_config`, with `@keras.saving.register_keras_serializable()`; or "
        "give a number or a schedule of Keras or nagd_keras. `save_weights` works as it is."
    )


def _check_takes_no_arguments(name: str, function: Any) -> None:
    try:
        with suppress(ValueError):  # Some built-in functions do not tell their arguments.
            inspect.signature(function).bind()
    except TypeError as error:
        raise TypeError(
            f"A callable given as `{name}` is called without arguments. Received: "
            f"{name}={function!r}: {error}. For a function of the step, subclass "
            "`nagd_keras.schedules.Schedule`."
        ) from error
