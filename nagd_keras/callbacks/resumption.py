"""What a fit depends on besides the weights and the state of its optimizer, read and set."""

import copy
import inspect
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from nagd_keras import keras_private as private
from nagd_keras.backends.current import current
from nagd_keras.callbacks.plain import is_plain
from nagd_keras.nagd import NAGD
from nagd_keras.saving import _optimizers
from nagd_keras.tensors import number, values_of

# Models that were built by their first batch


def call_on(model: Any, shapes: Any) -> None:
    """Calls a model on inputs without values, of the shapes of its first batch.

    Args:
        model: the model; the call builds it.
        shapes: what its `get_build_config` returned, a dictionary or None, perhaps through JSON.

    Raises:
        ValueError: if the model cannot be called like this.
    """
    try:
        if "input_shape" in (shapes or {}):
            model(_tensors(shapes["input_shape"]))
        else:
            named = shapes["shapes_dict"].items()
            # Keras names them "x_shape" and so on.
            model(**{name.rpartition("_")[0]: _tensors(shape) for name, shape in named})
    except Exception as error:  # Of the model's own code.
        raise ValueError(
            "Backup cannot build this model again from the shapes of its first batch, which built "
            f"it. Received: {shapes}, and {type(error).__name__}: {error}. Build the model before "
            "fit: begin it with a keras.Input, or call it on a batch."
        ) from error


def _tensors(shape: Any) -> Any:
    if isinstance(shape, dict):
        return {name: _tensors(each) for name, each in shape.items()}
    if all(size is None or isinstance(size, int) for size in shape):
        return keras.KerasTensor(tuple(shape))
    return [_tensors(each) for each in shape]


# Other callbacks

# Those that report what this fit does, and no other.
_OF_ONE_FIT = keras.callbacks.History, keras.callbacks.ProgbarLogger


def remembers(callback: Any) -> bool:
    """Whether a callback loses what it knows with the process.

    This package's callbacks keep theirs with the optimizer's state.
    """
    return not hasattr(callback, "fit_roles") and not isinstance(callback, _OF_ONE_FIT)


def attributes(callback: Any) -> dict[str, Any]:
    """Returns copies of a callback's public attributes that are plain, but not its settings.

    An attribute is a setting if it is named like an argument of the constructor.
    """
    settings = {"params", "model"}
    for each in type(callback).__mro__:
        if "__init__" in vars(each):
            settings.update(inspect.signature(each.__init__).parameters)  # type: ignore[misc]
    return {
        name: copy.deepcopy(value)
        for name, value in vars(callback).items()
        if not name.startswith("_") and name not in settings and is_plain(value)
    }


def all_attributes(
    callbacks: Iterable[Any], begun: Iterable[Mapping[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """Returns what callbacks know, by the names of their classes, in their order.

    It leaves out what has not changed since the fit began: data, or the end of a time limit.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for each, before in zip(callbacks, begun, strict=True):
        now = attributes(each)
        changed = {n: x for n, x in now.items() if n not in before or not _same(x, before[n])}
        found.setdefault(type(each).__name__, []).append(changed)
    return found


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(x, b[name]) for name, x in a.items())
    return type(a) is type(b) and np.shape(a) == np.shape(b) and bool(np.all(a == b))


def set_attributes(
    callbacks: Sequence[Any], kept: dict[str, list[dict[str, Any]]], some: Sequence[Any]
) -> None:
    """Sets the attributes of some callbacks, found by their places among all of their class."""
    queues = {name: iter(each) for name, each in kept.items()}
    for callback in callbacks:
        mine = next(queues.get(type(callback).__name__, iter(())), {})
        if any(callback is each for each in some):
            vars(callback).update(mine)


# Random numbers


def _seeds(model: Any) -> list[Any]:
    """Returns the variables of a model's seed generators, which Keras does not save."""
    weights = {id(variable) for variable in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]


def randomness(model: Any) -> dict[str, Any]:
    """Returns the state of all random generators that Keras draws from while a model trains."""
    version, words, gauss = random.getstate()
    name, *state = np.random.get_state()  # noqa: NPY002  It is Keras' choice.
    seed = private.global_seed()
    return {
        "python": [version, list(words), gauss],
        "numpy": [name, *state],
        "backend": current.generators(),
        "model": [values_of(each) for each in _seeds(model)],
        "keras": None if seed is None else values_of(seed),
    }


def set_randomness(model: Any, kept: dict[str, Any]) -> None:
    """Sets all random generators to what `randomness` returned."""
    for variable, value in zip(_seeds(model), kept["model"], strict=False):
        variable.assign(value)
    if kept["keras"] is not None:
        private.make_global_seed().assign(kept["keras"])
    current.set_generators(kept["backend"])
    version, words, gauss = kept["python"]
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(tuple(kept["numpy"]))  # noqa: NPY002


# The numbers of optimizers


def numbers(model: Any) -> list[dict[str, float]]:
    """Returns all numbers of each NAGD of a model: the learning rate, counters and so on."""
    return [{name: number(x) for name, x in used.items()} for used in _used(model)]


def set_numbers(model: Any, kept: Sequence[dict[str, float]]) -> None:
    """Sets those of the numbers from `numbers` that an optimizer has."""
    for used, values in zip(_used(model), kept, strict=False):
        for name in used.keys() & values.keys():
            used[name].assign(values[name])


def _used(model: Any) -> list[dict[str, Any]]:
    inner = [getattr(each, "inner_optimizer", each) for each in _optimizers(model)]
    return [each._state.scalars.used() for each in inner if isinstance(each, NAGD)]
