"""What the conversions share: carrying state from one optimizer to another."""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import keras

from nagd_keras import keras_private as private
from nagd_keras.nagd import NAGD
from nagd_keras.state.slots import ACCUMULATOR, AVERAGE
from nagd_keras.tensors import copied, number, tensor, wide_dtype

# The settings that Keras' base class gives to every optimizer, under the same names.
_SETTINGS = (
    "clipnorm",
    "clipvalue",
    "global_clipnorm",
    "use_ema",
    "ema_momentum",
    "ema_overwrite_frequency",
    "loss_scale_factor",
    "gradient_accumulation_steps",
)


def settings(optimizer: Any) -> dict[str, Any]:
    """Returns those settings of an optimizer that Keras defines."""
    return {name: getattr(optimizer, name) for name in _SETTINGS}


def learning_rate(optimizer: Any) -> Any:
    """Returns the learning rate of Keras' SGD: a number, a schedule or a callable."""
    source = private.learning_rate_source(optimizer)
    return number(source) if isinstance(source, keras.Variable) else source


def carry(old: Any, new: Any) -> None:
    """Gives a new optimizer the state that every Keras optimizer has, besides the slots.

    That is: for which variables it is built, the finished batches, moving averages, accumulated
    gradients, and which variables do not decay.
    """
    for name in private.EXCLUSIONS:
        if hasattr(old, name):
            setattr(new, name, getattr(old, name))
    private.batches(new).assign(copied(private.batches(old)))
    if old.built:
        new.build(list(private.trained(old)))
        for kind in (AVERAGE, ACCUMULATOR):
            assign_all(private.slots(new, kind), private.slots(old, kind))


def copy_state(
    old: NAGD, new: NAGD, places: Sequence[int | None], changed: Collection[str]
) -> None:
    """Gives a NAGD another one's state of the variables, which had these places there.

    It also copies the numbers that belong to no variable, except changed hyperparameters.
    """
    left_out = {*changed, *(f"{name}_factor" for name in changed)}
    named = old._state.named()
    for name, target in new._state.named().items():
        if not name.path and name in named and name.slot not in left_out:
            target.assign(copied(named[name]))
    new._state.notes.replace(old._state.notes.all())
    for kind, place, target in new._state.slots.items():
        # What was accumulated is a sum of as many gradients as there are to be.
        other = kind == ACCUMULATOR and "gradient_accumulation_steps" in changed
        before = None if other or kind not in old._state.slots.kinds() else places[place]
        source = None if before is None else old._state.slots[kind][before]
        start = new._state.slots.start(kind, place) if source is None else source
        assign_all([target], [start])


def carry_loss_scale(old: Any, new: Any) -> None:
    """Gives a new LossScaleOptimizer, around another optimizer, the state of an old one."""
    if old.built and new.inner_optimizer.built:
        new.build(list(private.trained(new.inner_optimizer)))
        new.step_counter.assign(copied(old.step_counter))
        new.dynamic_scale.assign(copied(old.dynamic_scale))


def set_optimizer(model: Any, optimizer: Any) -> None:
    """Puts another optimizer into a compiled model, with nothing else of it changed.

    Compiling the model again would make new metrics, and lose both the settings made after it was
    compiled and the arguments of a model's own `compile`. Nothing here can fail half-way.
    """
    settings = private.compile_settings(model)  # from which a saved model is compiled again
    model.optimizer = optimizer
    model.train_function = None  # to be compiled again
    settings["optimizer"] = optimizer


def assign_all(targets: Sequence[Any], values: Iterable[Any]) -> None:
    """Sets slots, each rounded once to its dtype, unless the slot or the value is None."""
    for target, value in zip(targets, values, strict=True):
        if target is not None and value is not None:
            # A copy, since on JAX `fit` gives the memory of what it trains away.
            target.assign(keras.ops.copy(keras.ops.cast(value, target.dtype)))


def combined(rule: Callable[[Any, Any], Any], slots: Iterable[Any], factor: float) -> list[Any]:
    """Returns rule(slot, factor) of each slot, not yet rounded to 16 bits; None stays None."""

    def of(slot: Any) -> Any:
        dtype = wide_dtype(slot)
        return rule(keras.ops.cast(slot, dtype), keras.ops.cast(tensor(factor), dtype))

    return [None if slot is None else of(slot) for slot in slots]


def begun(
    learning_rate: Any,
    momentum: float,
    variables: Sequence[Any],
    displacements: Sequence[Any],
    order: Sequence[Any] | None,
    updates: int = 0,
    **settings: Any,
) -> NAGD:
    """Returns a NAGD that is built for variables, with arrays as their displacements.

    Args:
        learning_rate: the learning rate of the NAGD.
        momentum: the momentum of the NAGD.
        variables: the Keras variables.
        displacements: an array or None for each of them, of its shape.
        order: the same variables in the order to build for, or None for the order of `variables`.
        updates: the number of finished updates.
        settings: further arguments of the NAGD.
    """
    new = NAGD(learning_rate, momentum, **settings)
    of = {id(variable): value for variable, value in zip(variables, displacements, strict=True)}
    new.build(variables if order is None else order)
    private.batches(new).assign(updates)
    set_updates(new, updates)
    assign_all(new.displacements, [of[id(variable)] for variable in new._state.trained])
    return new


def set_updates(optimizer: NAGD, updates: int) -> None:
    """Makes a new NAGD go on as if it had made some updates."""
    optimizer.age.assign(updates)
    optimizer._state.scalars["updates"].assign(updates)


def check_at_lookahead(optimizer: NAGD) -> None:
    """Raises ValueError while a NAGD's variables hold the iterate."""
    if optimizer.at_iterate:
        raise ValueError(
            "The model's variables hold the iterate. Received: a NAGD after `swap_to_iterate()`. "
            "Call `optimizer.swap_to_lookahead()` first."
        )
