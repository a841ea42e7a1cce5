"""What TensorFlow has and the other backends have not: traces to leave, checkpoints of its own."""

import io
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any
from weakref import ref

import numpy as np
import tensorflow as tf


def lifted() -> AbstractContextManager[Any]:
    """A context outside of the function that is being traced."""
    scope: AbstractContextManager[Any] = tf.init_scope()
    return scope


def in_one_of_several_replicas() -> bool:
    """Whether the code runs for one replica of a distribution strategy that has more."""
    replica = tf.distribute.get_replica_context()
    return replica is not None and replica.num_replicas_in_sync > 1


def check_in_replica(built: bool) -> None:
    """Raises where an optimizer cannot apply gradients.

    Raises:
        ValueError: in the context of all replicas of a strategy; in a compiled step of several
            replicas if the optimizer is not built.
    """
    if not (built or tf.executing_eagerly()) and in_one_of_several_replicas():
        raise ValueError(
            "An optimizer that is not built cannot make its variables within a compiled step of "
            "several replicas. Build it before, in the strategy's scope: "
            "optimizer.build(model.trainable_variables)."
        )
    if tf.distribute.in_cross_replica_context():
        raise ValueError(
            "Gradients were to be applied in the scope of a tf.distribute strategy, but outside of "
            "its replicas, where they are not summed. Call optimizer.apply within the function "
            "that strategy.run is given."
        )


def check_scope(strategy: Any, variables: Iterable[Any]) -> None:
    """Raises unless all variables were made in the scope of a strategy.

    Raises:
        ValueError: if one was made in that of another strategy, or in none.
    """
    for variable in variables:
        native = getattr(variable, "value", variable)
        if not strategy.extended.variable_created_in_scope(native):
            raise ValueError(
                f"The variable {getattr(variable, 'path', variable.name)} and the optimizer are "
                "not of the same tf.distribute strategy. Received: an optimizer of "
                f"{_named(strategy)} and a variable of "
                f"{_named(getattr(native, '_distribute_strategy', None))}. Make the model, compile "
                "it and make its optimizer in the scope of one strategy: with strategy.scope(): ..."
            )


def _named(strategy: Any) -> str:
    # What has no strategy is of TensorFlow's default one, by a private name.
    name = type(strategy).__name__
    return "no strategy" if strategy is None or name.startswith("_") else name


def summed_over_replicas(gradients: list[Any]) -> list[Any]:
    """Returns the sums of the replicas' gradients; None stays None."""
    there = [g for g in gradients if g is not None]
    replica = tf.distribute.get_replica_context()
    sums = iter(replica.all_reduce(tf.distribute.ReduceOp.SUM, there) if there else ())
    return [None if g is None else next(sums) for g in gradients]


def branch_together(condition: Any, then: Callable[[], Any], otherwise: Callable[[], Any]) -> None:
    """Calls one of two functions in all replicas, which may meet within it."""

    def decide(strategy: Any, condition: Any, *branches: Any) -> None:
        def in_each(branch: Any) -> Callable[[], None]:
            # A function of each replica, handed to it as its argument.
            def go() -> None:
                strategy.extended.call_for_each_replica(lambda call: call(), args=(branch,))

            return go

        tf.cond(strategy.experimental_local_results(condition)[0], *map(in_each, branches))

    replica = tf.distribute.get_replica_context()
    replica.merge_call(decide, args=(condition, _Call(then), _Call(otherwise)))


class _Call:
    """A function, which as such TensorFlow would make part of the graph where it is handed on."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function

    def __call__(self) -> None:
        self._function()


class NamesInCheckpoint(tf.train.experimental.PythonState):
    """A note of the optimizer's names in a `tf.train.Checkpoint`, which knows positions only.

    TensorFlow reads such notes before it restores the first variable.
    """

    def __init__(self, optimizer: Any) -> None:
        """Takes the optimizer, an attribute of which this will be."""
        self._optimizer = ref(optimizer)

    def serialize(self) -> bytes:
        """Returns the note as bytes; none within a graph, such as that of a SavedModel.

        The variables cannot be read there. TensorFlow asks again, outside of the graph, for what it
        writes beside the values of the variables.
        """
        if not tf.executing_eagerly():
            return b""
        file = io.BytesIO()
        # The optimizer is there: only by it does TensorFlow come to this attribute of it.
        np.savez(file, **self._optimizer()._checkpoint_note())  # type: ignore[union-attr]
        return file.getvalue()

    def deserialize(self, string_value: bytes) -> None:
        """Compares what `serialize` returned with the optimizer; raises ValueError on a misfit."""
        if not string_value:
            return
        with np.load(io.BytesIO(string_value), allow_pickle=False) as note:
            self._optimizer()._read_checkpoint_note(note)  # type: ignore[union-attr]
