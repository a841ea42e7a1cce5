"""The first format, which had a variable for each scalar.

NaN stood for no value, and callbacks had eight numbers.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

FORMAT = 1

# The eight numbers by their places: the callback, and its own name for each.
_NUMBERS = (
    ("AdaptiveRestart", "objective"),
    ("AdaptiveRestart", "epoch"),
    ("StopAtTolerance", "loss"),
    ("StopAtTolerance", "waited"),
    ("StopAtTolerance", "epoch"),
    ("DivergenceGuard", "rollbacks"),
    ("DivergenceGuard", "since"),
    ("DivergenceGuard", "rate"),
)
_WHOLE = "epoch", "waited", "rollbacks", "since"
_MEASURED = "gradient_norm", "velocity_norm"


def scalars(arrays: dict[Any, Any]) -> tuple[dict[Any, Any], dict[str, Any]]:
    """Returns the arrays as in the present format, and its further entries."""
    kept, extras = {}, {"at_iterate": False, "notes": {}}
    for name, array in arrays.items():
        if name.path == "" and name.slot == "callback_state":
            extras["notes"] = {} if array is None else notes(array)
        elif name.path == "" and name.slot == "holds_iterate":
            extras["at_iterate"] = array is not None and bool(array)
        else:
            kept[name] = measured(name.slot, array) if name.path == "" else array
    return kept, extras


def measured(name: str, array: Any) -> Any:
    """Returns a number, with the present sign of no value in the place of NaN."""
    if name not in _MEASURED or array is None:
        return array
    none = -1 if name == "gradient_norm" else 0
    return np.where(np.isnan(array), none, array).astype(array.dtype)


def notes(numbers: Any) -> dict[str, dict[str, Any]]:
    """Returns the eight numbers as notes of their callbacks."""
    found: dict[str, dict[str, Any]] = {}
    for (who, name), number in zip(_NUMBERS, np.asarray(numbers).tolist(), strict=True):
        if not np.isnan(number):
            found.setdefault(who, {})[name] = int(number) if name in _WHOLE else number
    return found


def by_position(optimizer: Any, names: Sequence[str], weights: Sequence[Any]) -> list[str] | None:
    """Returns what the first arrays of a list without names were in the first format, or None.

    Args:
        optimizer: the optimizer, whose settings decide which numbers there were.
        names: the scalars in use here, in the order of that format.
        weights: all arrays, the slots last.
    """
    order = ["iteration", "learning_rate", "learning_rate_factor", "momentum", "weight_decay"]
    order += ["age", "restarts", "holds_iterate", "gradient_norm", "callback_state"]
    order += ["skipped_updates"] if optimizer.skip_nonfinite else []
    order += ["velocity_norm"] if optimizer.restart == "speed" else []
    always = "iteration", "holds_iterate", "callback_state"
    old = [name for name in order if name in names or name in always]
    place = old.index("callback_state")
    shapes = [np.shape(w) for w in weights[: len(old)]]
    fits = len(shapes) == len(old) and shapes[place] == (len(_NUMBERS),)
    return old if fits and not any(s for i, s in enumerate(shapes) if i != place) else None
