"""What the conversions have in common, with all that they need of Keras' private names."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras

from nagd_keras.hyperparameters import LEARNING_RATE
from nagd_keras.nagd import NAGD
from nagd_keras.tensors import tensor, wide_dtype

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
# What `exclude_from_weight_decay` was told before the variables were known.
_EXCLUSIONS = ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern")


def settings(optimizer: Any) -> dict[str, Any]:
    """Returns the settings of an optimizer that are Keras' own."""
    return {name: getattr(optimizer, name) for name in _SETTINGS}


def learning_rate(optimizer: Any) -> Any:
    """Returns what gives an optimizer its learning rate: a number, a schedule or a callable."""
    source = optimizer._learning_rate
    return LEARNING_RATE.serialized(source) if isinstance(source, keras.Variable) else source


def schedule_factor(optimizer: NAGD) -> Any:
    """Returns what a NAGD's learning-rate schedule is multiplied by."""
    return optimizer._learning_rate_factor


def multipliers(optimizer: NAGD) -> dict[str, float]:
    """Returns the learning-rate multipliers of a NAGD that are not 1."""
    return {key: factor for key, factor in (optimizer._multipliers or {}).items() if factor != 1}


def velocities(optimizer: Any) -> list[Any]:
    """Returns the slots of a built Keras SGD that has momentum."""
    return list(optimizer.momentums)


def carry(old: Any, new: Any) -> None:
    """Gives a new optimizer the state that every Keras optimizer has, besides the slots.

    That is: for which variables it is built, the finished batches, moving averages, accumulated
    gradients, and which variables do not decay.
    """
    pairs = [(old._iterations, new._iterations)]
    if old.built:
        variables = list(old._trainable_variables)
        new.exclude_from_weight_decay(
            var_list=[v for v in variables if not old._use_weight_decay(v)]
        )
        new.build(variables)
        if old.use_ema:
            averages = (each._model_variables_moving_average for each in (old, new))
            pairs += zip(*averages, strict=True)
        if old.gradient_accumulation_steps:
            gradients = (each._accumulated_gradients for each in (old, new))
            pairs += zip(*gradients, strict=True)
    else:
        for name in _EXCLUSIONS:
            if hasattr(old, name):
                setattr(new, name, getattr(old, name))
    for source, target in pairs:
        if source is not None and target is not None:
            _copy(source, target)


def copy_slots(old: NAGD, new: NAGD, places: Sequence[int | None], changed: Iterable[str]) -> None:
    """Gives a NAGD what another one has of the variables that had these places there.

    Numbers that belong to no variable too, but not the hyperparameters that were changed.
    """
    numbers = {name: v for name, v in old.named_variables().items() if not name.path}
    for name, variable in new.named_variables().items():
        if not name.path and name in numbers and name.slot not in changed:
            if name.slot == "learning_rate_factor" and "learning_rate" in changed:
                continue
            _copy(numbers[name], variable)
    slots = [(old.displacements, new.displacements)]
    if new.use_ema:
        averages = new._model_variables_moving_average
        for variable, average in zip(new._trainable_variables, averages, strict=True):
            if average is not None:
                _copy(variable, average)
        if old.use_ema:
            slots.append((old._model_variables_moving_average, averages))
    if new.gradient_accumulation_steps and (
        new.gradient_accumulation_steps == old.gradient_accumulation_steps
    ):
        slots.append((old._accumulated_gradients, new._accumulated_gradients))
    for olds, news in slots:
        for target, place in zip(news, places, strict=True):
            if target is not None and place is not None and olds[place] is not None:
                _copy(olds[place], target)


def carry_loss_scale(old: Any, new: Any) -> None:
    """Gives a new LossScaleOptimizer, around another optimizer, the state of an old one."""
    if old.built:
        new.build(list(new.inner_optimizer._trainable_variables))
        _copy(old.step_counter, new.step_counter)
        _copy(old.dynamic_scale, new.dynamic_scale)


def _copy(source: Any, target: Any) -> None:
    # JAX would have both share the memory, which `fit` gives away with the one that it trains.
    target.assign(keras.ops.copy(tensor(source)))


def set_optimizer(model: Any, optimizer: Any) -> None:
    """Puts another optimizer into a compiled model, with nothing else of it changed.

    To compile the model again would make new metrics, and lose the settings that were made after
    it was compiled, and the arguments of a model's own `compile`. Nothing here can fail half-way.
    """
    compile_config = model._compile_config.config  # from which a saved model is compiled again
    model.optimizer = optimizer
    model.train_function = None  # to be compiled again
    compile_config["optimizer"] = optimizer


def combined(rule: Callable[[Any, Any], Any], slots: Iterable[Any], factor: float) -> list[Any]:
    """Returns rule(slot, factor) of each slot, not yet rounded to 16 bits; None stays None."""
    return [
        None
        if slot is None
        else rule(
            keras.ops.cast(slot, wide_dtype(slot)),
            keras.ops.cast(tensor(factor), wide_dtype(slot)),
        )
        for slot in slots
    ]


def assign_all(targets: Sequence[Any], values: Sequence[Any]) -> None:
    """Sets slots, each rounded once to its dtype, where neither slot nor value is None."""
    for target, value in zip(targets, values, strict=True):
        if target is not None and value is not None:
            target.assign(keras.ops.cast(value, target.dtype))


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
        learning_rate: that of the NAGD.
        momentum: that of the NAGD.
        variables: the Keras variables.
        displacements: an array or None for each of them, of its shape.
        order: the same variables in the order to build for; None for that of `variables`.
        updates: the number of finished updates.
        settings: further arguments of the NAGD.
    """
    new = NAGD(learning_rate, momentum, **settings)
    of = {id(variable): value for variable, value in zip(variables, displacements, strict=True)}
    order = list(variables if order is None else order)
    new.build(order)
    new._iterations.assign(updates)
    new.age.assign(updates)
    assign_all(new.displacements, [of[id(variable)] for variable in order])
    return new
