"""What the arguments of schedules and callbacks must be."""

import numbers
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras.optimizers.schedules import LearningRateSchedule

from nagd_keras.hyperparameters import Hyperparameter, value_dtype

_REAL = ("float16", "bfloat16", "float32", "float64")


def value(name: str, given: Any, supremum: float = float("inf")) -> float:
    """Returns a number in [0, supremum); raises what `Hyperparameter.number` raises."""
    return Hyperparameter(name, supremum).number(given, f"{name}={given!r}", alternatives="")


def positive(name: str, given: Any) -> float:
    """Returns a number in (0, infinity); raises what `Hyperparameter.number` raises."""
    number = value(name, given)
    if not np.asarray(number, value_dtype()):  # which 1e-50 is not, as a float32
        raise ValueError(
            f"`{name}` must be larger than 0 in {value_dtype()}. Received: {name}={given!r}."
        )
    return number


def value_or_schedule(name: str, given: Any) -> Any:
    """Returns a schedule as it is, and a number in [0, infinity) as a float."""
    if isinstance(given, LearningRateSchedule):
        return given
    return Hyperparameter(name).number(
        given, f"{name}={given!r}", ", or a `keras.optimizers.schedules.LearningRateSchedule`"
    )


def count(name: str, given: Any, least: int = 1) -> int:
    """Returns an integer that is at least `least`.

    Raises:
        TypeError: if it is no integer.
        ValueError: if it is too small, or beyond the 32 bits that steps have.
    """
    said = f"`{name}` must be an integer in [{least}, 2^31). Received: {name}={given!r}"
    if isinstance(given, bool) or not isinstance(given, numbers.Integral):
        raise TypeError(f"{said} (of type {type(given).__name__}).")
    number = int(given)
    if not least <= number < 2**31:
        raise ValueError(f"{said}.")
    return number


def choice(name: str, given: Any, allowed: Sequence[str], alternatives: str = "") -> str:
    """Returns one of the words that are allowed; `alternatives` is for the message only.

    Raises:
        ValueError: for anything else.
    """
    if not isinstance(given, str) or given not in allowed:
        words = ", ".join(map(repr, allowed))
        raise ValueError(
            f"`{name}` must be one of {words}{alternatives}. Received: {name}={given!r}."
        )
    return given


def slot_dtype(given: Any) -> str | None:
    """Returns the name of a dtype of real numbers; None stays None.

    Raises:
        ValueError: for anything else.
    """
    if given is None:
        return None
    try:
        name: str = keras.backend.standardize_dtype(given)
    except (TypeError, ValueError):
        name = ""
    if name not in _REAL:
        raise ValueError(
            f"`slot_dtype` must be None, for the dtype of each variable, or one of "
            f"{', '.join(map(repr, _REAL))}. Received: slot_dtype={given!r}."
        )
    return name


def verbosity(given: Any) -> int:
    """Returns 0 or 1, for a callback that prints or does not.

    Raises:
        ValueError: for anything else.
    """
    if not isinstance(given, numbers.Integral) or given not in (0, 1):
        raise ValueError(
            "`verbose` must be 0, to print nothing, or 1. "
            f"Received: verbose={given!r} (of type {type(given).__name__})."
        )
    return int(given)


def serialized(given: Any) -> Any:
    """Returns what stands for a number or a schedule in a config."""
    if isinstance(given, LearningRateSchedule):
        return keras.saving.serialize_keras_object(given)
    return given
