"""How a saved state is loaded: what fits, at once or when the optimizer is built.

What does not fit is named in a warning, and begins as in a new optimizer: a displacement of zero
does no harm, and one that belongs to other weights does.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from nagd_keras import keras_private as private
from nagd_keras.backends.current import current
from nagd_keras.state import legacy
from nagd_keras.state.archive import LOOK_AHEAD, Name, Pending, Saved, of_dtype
from nagd_keras.state.checkpoint import check_restored
from nagd_keras.state.matching import matched, paths_of, some_of
from nagd_keras.tensors import number, values_of


def load(state: Any, store: Any) -> None:
    """Reads what `save` wrote, matched by the paths of the model's variables.

    If the optimizer is not built yet, the slots are matched and loaded when it is. What does not
    fit is named in a warning. Hyperparameters that were set in code stay as they are, unless the
    optimizer was made from a config, as that of a loaded model is.

    Raises:
        ValueError: if the state is damaged. Nothing of the optimizer is changed then.
    """
    saved, state.unsettled = Saved.read(store), None
    if saved is None:
        _warn_of_none(state, len(store.keys()))
        return
    # What the slots become where there is no update to go on from, or they wait, is their start.
    now = saved.built and state.optimizer.built
    fits, reasons = _matched(state, saved) if now else (saved.renamed({}), [])
    if now and not fits.arrays:
        by_name, _ = matched(saved, state.trained, compare=False)
        if len(by_name.paths) == len(saved.paths) == len(state.trained):
            # The weights may be still to come: of two optimizers one may be loaded before layers.
            fits, reasons, state.unsettled = by_name, [], saved
    for target, array in _plan(state, fits, state.named(), reasons):
        target.assign(array)
    state.batches_loaded = number(private.batches(state.optimizer))
    if now:
        reasons += state.take_over(fits)
    else:
        state.points.remember(saved.at_iterate, {})
    state.pending = Pending(saved) if saved.built and not now else None
    state.notes.replace(fits.notes)
    _load_hyperparameters(state, fits)
    _warn_of_left(state, reasons)


def settle(state: Any) -> None:
    """Looks again whether weights that came after the state are those that it was saved with."""
    saved, state.unsettled = state.unsettled, None
    if saved is None or not current.can_lift():
        return
    with current.lifted():
        # Not if it has trained since.
        if number(private.batches(state.optimizer)) == state.batches_loaded:
            _load_slots(state, saved)


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
            _load_slots(state, pending.saved)
        else:
            slots = [slot for _, _, slot in state.slots.items()]
            _set(state, slots, pending.arrays)
    state.pending = None


def _load_slots(state: Any, saved: Saved) -> None:
    """Gives slots that have just been made what waited for them."""
    fits, reasons = _matched(state, saved)
    here = state.named()
    if fits.arrays:  # Else the numbers, too, are those of another model.
        here = {name: x for name, x in here.items() if name.path}
        fits.arrays = {name: x for name, x in fits.arrays.items() if name.path}
    for target, array in _plan(state, fits, here, reasons):
        target.assign(array)
    reasons += state.take_over(fits)
    _warn_of_left(state, reasons)


def _matched(state: Any, saved: Saved) -> tuple[Saved, list[str]]:
    """Returns what of a saved state is that of the variables, and in words what does not fit."""
    fits, others = matched(saved, state.trained)
    # A value that all elements share tells nothing.
    if saved.paths and not (fits.weights if saved.weights else fits.paths):
        reason = f"it is that of other variables, {some_of(saved.paths)}"
        return replace(saved.renamed({}), arrays={}, notes={}, at_iterate=False), [reason]
    new = [path for path in paths_of(state.trained) if path not in {*fits.paths, *others}]
    gone = len(saved.paths) - len(fits.paths) - len(others)
    reasons = {
        f"{some_of(others)} do not hold the values that they were saved with": others,
        f"{some_of(new)} have no saved state": new,
        f"{gone} saved variables are not trained here": gone,
    }
    return fits, [reason for reason, holds in reasons.items() if holds]


def _plan(
    state: Any, saved: Saved, here: Mapping[Name, Any], reasons: list[str]
) -> list[tuple[Any, Any]]:
    """Returns pairs of what is here and the array that it is to hold: saved, or its start.

    Hyperparameters are not among them. What is left out is added to the reasons.
    """
    places = {path: i for i, path in enumerate(paths_of(state.trained))}
    settings = {Name(name) for name in state.hyperparameters.kinds}
    arrays = {n: a for n, a in saved.arrays.items() if n not in settings and n.slot != LOOK_AHEAD}
    left = [str(name) for name in arrays if name not in here]
    if left:
        reasons.append(f"the optimizer has no place for the {some_of(left)}")

    def start(name: Name) -> Any:
        if name.path:
            return state.slots.start(name.slot, places[name.path])
        if here[name] is private.batches(state.optimizer):
            return 0
        own = name.slot in state.scalars.used()
        return state.scalars.start(name.slot) if own else values_of(here[name])

    plan = []
    for name, target in here.items():
        array = arrays.get(name)
        if array is not None and not _fits(array, target, name):
            reasons.append(
                f"the {name} is {tuple(array.shape)} {array.dtype.name} there and "
                f"{tuple(target.shape)} {keras.backend.standardize_dtype(target.dtype)} here"
            )
            array = None
        if name not in settings:
            plan.append((target, start(name) if array is None else array))
    return plan


def _fits(array: Any, target: Any, name: Name) -> bool:
    here, there = keras.backend.standardize_dtype(target.dtype), array.dtype.name
    if not name.path:  # Numbers and counters have 32 or 64 bits, as the backend has it.
        here, there = (dtype.rstrip("0123456789") for dtype in (here, there))
    return here == there and tuple(array.shape) == tuple(target.shape)


def _load_hyperparameters(state: Any, saved: Saved) -> None:
    now = {n.slot: float(str(a)) for n, a in saved.arrays.items() if not n.path}
    differ = state.hyperparameters.load(now, saved.given, everything=state.from_config)
    if differ:
        warnings.warn(
            f"The optimizer {state.optimizer.name!r} keeps what was set here, where the saved one "
            f"had something else: {'; '.join(differ)}. To take what was saved, set it, as in "
            "optimizer.learning_rate = ..., make the optimizer with it, or load the whole model "
            "with load_model.",
            stacklevel=3,
        )


def _warn_of_left(state: Any, reasons: Sequence[str]) -> None:
    if reasons:
        warnings.warn(
            f"The saved state of the optimizer {state.optimizer.name!r} does not fit as a whole: "
            f"{'; '.join(reasons)}. What fits was loaded, and the rest begins as in a new "
            "optimizer. To go on exactly, use the model and the settings that were saved, and load "
            "the weights first.",
            stacklevel=3,
        )


def _warn_of_none(state: Any, keys: int) -> None:
    found = f"that of another optimizer ({keys} arrays without names)" if keys else "none"
    warnings.warn(
        f"What was loaded holds no state for the optimizer {state.optimizer.name!r}, which stays "
        f"as it is. Found: {found}. It was saved without NAGD, or under another dtype policy: "
        "under mixed_float16 Keras' LossScaleOptimizer holds the optimizer. To go on from Keras' "
        "SGD, load the model with the optimizer that it was saved with, then call "
        "`nagd_keras.convert.adopt(model)`.",
        stacklevel=3,
    )


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
