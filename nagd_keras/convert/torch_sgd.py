"""From the state of PyTorch's SGD with Nesterov momentum to NAGD."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nagd_keras.convert.carrying import begun
from nagd_keras.convert.layouts import arranged, axes_of, checked_order, checked_variables
from nagd_keras.hyperparameters import Hyperparameter
from nagd_keras.nagd import NAGD

_BUFFER = "momentum_buffer"
_GROUP = ("params", "lr", "momentum", "dampening", "weight_decay", "nesterov")


def from_torch_sgd(
    state_dict: Mapping[str, Any],
    variables: Iterable[Any],
    *,
    transposes: Mapping[str, Sequence[int] | None] | None = None,
    trainable_variables: Iterable[Any] | None = None,
) -> NAGD:
    r"""Returns a NAGD that goes on where PyTorch's SGD with Nesterov momentum stands.

    PyTorch's buffer $b$ becomes the displacement $s = -\varepsilon \mu b$; then both make the
    same steps, to rounding, while the learning rate stays:

    $$b \leftarrow \mu b + g, \quad w \leftarrow w - \varepsilon (g + \mu b)
      \qquad\text{and}\qquad
      s \leftarrow \mu (s - \varepsilon g), \quad w \leftarrow w - \varepsilon g + s.$$

    PyTorch scales its buffer by the *present* learning rate; the displacement keeps the one at
    which it was gathered. So the two methods part where the learning rate changes.

    The variables must hold the weights of the PyTorch model already. PyTorch orders axes
    differently, and `transposes` says how, for each variable of two or more dimensions:

    | Keras variable | axes |
    |---|---|
    | kernel of Dense | (1, 0) |
    | kernel of Conv1D, Conv1DTranspose | (2, 1, 0) |
    | kernel of Conv2D, Conv2DTranspose | (2, 3, 1, 0) |
    | kernel of Conv3D, Conv3DTranspose | (2, 3, 4, 1, 0) |
    | kernel of DepthwiseConv1D, depth_multiplier=1 | (2, 0, 1) |
    | kernel of DepthwiseConv2D, depth_multiplier=1 | (2, 3, 0, 1) |
    | embeddings of Embedding | None |
    | kernel, recurrent_kernel of LSTM and SimpleRNN, use_bias=False | (1, 0) |

    For others, no permutation of axes exists: a Dense after a Flatten of channels-last images,
    depthwise convolutions with a larger multiplier, the biases of recurrent layers (PyTorch has
    two), GRU (another order of gates), MultiHeadAttention. Convert their buffers as you converted
    the weights, put them into the state dict as NumPy arrays, and give None for them.

    If groups have different learning rates, the first that is not 0 becomes the optimizer's, and
    the others become `learning_rate_multipliers`. PyTorch's state counts no steps: `iterations` and
    `age` begin at 0. Parameters without a buffer begin with displacement 0.

    Args:
        state_dict: what `torch.optim.SGD(...).state_dict()` returns; its tensors may be PyTorch's,
            on any device, or NumPy arrays.
        variables: the Keras variables in the order of the parameters in that optimizer, group
            after group.
        transposes: {regular expression: axes for `numpy.transpose`, or None for the same order}.
            The first expression that is found in `variable.path` counts.
        trainable_variables: the same variables in the order of `model.trainable_variables`, or None
            if `variables` has that order. Keras saves an optimizer's state, and trains on JAX, in
            this order.

    Raises:
        TypeError: if an argument is not of these kinds.
        ValueError: if the state is not that of an SGD, does not fit the variables, or has what NAGD
            does not do: momentum without nesterov, dampening, weight decay (PyTorch's is an L2
            term of the gradient), maximize, different momenta; if a variable of two or more
            dimensions has no entry in `transposes`.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> from nagd_keras import convert
        >>> layer = keras.layers.Dense(2, name="dense")
        >>> layer.build((None, 3))
        >>> group = {"params": [0, 1], "lr": 0.1, "momentum": 0.5, "dampening": 0}
        >>> group |= {"weight_decay": 0, "nesterov": True, "maximize": False}
        >>> weight = {"momentum_buffer": np.ones((2, 3))}  # (out, in)
        >>> state_dict = {"state": {0: weight}, "param_groups": [group]}
        >>> optimizer = convert.from_torch_sgd(
        ...     state_dict, layer.trainable_variables, transposes={"kernel": (1, 0)}
        ... )
        >>> round(float(optimizer.displacements[0][0, 0]), 6)
        -0.05
    """
    groups, state = _checked(state_dict)
    variables = checked_variables("variables", variables)
    order = checked_order(trainable_variables, variables)
    _check_numbers([i for group in groups for i in group["params"]], state, variables)
    momentum = _momentum(groups)
    rates = {
        i: _number(NAGD.learning_rate, group["lr"]) for group in groups for i in group["params"]
    }
    # Not that of parameters that are frozen, of which no other is a multiple.
    first = next((rate for rate in rates.values() if rate), 0.0)
    axes = axes_of(variables, transposes, all_must_match=True)
    displacements: list[Any] = [None] * len(variables)
    for i, entry in state.items():
        if entry.get(_BUFFER) is not None:
            buffer = arranged(entry[_BUFFER], variables[i], axes.get(i), f"{_BUFFER} {i}")
            displacements[i] = -rates[i] * momentum * buffer
    multipliers = _multipliers(first, rates, variables)
    return begun(
        first, momentum, variables, displacements, order, learning_rate_multipliers=multipliers
    )


def _checked(state_dict: Any) -> tuple[list[Any], dict[int, Any]]:
    """Returns the parameter groups and the state of each parameter."""
    if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= set(state_dict):
        keys = f" with {[*state_dict][:9]}" if isinstance(state_dict, Mapping) else ""
        raise TypeError(
            "`state_dict` must be what `torch.optim.SGD(...).state_dict()` returns, with 'state' "
            f"and 'param_groups'. Received: a {type(state_dict).__name__}{keys}. Pass the state "
            "dict of the optimizer, not the optimizer or that of the model."
        )
    groups, state = list(state_dict["param_groups"]), dict(state_dict["state"])
    missing = sorted({key for group in groups for key in _GROUP if key not in group})
    others = sorted({key for entry in state.values() for key in entry} - {_BUFFER})
    if missing or others:
        raise ValueError(
            "`state_dict` must be that of `torch.optim.SGD`. Received: one of another optimizer, "
            f"whose parameter groups lack {missing} and which keeps {others} for its parameters. "
            "Begin anew with NAGD(...)."
        )
    for number, group in enumerate(groups):
        if odd := _refused(group):
            raise ValueError(
                "NAGD does not do what this SGD does. Received: in parameter group "
                f"{number}, {odd}, or begin anew with NAGD(...)."
            )
    return groups, state


def _refused(group: Mapping[str, Any]) -> str:
    """Returns a setting of a parameter group that NAGD lacks, and what to do then, or nothing."""
    if group["weight_decay"]:
        return (
            f"weight_decay={group['weight_decay']}, an L2 term of the gradient, where NAGD's is "
            "decoupled. Give the layers kernel_regularizer=keras.regularizers.L2(weight_decay / 2) "
            "and the like, and set it to 0 in the state dict"
        )
    if group.get("maximize"):
        return "maximize=True, which ascends. Change the sign of the loss"
    if group["momentum"] and (group["dampening"] or not group["nesterov"]):
        return (
            f"momentum={group['momentum']}, nesterov={group['nesterov']}, "
            f"dampening={group['dampening']}, which is another method than Nesterov's. Train with "
            "SGD(..., nesterov=True) first"
        )
    return ""


def _momentum(groups: Sequence[Mapping[str, Any]]) -> float:
    momenta = [_number(NAGD.momentum, group["momentum"]) for group in groups]
    if len(set(momenta)) > 1:
        raise ValueError(
            "NAGD has one momentum for all variables. Received: parameter groups with the momenta "
            f"{momenta}. Train with one momentum in PyTorch first, or begin anew with NAGD(...)."
        )
    return momenta[0]


def _check_numbers(numbers: list[Any], state: Mapping[Any, Any], variables: Sequence[Any]) -> None:
    """Raises unless the numbers of parameters are the places of the variables."""
    if set(numbers) != set(range(len(variables))) or not set(state) <= set(numbers):
        raise ValueError(
            "`variables` must have one Keras variable for each parameter of the PyTorch optimizer, "
            f"which numbers them from 0. Received: {len(variables)} variables, "
            f"{', '.join(v.path for v in variables)}, for the parameters {numbers} in the groups "
            f"and {list(state)} in the state. Pass the state dict as PyTorch returned it, and the "
            "variables in its order; what is not trained, as in BatchNormalization, is left out."
        )


def _multipliers(
    first: float, rates: Mapping[int, float], variables: Sequence[Any]
) -> dict[str, float] | None:
    """Returns the factors of the learning rates that differ from the first, by paths."""
    factors: dict[str, float] = {}
    for i, rate in rates.items():
        factor, path = rate / first if first else 1.0, variables[i].path
        if factors.setdefault(path, factor) != factor:
            raise ValueError(
                "Different learning rates become `learning_rate_multipliers`, by the paths of "
                f"variables. Received: two variables of the path {path!r} with different ones. "
                "Give the layers different names."
            )
    return {f"^{re.escape(path)}$": f for path, f in factors.items() if f != 1} or None


def _number(hyperparameter: Hyperparameter, value: Any) -> float:
    value = value.item() if hasattr(value, "item") else value  # a tensor
    return hyperparameter.number(value, alternatives="")
