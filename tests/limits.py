"""What a backend cannot do, with the reason. `test_limits.py` shows the errors that say so."""

import keras
import pytest

# By ability and backend. What Keras refuses is in its words.
LIMITS = {
    "steps per execution": {
        "torch": "Keras: `steps_per_execution` must be 1 with the PyTorch backend",
    },
    "TensorFlow's checkpoints": {
        "torch": "TensorFlow: `Checkpoint` was expecting model to be a trackable object",
    },
    "export as a SavedModel": {
        "torch": "it is written by TensorFlow, which would have to run PyTorch's operations",
    },
    "layers of the same path": {
        "torch": "Keras keeps one parameter of a path, and does not set the others' gradients to 0",
    },
    "many updates in one graph": {
        "torch": "each update would run by itself, and 10^6 of them take an hour",
    },
}


def reason(ability: str) -> str | None:
    """Why the present backend lacks an ability, or None if it has it."""
    return LIMITS[ability].get(keras.backend.backend())


def needs(ability: str) -> pytest.MarkDecorator:
    """Marks a test, or a case of one, that needs an ability."""
    why = reason(ability)
    return pytest.mark.skipif(why is not None, reason=why or "")
