"""From the state of Optax' SGD with Nesterov momentum to NAGD."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nagd_keras.convert.carrying import begun
from nagd_keras.convert.layouts import arranged, axes_of, checked_order, checked_variables
from nagd_keras.convert.nests import leaves
from nagd_keras.nagd import NAGD
from nagd_keras.tensors import number

_BEGIN_ANEW = "For other optimizers, begin anew with NAGD(...)."


def from_optax_sgd(
    state: Any,
    variables: Any,
    *,
    learning_rate: Any = None,
    momentum: Any = None,
    transposes: Mapping[str, Sequence[int] | None] | None = None,
    trainable_variables: Iterable[Any] | None = None,
) -> NAGD:
    r"""Returns a NAGD that goes on where `optax.sgd(..., nesterov=True)` stands.

    Optax' trace $b$ becomes the displacement $s = -\varepsilon \mu b$; then both make the same
    steps, to rounding, while the learning rate stays:

    $$b \leftarrow \mu b + g, \quad w \leftarrow w - \varepsilon (g + \mu b)
      \qquad\text{and}\qquad
      s \leftarrow \mu (s - \varepsilon g), \quad w \leftarrow w - \varepsilon g + s.$$

    Optax scales its trace by the *present* learning rate; the displacement keeps the one at which
    it was gathered. So the two methods part where the learning rate changes.

    The state does not tell whether the optimizer had nesterov=True, or which transformations
    without a state, such as `clip` or `add_decayed_weights`, were chained with it: you must know.
    If a schedule counts the steps, `iterations` and `age` become that count, otherwise 0.

    Flax orders the axes of Dense, Conv and Embed like Keras. Its ConvTranspose is turned around,
    which no order of axes undoes. Equinox' Linear has (out, in): transpose it by (1, 0). It orders
    convolutions like PyTorch, see `from_torch_sgd`.

    Args:
        state: the state of `optax.sgd`, or of `optax.inject_hyperparams(optax.sgd)`; also within
            `chain`, `masked` or `multi_transform`, and as dictionaries and lists, as
            `flax.serialization.msgpack_restore` and Orbax return it.
        variables: the Keras variables, which hold the weights already: a list in the order of
            `jax.tree.leaves(params)` (dictionaries are sorted by their keys there), or dictionaries
            and lists that are nested as the parameters are. Parameters that a mask leaves out are
            left out here too.
        learning_rate: $\varepsilon$, as NAGD takes it. A schedule's value at the state's count
            gives the displacements. None takes the number that `inject_hyperparams` put into the
            state.
        momentum: $\mu$, a number in [0, 1). None takes the number that `inject_hyperparams` put
            into the state.
        transposes: {regular expression: axes for `numpy.transpose`, or None for the same order}.
            The first expression that is found in `variable.path` counts. Other variables are in
            Keras' order.
        trainable_variables: the same variables in the order of `model.trainable_variables`, or None
            if `variables` has that order. Keras saves an optimizer's state, and trains on JAX, in
            this order. Note that Flax' "bias" comes before "kernel".

    Raises:
        TypeError: if an argument is not of these kinds, or a hyperparameter is needed.
        ValueError: if the state is not that of `optax.sgd` with momentum, or does not fit the
            variables.

    Example:
        >>> from typing import NamedTuple
        >>> import keras
        >>> import numpy as np
        >>> from nagd_keras import convert
        >>> class TraceState(NamedTuple):  # as in Optax
        ...     trace: dict
        >>> x = keras.Variable([1.0])
        >>> state = (TraceState({"x": np.ones(1)}), ())  # of optax.sgd(0.1, 0.5, nesterov=True)
        >>> optimizer = convert.from_optax_sgd(state, {"x": x}, learning_rate=0.1, momentum=0.5)
        >>> round(float(optimizer.displacements[0][0]), 6)
        -0.05
    """
    found = _Found()
    # Restored, the tuple of a chain is a dictionary as well.
    _walk(_with_lists(state), found)
    updates = max(found.counts, default=0)
    listed, arrays = _paired(variables, _trace(found))
    order = checked_order(trainable_variables, listed)
    rate = NAGD.learning_rate.checked(_hyperparameter("learning_rate", learning_rate, found))
    mu = NAGD.momentum.number(_hyperparameter("momentum", momentum, found), alternatives="")
    now = rate if isinstance(rate, float) else NAGD.learning_rate.given(rate, lambda: updates)
    now = number(now)
    axes = axes_of(listed, transposes, all_must_match=False)
    displacements = [
        -now * mu * arranged(array, variable, axes.get(i), f"trace {i}")
        for i, (array, variable) in enumerate(zip(arrays, listed, strict=True))
    ]
    return begun(rate, mu, listed, displacements, order, updates)


@dataclass
class _Found:
    """What the parts of a state are."""

    traces: list[Any] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    scheduled: set[str] = field(default_factory=set)  # whose present value the state does not have


def _walk(part: Any, found: _Found) -> None:
    """Takes the parts of a state. The names of their fields tell them: this imports no Optax."""
    fields = _fields(part)
    names = set(fields)
    if names == {"trace"}:
        found.traces.append(fields["trace"])
    elif names == {"count"}:
        found.counts.append(int(fields["count"]))
    elif {"count", "hyperparams", "inner_state"} <= names:
        found.counts.append(int(fields["count"]))
        found.hyperparameters |= fields["hyperparams"]
        found.scheduled |= set(fields.get("hyperparams_states", ()))
        _walk(fields["inner_state"], found)
    elif names == {"inner_state"}:  # of `masked`
        _walk(fields["inner_state"], found)
    elif names == {"inner_states"}:  # of `multi_transform`, by its labels
        for each in fields["inner_states"].values():
            _walk(each, found)
    elif isinstance(part, (tuple, list)) and not names:
        for each in part:
            _walk(each, found)
    elif any(hasattr(leaf, "shape") for _, leaf in leaves(part)):
        raise ValueError(
            "The state of `optax.sgd` holds a trace and perhaps a count, nothing else. Received: "
            f"a {type(part).__name__} with the fields {sorted(map(str, names))}. If the state of "
            "SGD is within it, as within that of a training run or of `optax.MultiSteps`, pass "
            f"that part. {_BEGIN_ANEW}"
        )


def _fields(part: Any) -> Mapping[str, Any]:
    """Returns the fields of a named tuple, or of the dictionary as which it was restored."""
    if isinstance(part, Mapping):
        return part
    return {name: getattr(part, name) for name in getattr(part, "_fields", ())}


def _with_lists(nest: Any) -> Any:
    """Returns restored dictionaries with the lists that are dictionaries by "0", "1", ... there."""
    if not isinstance(nest, Mapping):
        return nest
    found = {key: _with_lists(value) for key, value in nest.items()}
    numbers = [str(i) for i in range(len(found))]
    return [found[i] for i in numbers] if found and found.keys() == set(numbers) else found


def _trace(found: _Found) -> Any:
    if not found.traces:
        raise ValueError(
            "The state of `optax.sgd` with momentum has a part with a `trace`. Received: a state "
            "without one. Without momentum there is nothing to go on with: use "
            f"NAGD(learning_rate, momentum=0.0). {_BEGIN_ANEW}"
        )
    if len(found.traces) > 1:
        raise ValueError(
            "NAGD goes on with one trace for all variables. Received: a state with "
            f"{len(found.traces)}, as `optax.multi_transform` keeps them for groups of parameters. "
            "Pass the state of one SGD. If there are several, begin anew with NAGD(...)."
        )
    return found.traces[0]


def _paired(variables: Any, trace: Any) -> tuple[list[Any], list[Any]]:
    """Returns the variables and the arrays that belong to them, by name or in their order."""
    arrays, nest = (
        {"/".join(map(str, path)): leaf for path, leaf in leaves(tree)}
        for tree in (trace, variables)
    )
    listed = checked_variables("variables", nest.values())
    flat = isinstance(variables, (list, tuple)) and not any("/" in path for path in nest)
    if len(arrays) != len(nest) or not (flat or arrays.keys() == nest.keys()):
        names = [variable.path for variable in listed] if flat else [*nest]
        raise ValueError(
            "`variables` must have one Keras variable for each array of the trace, in the order "
            f"of jax.tree.leaves(params) or nested like them. Received: the variables {names} "
            f"for the arrays {[*arrays]}."
        )
    return listed, [*arrays.values()] if flat else [arrays[path] for path in nest]


def _hyperparameter(name: str, given: Any, found: _Found) -> Any:
    if given is None and name in found.hyperparameters and name not in found.scheduled:
        return float(found.hyperparameters[name])
    if given is None:
        raise TypeError(
            f"The state does not hold the {name}, unless it is a number that "
            f"`optax.inject_hyperparams` put there. Received: {name}=None. Pass that of the "
            "optimizer, or its schedule."
        )
    return given
