"""The moving averages of the variables, as Keras' `use_ema` has them."""

from collections.abc import Iterable
from typing import Any

import keras

from nagd_keras import keras_private as private
from nagd_keras.backends.current import current
from nagd_keras.state.slots import AVERAGE
from nagd_keras.state.state import State
from nagd_keras.tensors import copied, tensor


def average(optimizer: Any, state: State, made: Any) -> None:
    r"""Updates the averages $a \leftarrow m a + (1 - m) w$, and overwrites the variables when due.

    In the first update m is 0. Keras counts batches here, accumulated ones too.

    Args:
        optimizer: the optimizer, with its settings.
        state: the state of the optimizer.
        made: whether the update was made, not skipped; None if no update can be skipped.
    """
    if not optimizer.use_ema:
        return
    updates = tensor(optimizer.iterations)
    frequency = optimizer.ema_overwrite_frequency
    for variable, slot in zip(state.trained, state.slots[AVERAGE], strict=True):
        if slot is None:
            continue
        w, a = tensor(variable), tensor(slot)
        momentum = keras.ops.cast(keras.ops.not_equal(updates, 0), w.dtype) * optimizer.ema_momentum
        now = momentum * a + (1 - momentum) * w
        if made is not None:
            # The average begins with the variable, whichever update is the first.
            kept = keras.ops.where(keras.ops.equal(tensor(private.batches(optimizer)), 0), w, a)
            now = keras.ops.where(made, now, kept)
        current.assign(slot, now)
        if frequency and getattr(variable, "trainable", True):  # not frozen since it was built
            due = keras.ops.equal((updates + 1) % frequency, 0)
            due = due if made is None else keras.ops.logical_and(due, made)
            current.assign(variable, keras.ops.where(due, now, w))


def overwrite(state: State, variables: Iterable[Any]) -> None:
    """Writes the averages into some of the variables, each into its own.

    Keras goes by the order, which is wrong if layers were frozen after the first step.
    """
    wanted = {id(variable) for variable in variables}
    for variable, slot in zip(state.trained, state.slots[AVERAGE], strict=True):
        if slot is not None and id(variable) in wanted:
            # In memory of its own: a step on JAX gives away that of the variable and of the slot.
            variable.assign(copied(slot))
