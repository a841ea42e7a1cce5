"""Updates on JAX: jitted calls whose buffers are donated, against Optax' SGD."""

import math
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
import keras

from benchmarks.support import child, limit
from benchmarks.update.models import LARGE, chosen
from nagd_keras import NAGD, schedules

ARGUMENTS = "the arguments alone"
SGD = "Keras SGD"
OPTAX = "Optax SGD"
KERAS = {
    SGD: lambda: keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True),
    "NAGD": NAGD,
    "NAGD, momentum schedule": lambda: NAGD(momentum=schedules.SutskeverMomentum()),
}
Shapes = Sequence[tuple[int, ...]]


def measure(report: child.Report) -> None:
    """Reports the four models."""
    for model, shapes in chosen(report.quick).items():
        contestants = {ARGUMENTS: _arguments(shapes)}
        if find_spec("optax"):
            contestants[OPTAX] = _optax(shapes)
        for name, make in KERAS.items():
            contestants[name] = keras_step(shapes, make())
        elements = sum(map(math.prod, shapes))
        best = limit.update(elements) if model == LARGE else None
        if best:
            contestants[limit.NAME] = best
        report.race(
            model,
            contestants,
            [OPTAX, SGD],
            more=lambda rows, n=elements: limit.bandwidth(rows, n),
        )


def _repeated(
    step: Callable[..., Any], state: Any, gradients: Any, waits: bool = True
) -> Callable[[], Any]:
    """Returns a call that carries the state, which the last call has overwritten, to the next.

    It returns the state, when that is there or, if it does not wait, before.
    """
    compiled = jax.jit(step, donate_argnums=0)

    def call() -> Any:
        nonlocal state
        state = compiled(state, gradients)
        return jax.block_until_ready(state) if waits else state

    return call


def _arrays(shapes: Shapes, value: float) -> list[Any]:
    return [jnp.full(shape, value) for shape in shapes]


def _arguments(shapes: Shapes) -> Callable[[], Any]:
    """What it takes to hand over as many arrays and to get them back."""
    state = _arrays(shapes, 1.0), _arrays(shapes, 0.0)
    return _repeated(lambda state, gradients: state, state, _arrays(shapes, 1e-3))


def _optax(shapes: Shapes) -> Callable[[], Any]:
    import optax

    return optax_step(_arrays(shapes, 1.0), optax.sgd(0.01, momentum=0.9, nesterov=True))


def optax_step(weights: list[Any], rule: Any, waits: bool = True) -> Callable[[], Any]:
    """Returns calls of an update of arrays by a rule of Optax."""
    import optax

    def step(state: Any, gradients: Any) -> Any:
        weights, slots = state
        updates, slots = rule.update(gradients, slots, weights)
        return optax.apply_updates(weights, updates), slots

    weights = [jnp.copy(array) for array in weights]
    state = weights, rule.init(weights)
    return _repeated(step, state, [1e-3 * array for array in weights], waits)


def keras_step(shapes: Shapes, optimizer: Any) -> Callable[[], Any]:
    """Returns calls of an update of variables of these shapes."""
    return step_of([keras.Variable(array) for array in _arrays(shapes, 1.0)], optimizer)


def step_of(variables: list[Any], optimizer: Any, waits: bool = True) -> Callable[[], Any]:
    """Returns calls of an update of variables."""
    optimizer.build(variables)

    def step(state: Any, gradients: Any) -> Any:
        weights, slots = state
        return optimizer.stateless_apply(slots, gradients, weights)

    # Copies, for the optimizer's own stay its own.
    state = [[jnp.copy(v.value) for v in vs] for vs in (variables, optimizer.variables)]
    return _repeated(step, tuple(state), [1e-3 * v.value for v in variables], waits)


if __name__ == "__main__":
    child.run(measure)
