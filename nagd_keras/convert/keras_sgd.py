"""Between Keras' SGD with Nesterov momentum and NAGD, with all state, both ways."""

import operator
from typing import Any

import keras

from nagd_keras.convert.carrying import (
    assign_all,
    carry,
    combined,
    learning_rate,
    set_updates,
    settings,
)
from nagd_keras.directions.gradient import Gradient
from nagd_keras.nagd import NAGD
from nagd_keras.tensors import number


def from_keras_sgd(optimizer: Any) -> NAGD:
    r"""Returns a NAGD that goes on where Keras' SGD with Nesterov momentum stands.

    Keras' velocity $v$ becomes the displacement $s = \mu v$; then both make the same steps, to
    rounding:

    $$v \leftarrow \mu v - \varepsilon g, \quad w \leftarrow w + \mu v - \varepsilon g
      \qquad\text{and}\qquad
      s \leftarrow \mu (s - \varepsilon g), \quad w \leftarrow w - \varepsilon g + s.$$

    Of a built SGD, the NAGD is built for the same variables, in their order, with the finished
    batches (`iterations`; finished updates are its `age`), the moving averages and the gradients
    accumulated so far. All settings, and what `exclude_from_weight_decay` was told, are carried
    over; the name is NAGD's own. The SGD is left as it is. Train with one of the two only, since
    both update the same variables.

    With variables of 16 bits the agreement is only to their rounding: Keras' SGD rounds the
    momentum to 16 bits too, where NAGD does not; and with float64 on TensorFlow only to that of
    float32, to which SGD rounds it there. Under `tf.distribute`, call it within the
    strategy's scope. `nagd_keras.convert.adopt` does all of this for a compiled model.

    Args:
        optimizer: a `keras.optimizers.SGD` with nesterov=True, or with momentum 0.

    Raises:
        TypeError: for anything else than a `keras.optimizers.SGD`: another optimizer, a subclass,
            a `LossScaleOptimizer` around one.
        ValueError: for momentum without nesterov=True, which is another method, or momentum 1.

    Example:
        >>> import keras
        >>> from nagd_keras import convert
        >>> x = keras.Variable([1.0])
        >>> sgd = keras.optimizers.SGD(0.5, momentum=0.5, nesterov=True)
        >>> sgd.apply([keras.ops.ones(1)], [x])
        >>> optimizer = convert.from_keras_sgd(sgd)
        >>> optimizer.apply([keras.ops.ones(1)], [x])
        >>> int(optimizer.age), float(x.numpy()[0])
        (2, -0.625)
    """
    _check_sgd(optimizer)
    momentum = float(optimizer.momentum)
    new = NAGD(
        learning_rate(optimizer),
        momentum,
        weight_decay=optimizer.weight_decay,
        **settings(optimizer),
    )
    slots = list(optimizer.momentums) if optimizer.built and momentum else []
    if optimizer.built and momentum and not slots:
        raise ValueError(
            "This SGD was built with momentum 0, so it has no velocities, and can make no update "
            f"with the momentum that was set later. Received: momentum={momentum}. Convert it "
            "with momentum 0, and set the momentum of the NAGD."
        )
    carry(optimizer, new)
    set_updates(new, int(number(optimizer.iterations)))
    if slots:
        assign_all(new.displacements, combined(operator.mul, slots, momentum))
    return new


def to_keras_sgd(optimizer: NAGD) -> Any:
    r"""Returns a `keras.optimizers.SGD` that goes on where a NAGD with constant momentum stands.

    The way back from `from_keras_sgd`: with the momentum $\mu$ of the next update, the
    displacement $s$ becomes Keras' velocity $v = s / \mu$. Momentum 0 gives an SGD without slots.

    What SGD has no place for is lost: `age`, `restarts`, `gradient_norm`, what callbacks
    remember.

    Args:
        optimizer: a NAGD. Its momentum may have been set while it trained, but it must be a number.

    Raises:
        TypeError: for anything else than a NAGD.
        ValueError: for what SGD cannot do: momentum or weight decay from a schedule or a callable,
            learning-rate multipliers other than 1, a learning-rate schedule that was scaled; and
            while the variables hold the iterate.

    Example:
        >>> import keras
        >>> from nagd_keras import NAGD, convert
        >>> x = keras.Variable([1.0])
        >>> optimizer = NAGD(0.5, 0.5)
        >>> optimizer.apply([keras.ops.ones(1)], [x])
        >>> sgd = convert.to_keras_sgd(optimizer)
        >>> sgd.apply([keras.ops.ones(1)], [x])
        >>> sgd.nesterov, float(x.numpy()[0])
        (True, -0.625)
    """
    _check_nagd(optimizer)
    values = optimizer.state.hyperparameters.as_given()
    momentum = values["momentum"]
    sgd = keras.optimizers.SGD(nesterov=True, **values, **settings(optimizer))
    carry(optimizer, sgd)
    if optimizer.built and momentum:
        slots = combined(operator.truediv, optimizer.displacements, momentum)
        assign_all(list(sgd.momentums), slots)
    return sgd


def _check_sgd(optimizer: Any) -> None:
    allowed = "Allowed is a `keras.optimizers.SGD` with nesterov=True, or with momentum 0."
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        raise TypeError(
            "A LossScaleOptimizer only wraps the optimizer that is to be converted. Received: "
            f"{_named(optimizer)} around {_named(optimizer.inner_optimizer)}. Use "
            "nagd_keras.convert.adopt(model) for a compiled model, or pass "
            "`optimizer.inner_optimizer`."
        )
    if isinstance(optimizer, NAGD):
        raise TypeError(
            f"The optimizer is a NAGD already. Received: {_named(optimizer)}. {allowed} "
            "Go on with this one as it is."
        )
    # On PyTorch, Keras makes an object of a class of its own.
    if type(optimizer) is not type(keras.optimizers.SGD.__new__(keras.optimizers.SGD)):
        raise TypeError(
            "Only Keras' own SGD, and no other or derived class, is known to make NAGD's updates. "
            f"Received: {_named(optimizer)}. {allowed} For others, begin anew with NAGD(...)."
        )
    if optimizer.momentum and not optimizer.nesterov:
        raise ValueError(
            "SGD with momentum but without Nesterov's look-ahead (heavy ball) is another method; "
            "its variables are no look-ahead point. Received: momentum="
            f"{optimizer.momentum}, nesterov=False. {allowed} Begin anew with "
            f"NAGD(momentum={optimizer.momentum}), or train with SGD(..., nesterov=True) first."
        )


def _check_nagd(optimizer: Any) -> None:
    if type(optimizer) is not NAGD:
        inner = getattr(optimizer, "inner_optimizer", None)
        raise TypeError(
            f"Only a NAGD, of no derived class, can be converted. Received: {_named(optimizer)}. "
            + ("Pass its `inner_optimizer`." if inner is not None else "Pass a NAGD.")
        )
    if not isinstance(optimizer.direction, Gradient):
        raise TypeError(
            "Keras' SGD steps along the gradient. Received: a NAGD with "
            f"direction={optimizer.direction!r}. Go on with NAGD."
        )
    for name in ("momentum", "weight_decay"):
        if (given := optimizer.given_as(name)) in ("schedule", "callable"):
            raise ValueError(
                f"Keras' SGD takes a number only as {name}. Received: a NAGD whose {name} follows "
                f"a {given}. Only one with {name} given as a number can be converted; go on "
                "with NAGD, or make a new one with a number."
            )
    multipliers = optimizer.learning_rate_multipliers or {}
    if factors := {key: factor for key, factor in multipliers.items() if factor != 1}:
        raise ValueError(
            "Keras' SGD has one learning rate for all variables. Received: a NAGD with "
            f"learning_rate_multipliers={factors}. Only one with factors of 1 can be converted; "
            "go on with NAGD, or, for factors of 0, make a new one and set `trainable = False` on "
            "those layers."
        )
    if optimizer.given_as("learning_rate") == "schedule":
        factor = number(optimizer.learning_rate_scale)
        if abs(factor - 1) > 2.0**-22:  # Set back to its own value, it is 1 to rounding.
            raise ValueError(
                "Keras' SGD cannot scale a learning-rate schedule. Received: a NAGD whose schedule "
                f"is multiplied by {factor:.8g}, since its learning rate was set. Set "
                "`optimizer.learning_rate` to the value of the schedule at this step, which undoes "
                "that, and give the SGD a schedule with other values afterwards."
            )
    if optimizer.at_iterate:
        raise ValueError(
            "The model's variables hold the iterate, where SGD does not train. Received: a NAGD "
            "after `swap_to_iterate()`. Call `optimizer.swap_to_lookahead()` first."
        )


def _named(thing: Any) -> str:
    return repr(thing) if isinstance(thing, str) else f"a {type(thing).__name__}"
