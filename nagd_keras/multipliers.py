"""Learning rates of single variables, as multiples of the optimizer's."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from nagd_keras.arguments import patterns, value


def checked_multipliers(multipliers: Any) -> dict[str, float] | None:
    """Returns a copy of {regular expression: factor} with the factors as floats; None stays None.

    Raises:
        TypeError: if it is not a mapping from text to numbers.
        ValueError: for a text that is not a regular expression, or a factor outside [0, infinity).
    """
    if multipliers is None:
        return None
    name = "learning_rate_multipliers"
    checked = patterns(name, multipliers, "factors")
    return {p: value(f"{name}[{p!r}]", factor) for p, factor in checked.items()}


def matched(multipliers: Mapping[str, float] | None, variables: Sequence[Any]) -> list[float]:
    """Returns the factor of each variable: that of the first pattern found in its path, else 1."""
    multipliers = multipliers or {}
    return [
        next((factor for pattern, factor in multipliers.items() if re.search(pattern, path)), 1.0)
        for path in _paths(variables)
    ]


def check_found(multipliers: Mapping[str, float] | None, variables: Sequence[Any]) -> None:
    """Raises ValueError if a pattern is found in no variable's path."""
    paths = _paths(variables)
    for pattern in multipliers or {}:
        if not any(re.search(pattern, path) for path in paths):
            raise ValueError(
                f"`learning_rate_multipliers` has the pattern {pattern!r}, which is found in the "
                "path of no variable that is trained. The paths are: "
                f"{', '.join(paths)}. Correct the pattern or leave it out; for layers that are "
                "frozen now and trained later, compile again with the pattern then."
            )


def _paths(variables: Sequence[Any]) -> list[str]:
    return [variable.path for variable in variables]
