"""What callbacks need to know of the optimizer that a model was compiled with."""

import inspect
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from nagd_keras import keras_private as private
from nagd_keras.hyperparameters import Hyperparameter, declared
from nagd_keras.nagd import NAGD
from nagd_keras.tensors import number


def optimizer_of(model: Any) -> Any:
    """Returns the model's optimizer, without the loss scaling that mixed_float16 wraps around it.

    Raises:
        ValueError: if the model is not compiled with an optimizer, or a hyperparameter was set on
            the wrapper, which ignores it.
    """
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        raise ValueError(
            f"The model {getattr(model, 'name', model)!r} has no optimizer. Compile it first: "
            "model.compile(optimizer=NAGD(), loss=...)."
        )
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if inner is optimizer:
        return optimizer
    for name in declared(type(inner)):
        if vars(optimizer).get(name) is not None:
            raise ValueError(
                f"The {name} was set on Keras' {type(optimizer).__name__}, which is wrapped around "
                f"the model's optimizer and has none. Received: model.optimizer.{name} = "
                f"{getattr(optimizer, name)!r}. Set model.optimizer.inner_optimizer.{name} "
                f"instead, and model.optimizer.{name} = None."
            )
    return inner


def nagd_of(model: Any, who: str) -> NAGD:
    """Returns the model's optimizer if it is a NAGD.

    Raises:
        TypeError: if it is another optimizer.
        ValueError: if there is none.
    """
    optimizer = optimizer_of(model)
    if not isinstance(optimizer, NAGD):
        raise TypeError(
            f"{who} needs the optimizer NAGD. Received: a model with {type(optimizer).__name__}. "
            "Compile the model with nagd_keras.NAGD(...)."
        )
    return optimizer


def build(model: Any, inputs: Any = None) -> None:
    """Builds the optimizer of a built model, unless it is built already.

    Args:
        model: a compiled model.
        inputs: the inputs of a batch, to build the model from if it is not built.
    """
    with _scope(model):
        if not model.built and inputs is not None:
            model(inputs)
        if model.built and not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)


def bring_to_rest(model: Any) -> None:
    """Gives a model's built optimizer the state of one that has made no step.

    Hyperparameters and the positions of a NAGD's schedules stay.
    """
    optimizer = optimizer_of(model)
    with _scope(model):
        if not isinstance(optimizer, NAGD):
            new = type(optimizer).from_config(optimizer.get_config())
            new.build(private.trained(optimizer))
            for variable, start in zip(optimizer.variables, new.variables, strict=True):
                variable.assign(start)
            return
        optimizer.reset_momentum()
        state = optimizer._state
        for name in ("updates", "velocity_norm"):
            state.scalars[name].assign(state.scalars.start(name))
        for kind, place, slot in state.slots.items():
            slot.assign(state.slots.start(kind, place))
        # Nothing is accumulated, so that a window of accumulation begins.
        batches, window = private.batches(optimizer), optimizer.gradient_accumulation_steps or 1
        scheduled = follows(optimizer, "learning_rate") or follows(optimizer, "weight_decay")
        batches.assign(finished_batches(optimizer) // window * window if scheduled else 0)


def _scope(model: Any) -> AbstractContextManager[Any]:
    strategy = getattr(model, "distribute_strategy", None)  # which TensorFlow's models have
    return nullcontext() if strategy is None else strategy.scope()


def track_gradient_norm(model: Any, who: str) -> None:
    """Makes the model's NAGD keep the norm of its gradient from the next step on.

    Raises:
        TypeError: if the optimizer is not a NAGD.
    """
    optimizer = nagd_of(model, who)
    if not optimizer.tracks_gradient_norm:
        optimizer.tracks_gradient_norm = True
        # A step that an earlier fit compiled would go on without the norm.
        model.make_train_function(force=True)


def finished_batches(optimizer: Any) -> int:
    """Returns the step at which learning-rate schedules are read: the batches trained with.

    Keras' public `iterations` counts updates, fewer than batches where gradients are accumulated.
    """
    return int(number(private.batches(optimizer)))


def synchronize(model: Any) -> None:
    """Makes the model's variables current, and lets what is assigned to them take effect.

    On JAX `fit` carries the state itself, and gives it back only on request.
    """
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()


def check_settable(optimizer: Any, name: str, who: str, otherwise: str = "") -> None:
    """Raises unless a hyperparameter can be set while the optimizer trains.

    `keras.optimizers.SGD.momentum` is a Python number: Keras silently ignores what is assigned to
    it after the first step was compiled.

    Raises:
        TypeError: if it cannot be set, or follows a schedule or a callable.
    """
    attribute = getattr(type(optimizer), name, None)
    is_live = isinstance(attribute, Hyperparameter) or getattr(attribute, "fset", None) is not None
    if not is_live or follows(optimizer, name):
        why = (
            f"whose {name} follows a schedule or a callable"
            if is_live
            else "which has none, or one that is ignored after the first step"
        )
        raise TypeError(
            f"{who} sets the {name}. Received: {type(optimizer).__name__}, {why}. "
            f"Compile the model with nagd_keras.NAGD(...), and a number as {name}{otherwise}."
        )


def default_rate(optimizer: Any) -> float:
    """Returns the learning rate of an optimizer that is made without one."""
    if isinstance(optimizer, NAGD):
        return float(optimizer.direction.learning_rate)
    given = inspect.signature(type(optimizer)).parameters.get("learning_rate")
    default = None if given is None else given.default
    return float(default) if isinstance(default, float) else number(optimizer.learning_rate)


def set_rate(optimizer: Any, rate: float) -> None:
    """Sets the learning rate, or scales the schedule that it follows, so that it has it now."""
    if isinstance(optimizer, NAGD):
        optimizer._state.hyperparameters.scale_to("learning_rate", rate)
    else:
        optimizer.learning_rate = rate


def follows(optimizer: Any, name: str) -> bool:
    """Whether the optimizer got a schedule or a callable for a hyperparameter, not a number."""
    if isinstance(optimizer, NAGD):
        return optimizer.given_as(name) in ("schedule", "callable")
    # Of Keras' own, only the learning rate may be anything but a number.
    given = optimizer.get_config().get(name)
    return given is not None and not isinstance(given, (int, float, np.number))
