"""Arrays of another framework brought into the layouts of Keras' variables."""

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import keras
import numpy as np

from nagd_keras.arguments import patterns

Axes = Sequence[int] | None
_EXAMPLE = 'transposes={"dense.*kernel": (1, 0), "embeddings": None}'


def checked_variables(name: str, variables: Any) -> list[Any]:
    """Returns a list of Keras variables, all different.

    Raises:
        TypeError: if it is something else.
        ValueError: if it is empty or has a variable twice.
    """
    listed = list(variables) if isinstance(variables, Iterable) else [variables]
    for variable in listed:
        if not isinstance(variable, keras.Variable):
            raise TypeError(
                f"`{name}` must be a list of Keras variables, such as model.trainable_variables. "
                f"Received: a {type(variable).__name__} among {len(listed)} item(s)."
            )
    different = len({id(variable) for variable in listed})
    if not listed or different < len(listed):
        raise ValueError(
            f"`{name}` must name each Keras variable once. Received: {len(listed)} items, "
            f"{different} different ones."
        )
    return listed


def checked_order(order: Any, variables: Sequence[Any]) -> list[Any] | None:
    """Returns `trainable_variables`, which must be the variables in some order, or None."""
    if order is None:
        return None
    listed = checked_variables("trainable_variables", order)
    both = {id(v) for v in variables} & {id(v) for v in listed}
    if odd := [v.path for v in (*variables, *listed) if id(v) not in both]:
        raise ValueError(
            "`trainable_variables` must hold the same variables as `variables`, in the order in "
            "which Keras trains and saves them: model.trainable_variables. Received: only in "
            f"one of the two: {', '.join(odd)}."
        )
    return listed


def axes_of(variables: Sequence[Any], transposes: Any, *, all_must_match: bool) -> dict[int, Axes]:
    """Returns, by the places of the variables, the axes by which their arrays are transposed.

    It ignores variables of fewer than two dimensions, which have only one layout.

    Args:
        variables: the Keras variables.
        transposes: None or {regular expression: axes or None}. The first expression that is found
            in a variable's path counts.
        all_must_match: whether each variable needs a match.

    Raises:
        TypeError: if `transposes` is not of this kind.
        ValueError: for a text that is not a regular expression, an expression that is found
            nowhere, and a variable that needs a match and has none.
    """
    transposes = patterns("transposes", transposes or {}, f"axes or None, such as {_EXAMPLE}")
    paths = {i: v.path for i, v in enumerate(variables) if len(v.shape) >= 2}
    for pattern in transposes:
        if not any(re.search(pattern, path) for path in paths.values()):
            raise ValueError(
                f"`transposes` has the pattern {pattern!r}, which is found in the path of no "
                f"variable of two or more dimensions. Those are: {', '.join(paths.values())}. "
                "Correct the pattern or leave it out."
            )
    found: dict[int, Axes] = {}
    for i, path in paths.items():
        matching = [axes for pattern, axes in transposes.items() if re.search(pattern, path)]
        if matching:
            found[i] = matching[0]
        elif all_must_match:
            raise ValueError(
                "`transposes` must say how the axes of each variable of two or more dimensions "
                "come about, since PyTorch and Keras order them differently, and a square matrix "
                f"fits both ways. Not matched: {path}. Give regular expressions, searched in the "
                f"paths, and axes, or None for the same order, such as {_EXAMPLE}."
            )
    return found


def arranged(array: Any, variable: Any, axes: Axes, what: str) -> np.ndarray:
    """Returns an array of another framework as a float64 array in its variable's layout.

    Raises:
        ValueError: if the result does not have the variable's shape, or the array not these axes.
    """
    if getattr(array, "is_meta", False):
        raise ValueError(
            f"The {what} holds no data. Received: a tensor on PyTorch's device 'meta'. Load the "
            "state on a real device."
        )
    given = as_numpy(array)
    found = None
    with suppress(TypeError, ValueError):  # for what are no axes of it
        found = given if axes is None else np.transpose(given, axes)
    if found is None or found.shape != tuple(variable.shape):
        turned = "" if axes is None else f", transposed by {axes}"
        raise ValueError(
            f"The {what} does not fit its Keras variable. Received: an array of shape "
            f"{given.shape}{turned} for the variable {variable.path} of shape "
            f"{tuple(variable.shape)}. Pass `variables` in the order of the other framework's "
            "parameters, and in `transposes` how the axes of each come about."
        )
    return found


def as_numpy(array: Any) -> np.ndarray:
    """Returns a NumPy array, or a tensor of PyTorch or JAX, on whatever device, as float64."""
    if hasattr(array, "detach"):  # PyTorch's, of which NumPy knows no bfloat16 and none is sparse
        array = array.detach().cpu().to_dense().double().numpy()
    return np.asarray(array).astype(np.float64)
