"""TensorFlow: variables written in place, rows of embeddings, replicas, checkpoints of its own."""

import io
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from nagd_keras.backends.backend import Backend, Method, Reader
from nagd_keras.backends.tensorflow_rows import summed_rows
from nagd_keras.keras_private import call, raw_value
from nagd_keras.tensors import all_finite, dense, total

# From this number of elements on not to make a gradient of an embedding dense saves more than it
# costs. A small table costs less than to look for rows that are there twice.
LARGE_TABLE = 2**24


class TensorFlow(Backend):
    """What is TensorFlow's own."""

    writes_in_place = True
    knows_rows = True
    native_types = (tf.Variable,)

    # Variables

    def shared(self, native: Any) -> Any:
        """Returns a Keras variable that shares the memory of a native one."""
        variable = keras.Variable(native, trainable=native.trainable)
        call(variable, native.name, native.constraint)
        return variable

    def assign(self, variable: Any, value: Any) -> None:
        """Sets a variable; in a replica, its own part of it, with no word to the others."""
        if self.in_place():
            variable = native(variable)
            value = tf.cast(value, variable.dtype)
            tf.raw_ops.AssignVariableOp(resource=variable.handle, value=value)
        else:
            variable.assign(value)

    def assign_add(self, variable: Any, value: Any) -> None:
        """Adds to a variable, as `assign` sets one."""
        if self.in_place():
            variable = native(variable)
            value = tf.cast(value, variable.dtype)
            tf.raw_ops.AssignAddVariableOp(resource=variable.handle, value=value)
        else:
            super().assign_add(variable, value)

    def taken(self, packed: Any, place: int) -> Any:
        """Returns one number of a variable of a few; see `put`."""
        held = self._at_hand(packed)
        return super().taken(packed, place) if held is None else _read(held)[place]

    def put(self, packed: Any, place: int, value: Any) -> None:
        """Sets one number of a variable of a few.

        Callbacks do so before each batch. By way of Keras it takes longer than a small network's
        update does.
        """
        held = self._at_hand(packed)
        if held is None or not isinstance(value, np.ndarray):
            super().put(packed, place, value)
            return
        values = _read(held)
        values[place] = value
        tf.raw_ops.AssignVariableOp(resource=held.handle, value=values)

    def _at_hand(self, variable: Any) -> Any:
        """Returns TensorFlow's own variable where that can be read and set at once, or None."""
        held = raw_value(variable) if tf.executing_eagerly() and self.in_place() else None
        return None if isinstance(held, tf.distribute.DistributedValues) else held

    def at_once(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a function as one call: each operation of Keras costs more than a small layer."""
        compiled: Callable[..., Any] = tf.function(function, autograph=False)
        return compiled

    def reader(self, variables: Sequence[Any], checked: Sequence[Any]) -> Reader:
        """Returns a function of one call, since each costs more than what it reads.

        The values share the memory of the variables until these are updated: TensorFlow then has
        the update write elsewhere. That copies, too, but costs less than to copy before.
        """

        def read() -> tuple[list[Any], Any]:
            values = [tf.convert_to_tensor(native(v)) for v in variables]
            return values, all_finite(total(native(v)) for v in checked) if checked else True

        # Called as it is: to look for the function that fits costs as much as the call.
        compiled: Reader = tf.function(read, autograph=False).get_concrete_function()
        return compiled

    # Gradients

    def received(self, gradient: Any, shape: tuple[int, ...], rows: bool, lazy: bool) -> Any:
        """Returns a gradient as the update takes it: a tensor, or rows that are there once."""
        if isinstance(gradient, tf.Tensor):
            return gradient
        vector = isinstance(gradient, tf.IndexedSlices) and gradient.indices.shape.rank == 1
        if vector and rows and (lazy or math.prod(shape) >= LARGE_TABLE):
            return summed_rows(gradient, shape[0])
        return dense(gradient, shape)

    def values(self, gradient: Any) -> Any:
        """Returns the elements of a gradient."""
        return gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient

    def with_values(self, gradient: Any, values: Any) -> Any:
        """Returns a gradient with other elements."""
        if isinstance(gradient, tf.IndexedSlices):
            return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
        return values

    def after(self, gradients: Sequence[Any]) -> AbstractContextManager[Any]:
        """A context whose operations wait for the gradients, even if they do not use them."""
        if tf.executing_eagerly():
            return nullcontext()
        parts = tf.nest.flatten(gradients, expand_composites=True)
        # By way of one operation, which keeps no gradient alive until all are there.
        with tf.control_dependencies([x for x in parts if tf.is_tensor(x)]):
            there = tf.no_op()
        waiting: AbstractContextManager[Any] = tf.control_dependencies([there])
        return waiting

    def device_of(self, variable: Any) -> str:
        """Returns the name of the device that a variable is on."""
        return str(native(variable).device)

    def has_rows(self, gradient: Any) -> bool:
        """Whether a gradient has only some rows of its variable."""
        return isinstance(gradient, tf.IndexedSlices)

    def rows_of(self, variable: Any, gradient: Any) -> Any:
        """Returns the rows of a variable that a gradient has, or all of it."""
        if not isinstance(gradient, tf.IndexedSlices):
            return super().rows_of(variable, gradient)
        last = variable.shape[0] - 1  # Free places stand for rows after the last.
        return tf.gather(native(variable), tf.minimum(gradient.indices, last))

    def assign_rows(self, variable: Any, gradient: Any, values: Any) -> None:
        """Sets the rows of a variable that a gradient has, or all of it."""
        if not isinstance(gradient, tf.IndexedSlices):
            super().assign_rows(variable, gradient, values)
            return
        there = gradient.indices < variable.shape[0]
        rows, values = (tf.boolean_mask(x, there) for x in (gradient.indices, values))
        handle = native(variable).handle
        tf.raw_ops.ResourceScatterUpdate(resource=handle, indices=rows, updates=values)

    # Replicas and compiled steps

    def unconverted(self, method: Method) -> Method:
        """Returns a method that AutoGraph leaves as it is."""
        kept: Method = tf.autograph.experimental.do_not_convert(method)
        return kept

    def lifted(self) -> AbstractContextManager[Any]:
        """A context outside of the function that is being traced."""
        scope: AbstractContextManager[Any] = tf.init_scope()
        return scope

    def can_lift(self) -> bool:
        """Whether variables can be set at once here: not by one of several replicas."""
        return super().can_lift() and not self.several_replicas()

    def several_replicas(self) -> bool:
        """Whether the code runs for one replica of a distribution strategy that has more."""
        replica = tf.distribute.get_replica_context()
        return replica is not None and replica.num_replicas_in_sync > 1

    def summed_over_replicas(self, gradients: list[Any]) -> list[Any]:
        """Returns the sums of the replicas' gradients; None stays None."""
        there = [g for g in gradients if g is not None]
        if not there or not self.several_replicas():
            return gradients
        replica = tf.distribute.get_replica_context()
        sums = iter(replica.all_reduce(tf.distribute.ReduceOp.SUM, there))
        return [None if g is None else next(sums) for g in gradients]

    def check_in_replica(self, built: bool) -> None:
        """Raises where an optimizer cannot apply gradients."""
        if not (built or tf.executing_eagerly()) and self.several_replicas():
            raise ValueError(
                "An optimizer that is not built cannot make its variables within a compiled step "
                "of several replicas. Build it before, in the strategy's scope: "
                "optimizer.build(model.trainable_variables)."
            )
        if tf.distribute.in_cross_replica_context():
            raise ValueError(
                "Gradients were to be applied in the scope of a tf.distribute strategy, but "
                "outside of its replicas, where they are not summed. Call optimizer.apply within "
                "the function that strategy.run is given."
            )

    def check_scope(self, strategy: Any, variables: Iterable[Any]) -> None:
        """Raises unless all variables were made in the scope of a strategy."""
        for variable in variables:
            if not strategy.extended.variable_created_in_scope(native(variable)):
                raise ValueError(
                    f"The variable {variable.path} and the optimizer "
                    "are not of the same tf.distribute strategy. Received: an optimizer of "
                    f"{type(strategy).__name__}. Make the model, compile it and make its optimizer "
                    "in the scope of one strategy: with strategy.scope(): ..."
                )

    def beside(self, variable: Any) -> AbstractContextManager[Any]:
        """A context in which variables are made on the devices of another one."""
        extended = tf.distribute.get_strategy().extended
        scope: AbstractContextManager[Any] = extended.colocate_vars_with(native(variable))
        return scope

    def in_checkpoints(
        self, write: Callable[[], dict[str, Any]], read: Callable[[Any], None]
    ) -> Any:
        """Returns a note of the state's names, which TensorFlow's checkpoints will hold."""
        return NamesInCheckpoint(write, read)


def native(variable: Any) -> Any:
    """Returns TensorFlow's own variable."""
    return variable.value if isinstance(variable, keras.Variable) else variable


def _read(variable: tf.Variable) -> Any:
    """Returns an array of what a variable holds, where nothing is compiled."""
    return tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype).numpy()


class NamesInCheckpoint(tf.train.experimental.PythonState):
    """A note of the state's names in a `tf.train.Checkpoint`, which knows positions only.

    TensorFlow reads such notes before it restores the first variable.
    """

    def __init__(self, write: Callable[[], dict[str, Any]], read: Callable[[Any], None]) -> None:
        """Takes what returns the note, and what compares one with the state."""
        self._write, self._read = write, read

    def serialize(self) -> bytes:
        """Returns the note as bytes; none within a graph, such as that of a SavedModel.

        The variables cannot be read there. TensorFlow asks again, outside of the graph, for what it
        writes beside the values of the variables.
        """
        if not tf.executing_eagerly():
            return b""
        file = io.BytesIO()
        np.savez(file, **self._write())
        return file.getvalue()

    def deserialize(self, string_value: bytes) -> None:
        """Compares what `serialize` returned with the state; raises ValueError on a misfit."""
        if not string_value:
            return
        with np.load(io.BytesIO(string_value), allow_pickle=False) as note:
            self._read(note)


BACKEND = TensorFlow()
