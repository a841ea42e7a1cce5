"""What NAGD needs to know of the backend that Keras trains with."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras

# Private, since Keras has no public name for it: a kernel that writes in place must not do so in a
# stateless scope, which any code around an optimizer may open.
from keras.src.backend import in_stateless_scope


def lifted() -> AbstractContextManager[Any]:
    """A context that does its work at once, though a step is being compiled."""
    if keras.backend.backend() == "tensorflow":
        from nagd_keras._tensorflow import lifted

        return lifted()
    return nullcontext()


def check_lifted() -> None:
    """Raises where variables cannot be set at once: in one of several replicas.

    Raises:
        ValueError: there.
    """
    if several_replicas():
        raise ValueError(
            "A state that was loaded before the optimizer was built cannot be given to it "
            "within a step of several replicas. Build it first, in the strategy's scope: "
            "optimizer.build(model.trainable_variables)."
        )


def stateless() -> bool:
    """Whether variables are not to be written: within a `keras.StatelessScope`."""
    return bool(in_stateless_scope())


def several_replicas() -> bool:
    """Whether this is a step of one of several replicas, whose gradients are yet to be summed."""
    if keras.backend.backend() == "tensorflow":
        from nagd_keras._tensorflow import in_one_of_several_replicas

        return in_one_of_several_replicas()
    return False


def track_in_checkpoints(optimizer: Any) -> Any:
    """Returns what, as an attribute, makes TensorFlow's checkpoints note the optimizer's names."""
    if keras.backend.backend() == "tensorflow":
        from nagd_keras._tensorflow import NamesInCheckpoint

        return NamesInCheckpoint(optimizer)
    return None
