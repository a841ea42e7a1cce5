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

    The state does not tell whether the optimizer had nesterov=True, and nothing of what else was
    chained without a state of its own (`clip`, `add_decayed_weights`): that is for you to know.
    Where a schedule counts the steps, `iterations` and `age` become that count, else 0.

    Flax orders the axes of Dense, Conv and Embed as Keras does (its ConvTranspose is turned
    around, which no order of axes undoes). Equinox' Linear has (out, in), to be transposed by
    (1, 0), and its convolutions are ordered as PyTorch's, see `from_torch_sgd`.

    Args:
        state: the state of `optax.sgd`, or of `optax.inject_hyperparams(optax.sgd)`.
        variables: the Keras variables, which hold the weights already: a list in the order of
            `jax.tree.leaves(params)` (dictionaries are sorted by their keys there), or dictionaries
            and lists that are nested as the parameters are.
        learning_rate: $\varepsilon$, as NAGD takes it; of a schedule, the value at the count of the
            state is used for the displacements. None, if the hyperparameters were injected: the
            number there.
        momentum: $\mu$, in [0, 1), a number, or None, likewise.
        transposes: {regular expression: axes for `numpy.transpose`, or None for the same order};
            the first that is found in `variable.path` counts. Others are in Keras' order.
        trainable_variables: the same variables in the order of `model.trainable_variables`, by
            which Keras saves an optimizer's state and, on JAX, trains. None if `variables` has it;
            mind that Flax' "bias" comes before "kernel".

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
    _walk(state, found)
    updates = max(found.counts, default=0)
    listed, arrays = _paired(variables, _trace(found))
    order = checked_order(trainable_variables, listed)
    given = {"learning_rate": learning_rate, "momentum": momentum}
    rate, mu = (_hyperparameter(name, value, found) for name, value in given.items())
    rate = NAGD.learning_rate.checked(rate)
    mu = NAGD.momentum.number(mu, alternatives="")
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
    """Takes the parts of a state, told by the names of their fields: Optax is not imported."""
    fields = set(getattr(part, "_fields", ()))
    if fields == {"trace"}:
        found.traces.append(part.trace)
    elif fields == {"count"}:
        found.counts.append(int(part.count))
    elif {"count", "hyperparams", "inner_state"} <= fields:
        found.counts.append(int(part.count))
        found.hyperparameters |= part.hyperparams
        found.scheduled |= set(getattr(part, "hyperparams_states", ()))
        _walk(part.inner_state, found)
    elif isinstance(part, (tuple, list)) and not fields:
        for each in part:
            _walk(each, found)
    elif any(hasattr(leaf, "shape") for _, leaf in leaves(part)):
        names = f" with the fields {sorted(fields)}" if fields else ""
        raise ValueError(
            "The state of `optax.sgd` holds a trace and perhaps a count, nothing else. Received: "
            f"a {type(part).__name__}{names}. {_BEGIN_ANEW}"
        )


def _trace(found: _Found) -> Any:
    if len(found.traces) != 1:
        raise ValueError(
            "The state of `optax.sgd` with momentum has one part with a `trace`. Received: a state "
            f"with {len(found.traces)}. Pass the state that its `init` or `update` returned; "
            "without momentum there is nothing to go on with: use NAGD(learning_rate, "
            f"momentum=0.0). {_BEGIN_ANEW}"
        )
    return found.traces[0]


def _paired(variables: Any, trace: Any) -> tuple[list[Any], list[Any]]:
    """Returns the variables and the arrays that belong to them."""
    arrays = {"/".join(map(str, path)): leaf for path, leaf in leaves(trace)}
    for path, leaf in arrays.items():
        if not hasattr(leaf, "shape"):
            raise ValueError(
                f"The trace must hold arrays only. Received: a {type(leaf).__name__} at {path!r}. "
                "Replace the trace by jax.tree.leaves(trace), and pass a list of variables."
            )
    nest = {"/".join(map(str, path)): leaf for path, leaf in leaves(variables)}
    if not isinstance(variables, (list, tuple)) or any("/" in path for path in nest):
        listed = checked_variables("variables", nest.values())
        if odd := [*(p for p in arrays if p not in nest), *(p for p in nest if p not in arrays)]:
            raise ValueError(
                "Nested variables must have the structure of the trace. Received: "
                f"{odd[0]!r} only in the {'trace' if odd[0] in arrays else 'variables'}. Nest them "
                "as the parameters are, or pass a list in the order of jax.tree.leaves(params)."
            )
        return listed, [arrays[path] for path in nest]
    listed = checked_variables("variables", variables)
    if len(listed) != len(arrays):
        raise ValueError(
            "`variables` must have one Keras variable for each array of the trace. Received: "
            f"{len(listed)} variables, {', '.join(v.path for v in listed)}, for {len(arrays)} "
            f"arrays, {', '.join(arrays)}. Pass them in this order, or nested like it."
        )
    return listed, list(arrays.values())


def _hyperparameter(name: str, given: Any, found: _Found) -> Any:
    if given is not None:
        return given
    if name in found.hyperparameters and name not in found.scheduled:
        return float(found.hyperparameters[name])
    why = (
        f"follows a schedule there, which the state does not hold: pass {name}=..."
        if name in found.scheduled
        else "is no part of the state of `optax.sgd`, unless `optax.inject_hyperparams` made it: "
        f"pass the {name} of that optimizer"
    )
    raise TypeError(f"The {name} {why}. Received: {name}=None.")
