"""Between Keras' SGD with Nesterov momentum and NAGD, with all state, both ways."""

import operator
import warnings
from typing import Any

import keras

from nagd_keras import keras_private as private
from nagd_keras.convert.carrying import (
    assign_all,
    carry,
    check_at_lookahead,
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

    If the SGD is built, the NAGD is built for the same variables, in their order. It takes over
    the finished batches (`iterations`; the finished updates become its `age`), the moving averages
    and the gradients accumulated so far, all settings, and the exclusions from weight decay. The
    name is NAGD's own. The SGD stays as it is. Train with only one of the two, since both update
    the same variables.

    For variables of 16 bits the two agree to their rounding, since Keras' SGD rounds the momentum
    to 16 bits too. For float64 on TensorFlow they agree to the rounding of float32, to which SGD
    rounds the momentum there. Under `tf.distribute`, call this within the strategy's scope.
    `nagd_keras.convert.adopt` does all of this for a compiled model.

    Args:
        optimizer: a `keras.optimizers.SGD` with nesterov=True, or with momentum 0.

    Raises:
        TypeError: for another optimizer than a `keras.optimizers.SGD`, even a subclass or a
            `LossScaleOptimizer` around one.
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
    carry(optimizer, new)
    updates = int(number(optimizer.iterations))
    if updates and momentum and not private.trained(optimizer):
        _warn_of_lost_velocities(updates)
        updates = 0
    set_updates(new, updates)
    if optimizer.built and optimizer.momentums:  # of which an SGD without momentum has none
        assign_all(new.displacements, combined(operator.mul, optimizer.momentums, momentum))
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
        TypeError: for another optimizer than a NAGD.
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
    values = optimizer._state.hyperparameters.as_given()
    momentum = values["momentum"]
    sgd = keras.optimizers.SGD(nesterov=True, **values, **settings(optimizer))
    carry(optimizer, sgd)
    if optimizer.built and momentum:
        slots = combined(operator.truediv, optimizer.displacements, momentum)
        assign_all(sgd.momentums, slots)
    return sgd


def _check_sgd(optimizer: Any) -> None:
    # On PyTorch, Keras makes an object of a class of its own.
    if type(optimizer) is not type(keras.optimizers.SGD.__new__(keras.optimizers.SGD)):
        raise TypeError(
            "Only a `keras.optimizers.SGD`, of no derived class, is known to make NAGD's updates. "
            f"Received: {type(optimizer).__name__}. Pass the `inner_optimizer` of a "
            "LossScaleOptimizer. To begin anew from the weights as they are, call "
            "`adopt(model, direction=...)`."
        )
    if optimizer.momentum and not optimizer.nesterov:
        raise ValueError(
            "SGD with momentum but without Nesterov's look-ahead (heavy ball) is another method. "
            f"Received: momentum={optimizer.momentum}, nesterov=False. Begin anew with "
            f"NAGD(momentum={optimizer.momentum}), or train with SGD(..., nesterov=True) first."
        )


def _warn_of_lost_velocities(updates: int) -> None:
    warnings.warn(
        f"Only the settings and counters of the SGD are converted; NAGD begins at rest. Received: "
        f"an SGD that has made {updates} updates, but has no velocities. Keras loads none from its "
        "older format of whole models (.h5): save those as .keras. After TensorFlow's checkpoints, "
        "call optimizer.build(model.trainable_variables) before the conversion.",
        stacklevel=3,
    )


def _check_nagd(optimizer: Any) -> None:
    if type(optimizer) is not NAGD:
        raise TypeError(
            "Only a NAGD, of no derived class, can be converted. Received: a "
            f"{type(optimizer).__name__}. Pass the `inner_optimizer` of a LossScaleOptimizer."
        )
    check_at_lookahead(optimizer)
    odd = [
        f"{name} from a {optimizer.given_as(name)}"
        for name in ("momentum", "weight_decay")
        if optimizer.given_as(name) in ("schedule", "callable")
    ]
    if not isinstance(optimizer.direction, Gradient):
        odd.append(f"direction={optimizer.direction!r}")
    multipliers = optimizer.learning_rate_multipliers or {}
    if factors := {key: factor for key, factor in multipliers.items() if factor != 1}:
        odd.append(f"learning_rate_multipliers={factors}")
    if optimizer.given_as("learning_rate") == "schedule":
        factor = number(optimizer.learning_rate_scale)
        if abs(factor - 1) > 2.0**-22:  # Scaled back, it is 1 to rounding.
            odd.append(f"a learning-rate schedule that was set, and so multiplied by {factor:.8g}")
    if odd:
        raise ValueError(
            "Keras' SGD has the gradient as its direction, one momentum and weight decay, which "
            "are numbers, and one learning rate for all variables; a schedule of that cannot be "
            f"scaled. Received: a NAGD with {', '.join(odd)}. Go on with NAGD; or make one "
            "without these, and undo the scaling of a schedule: "
            "optimizer.scale_learning_rate(1 / float(optimizer.learning_rate_scale))."
        )
