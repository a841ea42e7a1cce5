"""A compiled model that goes on training with NAGD."""

import contextlib
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import keras

from nagd_keras.convert.carrying import (
    carry,
    carry_loss_scale,
    check_at_lookahead,
    set_optimizer,
    settings,
)
from nagd_keras.convert.keras_sgd import from_keras_sgd
from nagd_keras.directions.direction import Direction
from nagd_keras.directions.named import DirectionName
from nagd_keras.nagd import NAGD
from nagd_keras.tensors import number


def adopt(model: Any, direction: DirectionName | Direction | None = None) -> Any:
    r"""Replaces Keras' SGD in a compiled model by a NAGD that goes on where it stands.

    A model that was saved with Keras' SGD is loaded and adopted in two lines:

        model = keras.saving.load_model(path)
        nagd_keras.convert.adopt(model)

    It converts the optimizer with all its state, as `from_keras_sgd` does. Within the
    `LossScaleOptimizer` of mixed_float16 it also keeps the scale and the count. Loss, metrics and
    all other settings of `compile` stay the same objects. The next steps are those of SGD, to
    rounding: with velocity $v$, momentum $\mu$ and displacement $s = \mu v$. It warns if there are
    no velocities, since Keras does not load them from its older format (.h5). Afterwards
    `model.save` records NAGD. Call it between two calls of `fit`, not in a callback.

    With a `direction`, it replaces any optimizer, and NAGD begins anew: no other method remembers
    what a direction needs. NAGD keeps the settings that every Keras optimizer has, the weight decay
    and the averages. It takes the direction's own learning rate and momentum, and warns of that.

    Args:
        model: a model that is compiled with `keras.optimizers.SGD(nesterov=True)`, or with one
            of momentum 0; with any optimizer where a direction is given.
        direction: None, or that of the new optimizer; see `NAGD`.

    Returns:
        The model, which is changed in place.

    Raises:
        TypeError: if it is not a model, or its optimizer is not Keras' SGD and no direction is
            given.
        ValueError: if it is not compiled with an optimizer, or the SGD has momentum without
            nesterov=True. After an error the model is as it was.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> from nagd_keras import convert
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> sgd = keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True)
        >>> model.compile(optimizer=sgd, loss="mse")
        >>> history = model.fit(np.eye(2), np.ones((2, 1)), verbose=0)
        >>> history = convert.adopt(model).fit(np.eye(2), np.ones((2, 1)), verbose=0)
        >>> type(model.optimizer).__name__, int(model.optimizer.age)
        ('NAGD', 2)
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"`adopt` takes a compiled model. Received: a {type(model).__name__}. For an optimizer "
            "of its own, use nagd_keras.convert.from_keras_sgd(optimizer)."
        )
    optimizer = getattr(model, "optimizer", None)
    if not model.compiled or optimizer is None:
        raise ValueError(
            f"The model {model.name!r} is not compiled with an optimizer, so there is nothing to "
            "adopt. Compile it with NAGD: model.compile(optimizer=NAGD(), loss=...)."
        )
    strategy = getattr(model, "distribute_strategy", None)  # which TensorFlow's models have
    with contextlib.nullcontext() if strategy is None else strategy.scope():
        if number(optimizer.iterations) and not optimizer.built and model.built:
            # A checkpoint of TensorFlow's, whose velocities wait for that.
            optimizer.build(model.trainable_variables)
        convert = from_keras_sgd if direction is None else partial(_begun_anew, direction)
        set_optimizer(model, _converted(optimizer, convert))
    return model


def _begun_anew(direction: DirectionName | Direction, optimizer: Any) -> NAGD:
    """Returns a NAGD with the settings of an optimizer, but without its memory."""
    if isinstance(optimizer, NAGD):
        check_at_lookahead(optimizer)
        config = {**optimizer.get_config(), "direction": direction}
        config |= {"learning_rate": None, "momentum": None}
        new = type(optimizer).from_config(config)
        new._state.from_config = False  # Its settings are the caller's, not those of a file.
    else:
        decay = getattr(optimizer, "weight_decay", None)
        new = NAGD(direction=direction, weight_decay=decay, **settings(optimizer))
    carry(optimizer, new)
    warnings.warn(
        f"NAGD begins anew: what {type(optimizer).__name__} remembered is left, and its learning "
        f"rate too. The new one is the direction's own, {number(new.learning_rate):g}; set "
        "model.optimizer.learning_rate for another.",
        stacklevel=4,
    )
    return new


def _converted(optimizer: Any, convert: Callable[[Any], NAGD]) -> Any:
    if type(optimizer) is not keras.optimizers.LossScaleOptimizer:
        return convert(optimizer)
    wrapper = keras.optimizers.LossScaleOptimizer(
        convert(optimizer.inner_optimizer),
        initial_scale=optimizer.initial_scale,
        dynamic_growth_steps=optimizer.dynamic_growth_steps,
        name=optimizer.name,
    )
    carry_loss_scale(optimizer, wrapper)
    return wrapper
