"""Checks of arguments: those of the optimizer, schedules, callbacks and conversions."""

import inspect
import numbers
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypeVar, get_args

from keras.optimizers.schedules import LearningRateSchedule

from nagd_keras.hyperparameters import Hyperparameter, check_no_variable

Number = TypeVar("Number", int, float)
Choice = TypeVar("Choice")
_NOW = "Give its present value, float(variable)."
RealDtype: TypeAlias = Literal["float16", "bfloat16", "float32", "float64"]
REAL_DTYPES: tuple[RealDtype, ...] = get_args(RealDtype)


def value(name: str, given: Any, supremum: float = float("inf"), least: float = 0.0) -> float:
    """Returns a number in [least, supremum); raises what `Hyperparameter.number` raises."""
    check_no_variable(name, given, _NOW)
    number = Hyperparameter(name, supremum).number(given, alternatives="")
    if number < least:
        raise ValueError(f"`{name}` must be at least {least:g}. Received: {name}={given!r}.")
    return number


def positive(name: str, given: Any, above: float = 0.0) -> float:
    """Returns a number in (above, infinity); raises what `Hyperparameter.number` raises."""
    number = value(name, given)
    if number <= above:
        raise ValueError(f"`{name}` must be larger than {above:g}. Received: {name}={given!r}.")
    return number


def value_or_schedule(name: str, given: Any) -> Any:
    """Returns a schedule as it is, and a number in [0, infinity) as a float."""
    if isinstance(given, LearningRateSchedule):
        return given
    check_no_variable(name, given, _NOW)
    return Hyperparameter(name).number(
        given, f"{name}={given!r}", ", or a `keras.optimizers.schedules.LearningRateSchedule`"
    )


def count(name: str, given: Any, least: int = 1) -> int:
    """Returns an integer that is at least `least`.

    Raises:
        TypeError: if it is not an integer.
        ValueError: if it is too small, or beyond the 32 bits of a step.
    """
    said = f"`{name}` must be an integer in [{least}, 2^31). Received: {name}={given!r}"
    if isinstance(given, bool) or not isinstance(given, numbers.Integral):
        raise TypeError(f"{said} (of type {type(given).__name__}).")
    number = int(given)
    if not least <= number < 2**31:
        raise ValueError(f"{said}.")
    return number


def share(name: str, given: Any) -> float:
    """Returns a number in (0, 1].

    Raises:
        TypeError, ValueError: for anything else.
    """
    number = positive(name, given)
    if number > 1:
        raise ValueError(f"`{name}` must be in (0, 1]. Received: {name}={given!r}.")
    return number


def optional(check: Callable[..., Number], name: str, given: Any, **limits: float) -> Number | None:
    """Returns None, or what a check of this module returns."""
    return None if given is None else check(name, given, **limits)


def choice(name: str, given: Any, allowed: Sequence[Choice]) -> Choice:
    """Returns one of the allowed values; raises ValueError for another."""
    if given not in allowed:
        words = ", ".join(map(repr, allowed))
        raise ValueError(f"`{name}` must be one of {words}. Received: {name}={given!r}.")
    chosen: Choice = given
    return chosen


def call_of(made: Any) -> str:
    """Returns the call that makes an object, from the arguments that it keeps by their names."""
    names = [name for name in inspect.signature(type(made)).parameters if hasattr(made, name)]
    listed = ", ".join(f"{name}={getattr(made, name)!r}" for name in names)
    return f"{type(made).__name__}({listed})"


def takes(function: Callable[..., Any], *arguments: Any) -> bool:
    """Whether a function takes these arguments; True if it does not tell."""
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:  # Some built-in functions do not tell.
        return True
    return True


def boolean(name: str, given: Any) -> bool:
    """Returns True or False; raises TypeError for another value."""
    if not isinstance(given, bool):
        raise TypeError(f"`{name}` must be True or False. Received: {name}={given!r}.")
    return given


def verbosity(given: Any) -> int:
    """Returns 1 for a callback that prints, or 0; raises ValueError for another value."""
    return int(choice("verbose", given, (0, 1)))


def expressions(name: str, given: Any) -> list[re.Pattern[str]]:
    """Returns regular expressions from a sequence of text.

    Raises:
        TypeError: if it is not such a sequence.
        ValueError: for a text that is not a regular expression.
    """
    if isinstance(given, str) or not all(isinstance(pattern, str) for pattern in given):
        raise TypeError(
            f"`{name}` must be a list of regular expressions, as text. Received: {name}={given!r}."
        )
    return [_expression(name, pattern) for pattern in given]


def patterns(name: str, given: Any, values: str) -> dict[str, Any]:
    """Returns a copy of a dictionary whose keys are regular expressions.

    Raises:
        TypeError: if it is not a mapping from text; the message says that it maps to `values`.
        ValueError: for a text that is not a regular expression.
    """
    if not isinstance(given, Mapping) or not all(isinstance(pattern, str) for pattern in given):
        raise TypeError(
            f"`{name}` must be a dictionary of regular expressions, as text, and {values}. "
            f"Received: {name}={given!r}."
        )
    for pattern in given:
        _expression(name, pattern)
    return dict(given)


def _expression(name: str, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"`{name}` takes regular expressions. Received: {pattern!r}, which is not one: "
            f"{error}. Use `re.escape` for plain text."
        ) from error
