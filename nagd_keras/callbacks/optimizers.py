"""What callbacks need to know of the optimizer that a model was compiled with."""

from typing import Any

import numpy as np

from nagd_keras import keras_private as private
from nagd_keras.nagd import NAGD
from nagd_keras.tensors import number


def optimizer_of(model: Any) -> Any:
    """Returns the model's optimizer, without the loss scaling that mixed_float16 wraps around it.

    Raises:
        ValueError: if the model is not compiled with an optimizer.
    """
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        raise ValueError(
            f"The model {getattr(model, 'name', model)!r} has no optimizer. Compile it first: "
            "model.compile(optimizer=NAGD(), loss=...)."
        )
    return getattr(optimizer, "inner_optimizer", optimizer)


def nagd_of(model: Any, who: str) -> NAGD:
    """Returns the model's optimizer if it is a NAGD.

    Raises:
        TypeError: if it is another.
        ValueError: if there is none.
    """
    optimizer = optimizer_of(model)
    if not isinstance(optimizer, NAGD):
        raise TypeError(
            f"{who} needs the optimizer NAGD. Received: a model with "
            f"{type(optimizer).__name__}. Compile the model with "
            "nagd_keras.NAGD(...)."
        )
    return optimizer


def finished_batches(optimizer: Any) -> int:
    """Returns the step at which learning-rate schedules are read: the batches trained with.

    Keras' public `iterations` counts updates, fewer than batches where gradients are accumulated.
    """
    return int(number(private.batches(optimizer)))


def synchronize(model: Any) -> None:
    """Makes the model's variables current, and lets what is assigned to them take effect.

    On JAX `fit` carries the state itself, and gives it back only when it is asked to.
    """
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()


def has_settable(optimizer: Any, name: str) -> bool:
    """Whether assigning to the attribute does more than to replace a Python number.

    `keras.optimizers.SGD.momentum` is such a number: what is assigned to it after the first step
    was compiled is ignored in silence.
    """
    attribute = getattr(type(optimizer), name, None)
    return hasattr(attribute, "number") or getattr(attribute, "fset", None) is not None


def follows(optimizer: Any, name: str) -> bool:
    """Whether the optimizer got a schedule or a callable for a hyperparameter, not a number."""
    if isinstance(optimizer, NAGD):
        return optimizer.given_as(name) in ("schedule", "callable")
    # Of Keras' own, only the learning rate may be anything but a number.
    given = optimizer.get_config().get(name)
    return given is not None and not isinstance(given, (int, float, np.number))
