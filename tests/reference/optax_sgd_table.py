"""Writes optax_sgd.json: the state of Optax' SGD with Nesterov momentum, and its next steps.

    python -m tests.reference.optax_sgd_table

wants JAX and Optax, which the tests themselves do not.
"""

import json
from pathlib import Path

import numpy as np

from tests.reference import sgd_problem as problem

TABLE = Path(__file__).with_name("optax_sgd.json")


def trained(optimizer):
    """Returns the state after the first steps, and all parameters before each next one.

    Args:
        optimizer: an Optax SGD.
    """
    import jax
    import optax

    kernel, bias, weight = problem.start(problem.OPTAX_SHAPES)
    parameters = {"conv": {"kernel": kernel}, "dense": {"bias": bias, "weight": weight}}
    structure = jax.tree.structure(parameters)
    update = jax.jit(optimizer.update)
    state = optimizer.init(parameters)

    def step(parameters, state):
        gradients = problem.gradient(jax.tree.leaves(parameters))
        updates, state = update(jax.tree.unflatten(structure, gradients), state)
        return optax.apply_updates(parameters, updates), state

    def point(parameters):
        return np.concatenate([np.ravel(x) for x in jax.tree.leaves(parameters)])

    for _ in range(problem.FIRST):
        parameters, state = step(parameters, state)
    first, points = state, [point(parameters)]
    for _ in range(problem.STEPS):
        parameters, state = step(parameters, state)
        points.append(point(parameters))
    return first, points


if __name__ == "__main__":
    import jax
    import optax

    state, points = trained(optax.sgd(problem.RATE, momentum=problem.MOMENTUM, nesterov=True))
    table = {
        "optax": optax.__version__,
        "trace": [problem.decimals(leaf) for leaf in jax.tree.leaves(state[0].trace)],
        "points": [problem.decimals(point) for point in points],
    }
    TABLE.write_text(json.dumps(table, separators=(",", ":")) + "\n")
    print(f"{TABLE}: {TABLE.stat().st_size} bytes, Optax {optax.__version__}")
