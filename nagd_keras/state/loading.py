"""How a saved state is loaded: all of it or nothing, at once or when the optimizer is built."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from nagd_keras.backends.current import current
from nagd_keras.state import legacy
from nagd_keras.state.archive import LOOK_AHEAD, Name, Pending, Saved, of_dtype
from nagd_keras.state.checkpoint import check_restored
from nagd_keras.state.matching import matched, paths_of, some_of
from nagd_keras.tensors import values_of


def load(state: Any, store: Any) -> None:
    """Reads what `save` wrote, matched by the paths of the model's variables.

    If the optimizer is not built yet, the slots are matched and loaded when it is. What the
    file lacks starts as in a new optimizer; what only the file has is named in a warning.

    Raises:
        ValueError: if it is not the state of an NAGD, or that of other variables, or damaged.
            Nothing of the optimizer is changed then.
    """
    saved = Saved.read(store)
    if saved is None:
        warnings.warn(
            f"What was loaded holds no state for the optimizer {state.optimizer.name!r}, which "
            "stays as it is. It was saved without an optimizer.",
            stacklevel=2,
        )
        return
    if saved.built and state.optimizer.built:
        plan = _plan(state, saved)
        state.pending = None
    else:
        numbers = {name: array for name, array in saved.arrays.items() if not name.path}
        # The slots, if there are any, become what they are where no update was made.
        plan = _fitted(state, numbers, state.named())
        state.pending = Pending(saved) if saved.built else None
        state.points.remember(saved.at_iterate, {})
    for target, array in plan:
        target.assign(array)
    state.notes.replace(saved.notes)


def load_pending(state: Any) -> None:
    """Gives the slots, once they are there, the values that were loaded before."""
    pending = state.pending
    if pending is None:
        return
    if current.several_replicas() and not pending.restored:
        raise ValueError(
            "A state that was loaded before the optimizer was built cannot be given to it "
            "within a step of several replicas. Build it first, in the strategy's scope: "
            "optimizer.build(model.trainable_variables)."
        )
    # The step that is being compiled, perhaps, must not do this again each time it runs.
    with current.lifted():
        if pending.restored:
            check_restored(state, pending.saved)
        elif pending.saved is not None:
            for target, array in _plan(state, pending.saved, slots_only=True):
                target.assign(array)
        else:
            slots = [slot for _, _, slot in state.slots.items()]
            _set(state, slots, pending.arrays)
    state.pending = None


def _plan(state: Any, saved: Saved, slots_only: bool = False) -> list[tuple[Any, Any]]:
    """Returns what to assign; the rest of the state is loaded, once all is found to fit."""
    optimizer = state.optimizer
    before = len(saved.paths)
    saved = matched(saved, state.trained, partly=state.from_config)
    arrays = {n: a for n, a in saved.arrays.items() if n.slot != LOOK_AHEAD}
    here = state.named()
    if slots_only:
        arrays, here = ({n: x for n, x in named.items() if n.path} for named in (arrays, here))
    plan = _fitted(state, arrays, here)
    state.take_over(saved)
    if before != len(state.trained):
        warnings.warn(
            f"The optimizer's state was saved with {before} variables, and the model trains "
            f"{len(state.trained)} now: layers were frozen, or set free, after the optimizer "
            f"{optimizer.name!r} was built. What both have is loaded; the others begin with "
            "displacement zero when they are trained.",
            stacklevel=3,
        )
    return plan


def _fitted(
    state: Any, saved: Mapping[Name, Any], here: Mapping[Name, Any]
) -> list[tuple[Any, Any]]:
    """Returns pairs of what is here and the array that it is to hold.

    Raises:
        ValueError: if a shape or a dtype does not agree.
    """
    faults = []
    for name, array in saved.items():
        if name not in here:
            continue
        dtype = keras.backend.standardize_dtype(here[name].dtype)
        there = f"{tuple(array.shape)} {array.dtype.name}"
        # Counters have 32 or 64 bits, as the backend has it, and so may have numbers.
        alike = name.path == "" and _kind(array.dtype.name) == _kind(dtype)
        fits = alike or array.dtype.name == dtype
        if tuple(array.shape) != tuple(here[name].shape) or not fits:
            faults.append(
                f"the {name} is {there} in the saved state and {tuple(here[name].shape)} "
                f"{dtype} here"
            )
    if faults:
        raise ValueError(
            "The saved state does not fit the optimizer, whose settings or whose model are "
            f"others: {'; '.join(faults)}. Nothing of the optimizer's state was loaded. Make "
            "the optimizer with the settings that it was saved with; to change them, load the "
            "model as it was saved and use `nagd_keras.convert.from_nagd`."
        )
    left = [str(name) for name in saved if name not in here]
    if left:
        warnings.warn(
            f"The saved state of the optimizer {state.optimizer.name!r} has what it has no "
            f"place for, and which was left out: {some_of(left)}. To go on exactly, make the "
            "optimizer with the settings that it was saved with.",
            stacklevel=4,
        )
    places = {path: i for i, path in enumerate(paths_of(state.trained))}

    def start(name: Name) -> Any:
        if name.path:
            return state.slots.start(name.slot, places[name.path])
        own = name.slot in state.scalars.used()
        return state.scalars.start(name.slot) if own else values_of(here[name])

    return [(x, saved[name] if name in saved else start(name)) for name, x in here.items()]


def set_in_order(state: Any, weights: Sequence[Any]) -> None:
    """Sets all variables, in the order of `variables`; slots wait if they are not there yet.

    Raises:
        ValueError: if their number or their shapes are others. Nothing is changed then.
    """
    # As arrays: the file that they come from may be closed before they are used.
    weights = [np.asarray(weight) for weight in weights]
    old = legacy.by_position(state.optimizer, [*state.scalars.used()], weights)
    if old is None:
        targets = state.variables()
    else:
        named = {name.slot: target for name, target in state.named().items() if not name.path}
        numbers = dict(zip(old, weights, strict=False))
        state.notes.replace(legacy.notes(numbers.pop("callback_state")))
        state.points.remember(bool(numbers.pop("holds_iterate")), {})
        weights = [legacy.measured(k, w) for k, w in numbers.items()] + weights[len(old) :]
        targets = [named[k] for k in numbers] + [slot for _, _, slot in state.slots.items()]
    later: Sequence[Any] = ()
    if not state.optimizer.built and len(weights) > len(targets):
        weights, later = weights[: len(targets)], weights[len(targets) :]
    _set(state, targets, weights)
    state.pending = Pending(arrays=later) if later else None


def _set(state: Any, targets: Sequence[Any], weights: Sequence[Any]) -> None:
    wrong = [
        f"{v.name}: {tuple(np.shape(w))} for {tuple(v.shape)}"
        for v, w in zip(targets, weights, strict=False)
        if tuple(np.shape(w)) != tuple(v.shape)
    ]
    if len(weights) != len(targets) or wrong:
        raise ValueError(
            f"The weights do not fit the optimizer {state.optimizer.name!r}. Received: "
            f"{len(weights)} arrays for {len(targets)} variables; of another shape: "
            f"{', '.join(wrong) or 'none'}. Nothing was changed. Build the optimizer for the "
            "model's variables, with the settings that it had."
        )
    for target, array in zip(targets, weights, strict=True):
        # A bfloat16 is not known in Keras' older format.
        known = of_dtype(array, keras.backend.standardize_dtype(target.dtype))
        target.assign(array if known is None else known)


def _kind(dtype: str) -> str:
    return dtype.rstrip("0123456789")
