"""What NAGD needs to know of the backend that Keras trains with."""

from collections.abc import Callable
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
    """Whether this is a step of one of several replicas, which have shares of a gradient."""
    if keras.backend.backend() == "tensorflow":
        from nagd_keras._tensorflow import in_one_of_several_replicas

        return in_one_of_several_replicas()
    return False


def check_in_replica(built: bool) -> None:
    """Raises where an optimizer cannot apply gradients.

    Raises:
        ValueError: in the scope of a `tf.distribute` strategy, but outside of its replicas; in a
            compiled step of several replicas if the optimizer is not built.
    """
    if keras.backend.backend() == "tensorflow":
        from nagd_keras._tensorflow import check_in_replica

        check_in_replica(built)


def check_scope(optimizer: Any, variables: list[Any]) -> None:
    """Raises unless an optimizer and the variables are of the same `tf.distribute` strategy.

    Raises:
        ValueError: if a variable is not.
    """
    if keras.backend.backend() == "tensorflow":
        from nagd_keras._tensorflow import check_scope

        check_scope(optimizer._distribution_strategy, variables)  # where it was made


def summed_over_replicas(gradients: list[Any]) -> list[Any]:
    """Returns the sums of the replicas' gradients; None stays None. In one of several replicas."""
    from nagd_keras._tensorflow import summed_over_replicas

    return summed_over_replicas(gradients)


def branch_together(condition: Any, then: Callable[[], Any], otherwise: Callable[[], Any]) -> None:
    """Calls one of two functions in all replicas, where they may meet. In one of several."""
    from nagd_keras._tensorflow import branch_together

    branch_together(condition, then, otherwise)


def track_in_checkpoints(optimizer: Any) -> Any:
    """Returns what, as an attribute, makes TensorFlow's checkpoints note the optimizer's names."""
    if keras.backend.backend() == "tensorflow":
        from nagd_keras._tensorflow import NamesInCheckpoint

        return NamesInCheckpoint(optimizer)
    return None
