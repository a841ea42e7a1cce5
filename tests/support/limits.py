"""What a backend cannot do, with the reason. `engine/test_limits.py` shows the errors."""

from typing import Any

import keras
import pytest

# By ability and backend. What Keras refuses is in its words.
LIMITS = {
    "steps per execution": {
        "torch": "Keras: `steps_per_execution` must be 1 with the PyTorch backend",
    },
    "TensorFlow's checkpoints": {
        "jax": "TensorFlow: `Checkpoint` was expecting model to be a trackable object",
        "torch": "TensorFlow: `Checkpoint` was expecting model to be a trackable object",
    },
    "export as a SavedModel": {
        "torch": "it is written by TensorFlow, which would have to run PyTorch's operations",
    },
    "a model of TensorFlow's": {
        "jax": "TensorFlow: `saved_model.save` expected an object of type `Trackable`",
        "torch": "as on JAX; and what `export` needs is missing as well",
    },
    "layers of the same path": {
        "torch": "Keras keeps one parameter of a path, and does not set the others' gradients to 0",
    },
    "many updates in one graph": {
        "torch": "each update would run by itself, and 10^6 of them take an hour",
    },
    "a model after a failed step": {
        "jax": "Keras takes the values out of the variables for an epoch, and not back if it fails",
    },
    "frozen after it was built": {
        "jax": "Keras: `stateless_apply` takes all the variables that the optimizer was built with",
    },
    "a second optimizer": {
        "jax": "Keras gives a training step the values of the model and its first optimizer",
    },
    "another order of the variables": {
        "jax": "Keras: `stateless_apply` takes the variables in the order that they were built in",
    },
    "callables, compiled": {
        "jax": "JAX: what a compiled step reads from outside is a constant of it",
    },
    "float64": {
        "jax": "JAX has no float64 unless it is told to (JAX_ENABLE_X64)",
    },
}


def reason(ability: str) -> str | None:
    """Why the present backend lacks an ability, or None if it has it."""
    if ability == "float64" and float64_is_enabled():
        return None
    return LIMITS[ability].get(keras.backend.backend())


def float64_is_enabled() -> bool:
    if keras.backend.backend() != "jax":
        return True
    import jax

    return bool(jax.config.jax_enable_x64)


def dtypes(*names: str) -> list[Any]:
    """The dtypes, each as a case of a test; float64 where there is one."""
    return [pytest.param(x, marks=[needs(x)] if x == "float64" else []) for x in names]


def needs(ability: str) -> pytest.MarkDecorator:
    """Marks a test, or a case of one, that needs an ability."""
    why = reason(ability)
    return pytest.mark.skipif(why is not None, reason=why or "")
