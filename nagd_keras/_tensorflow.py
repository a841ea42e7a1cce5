"""What TensorFlow has and the other backends have not: traces to leave, checkpoints of its own."""

import io
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
