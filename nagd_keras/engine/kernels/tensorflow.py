"""Nesterov's update on TensorFlow, in the way that costs least for the variable at hand.

Where Keras compiles the whole training step, as on a GPU, any way is fused into it. On a CPU it
does not: there each operation is a pass over memory of its own, and has to be paid for even where
there is next to nothing to pass over.
"""

import enum
import os
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context

from nagd_keras.backends.tensorflow import native
from nagd_keras.directions.direction import Direction
from nagd_keras.engine.kernels import formula
from nagd_keras.engine.kernels import tensorflow_chunks as chunks
from nagd_keras.engine.kernels.formula import direct_for
from nagd_keras.engine.kernels.tensorflow_directions import compiled_move
from nagd_keras.engine.kernels.tensorflow_restart import decided, sum_of_squares
from nagd_keras.engine.kernels.tensorflow_restart import parts as restart_parts
from nagd_keras.engine.step import Restart, Step
from nagd_keras.rules.nesterov import Coefficients, nesterov_update
from nagd_keras.rules.restart import weighted

# From this number of elements on a pass over memory costs more than to call a compiled function.
LARGE = 2**22

__all__ = ["direct_for", "move_for", "sum_of_squares", "update"]


class Way(enum.Enum):
    """A way to execute an update."""

    FORMULA = "TensorFlow's operations, one by one"
    TRAINING_OPS = "TensorFlow's training operations, which write in place"
    COMPILED = "a function that XLA compiles, whatever is around it"
    CHUNKED = "the same, over one piece of the variable after the other"


def way_for(w: tf.Variable, s: tf.Variable, g: Any) -> Way:
    """Returns the way for a variable, its displacement and its gradient, a tensor or rows.

    The one place where this is decided.
    """
    rows, size = isinstance(g, tf.IndexedSlices), w.shape.num_elements() or 0
    # The training operations know one dtype for all, and round 16 bits at every turn.
    ops_can = not rows and w.dtype == s.dtype == g.dtype and w.dtype in (tf.float32, tf.float64)
    compiles = _on_cpu(w) and _compiles() and not tf.config.functions_run_eagerly()
    if (rows or size >= LARGE) and compiles:
        # Pieces are found in the cache the second time, but pass through one thread. Two are
        # faster, or nearly as fast, though they read memory twice. Other dtypes than these would
        # be widened as a whole, before the first piece.
        pieces = ops_can and _threads() == 1 and chunks.can(size)
        return Way.CHUNKED if pieces else Way.COMPILED
    return Way.TRAINING_OPS if ops_can else Way.FORMULA


def move_for(direction: Direction, variables: Sequence[Any], dtype: str) -> Any:
    """Returns what makes the updates of variables; see the formula's `move_for`."""
    plain = formula.move_for(direction, variables, dtype, update)
    if not (_on_cpu(native(variables[0])) and _has_xla()):
        return plain
    one_thread = _threads() == 1
    return compiled_move(plain, direction, variables, dtype, one_thread, can=_compiles)


def update(steps: Sequence[Step], lazy: bool = False, restart: Restart | None = None) -> Any:
    """Makes the update of each variable in place; see the formula's `update`.

    In one of several replicas it is made of the replica's own variables.
    """
    scheme = None if restart is None else restart.scheme
    products = [product for step in steps for product in _update_one(step, lazy, scheme)]
    if restart is None:
        return None
    # A pass of its own to find out before would cost more than to look at what is in the cache, and
    # to undo, once in a long while, what was added.
    return decided(steps, lazy, restart, products)


def _update_one(step: Step, lazy: bool, scheme: str | None) -> list[Any]:
    """Makes one update; returns the restart scheme's inner product, if there is a scheme."""
    w, s = native(step.variable), native(step.displacement)
    way = way_for(w, s, step.gradient)
    parts = None
    if way is Way.TRAINING_OPS:
        _by_training_ops(w.handle, s.handle, step.gradient, step.coefficients)
    else:
        dtypes = w.dtype, s.dtype, step.coefficients.step.dtype
        only_rows = lazy and isinstance(step.gradient, tf.IndexedSlices)
        arguments = {"w": w.handle, "s": s.handle, **_gradient(w, step, way)}
        if way is Way.FORMULA:
            parts = _by_formula(*dtypes, lazy=only_rows, **arguments)
        else:  # One function a shape: TensorFlow warns of a function that it traces for many.
            parts = _compiled(*dtypes, only_rows, tuple(w.shape), way, scheme)(**arguments)
    if scheme is None:
        return []
    parts = restart_parts(scheme, step, s) if parts is None else parts
    return [weighted(scheme, tf.reduce_sum(parts), step.scale)]


def _gradient(w: tf.Variable, step: Step, way: Way) -> dict[str, Any]:
    """Returns the arguments of the formula beside the two variables; a None is left out."""
    arrays = {"g": step.gradient}
    if isinstance(step.gradient, tf.IndexedSlices):
        arrays = {"g": step.gradient.values, "indices": step.gradient.indices}
        if way is Way.FORMULA and _on_cpu(w):  # Only XLA and GPUs pass over what is out of range.
            known = step.gradient.indices < w.shape[0]
            arrays = {name: tf.boolean_mask(x, known) for name, x in arrays.items()}
    arguments = arrays | step.coefficients._asdict()
    return {name: x for name, x in arguments.items() if x is not None}


def _by_training_ops(w: Any, s: Any, g: Any, c: Coefficients) -> None:
    """The update rule in two operations: s <- m s - m eps g and w <- w + s; w <- w - eps g."""
    if c.bound is not None:
        g = tf.clip_by_value(g, -c.bound, c.bound)
    if c.decay is not None:
        with tf.control_dependencies([g]):  # See `after` of the backend.
            value = tf.raw_ops.ReadVariableOp(resource=w, dtype=g.dtype)
            tf.raw_ops.AssignSubVariableOp(resource=w, value=c.decay * value)
    tf.raw_ops.ResourceApplyKerasMomentum(var=w, accum=s, lr=c.carried, grad=g, momentum=c.momentum)
    tf.raw_ops.ResourceApplyGradientDescent(var=w, alpha=c.step, delta=g)


def _by_formula(
    w_dtype: tf.DType,
    s_dtype: tf.DType,
    dtype: tf.DType,
    rule: Any = nesterov_update,
    lazy: bool = False,
    *,
    w: Any,
    s: Any,
    g: Any,
    indices: Any = None,
    **coefficients: Any,
) -> Any:
    """The update rule, computed in a dtype, between reading and assigning the two variables.

    Returns what the rule returns beside their values, or None.
    """
    w_now = tf.raw_ops.ReadVariableOp(resource=w, dtype=w_dtype)
    s_now = tf.raw_ops.ReadVariableOp(resource=s, dtype=s_dtype)
    c = Coefficients(**coefficients)

    def updated(w: Any, s: Any, g: Any, rule: Any = nesterov_update) -> Any:
        w, s, *rest = rule(*(tf.cast(x, dtype) for x in (w, s, g)), c)
        return tf.cast(w, w_dtype), tf.cast(s, s_dtype), *rest

    rest = []
    if indices is None:
        w_next, s_next, *rest = updated(w_now, s_now, g, rule)
    else:
        # Those rows from what they were; the others, unless they stay, without a gradient.
        inside = tf.minimum(indices, tf.shape(w_now, indices.dtype)[0] - 1)
        w_rows, s_rows = updated(tf.gather(w_now, inside), tf.gather(s_now, inside), g)
        if not lazy:
            w_now, s_now = updated(w_now, s_now, tf.zeros((), dtype))
        places = indices[:, tf.newaxis]
        w_next = tf.tensor_scatter_nd_update(w_now, places, w_rows)
        s_next = tf.tensor_scatter_nd_update(s_now, places, s_rows)
    tf.raw_ops.AssignVariableOp(resource=s, value=s_next)
    tf.raw_ops.AssignVariableOp(resource=w, value=w_next)
    return rest[0] if rest else None


@cache
def _compiled(
    w_dtype: tf.DType,
    s_dtype: tf.DType,
    dtype: tf.DType,
    lazy: bool,
    shape: tuple[int, ...],
    way: Way,
    scheme: str | None = None,
) -> Any:
    """Returns the formula as a function that is compiled within any other.

    It returns what a restart scheme needs to know if that costs no pass of its own, or None.
    """
    rule = partial(chunks.update_and_sum, scheme) if way is Way.CHUNKED else nesterov_update

    def nesterov(**arguments: Any) -> Any:
        return _by_formula(w_dtype, s_dtype, dtype, rule, lazy, **arguments)

    return tf.function(nesterov, jit_compile=True, autograph=False, reduce_retracing=True)


def _on_cpu(w: tf.Variable) -> bool:
    return not any(name in w.device.lower() for name in ("gpu", "tpu"))


def _threads() -> int:
    return tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count() or 1


def _compiles() -> bool:
    """Whether XLA compiles here: some builds lack it, and it knows no debugger of numerics."""
    return _has_xla() and not _is_debugged()


@cache
def _has_xla() -> bool:
    try:
        with tf.init_scope(), tf.device("cpu"):
            tf.function(lambda x: x + 1, jit_compile=True, autograph=False)(tf.constant(0.0))
    except tf.errors.OpError:
        return _is_debugged()  # Then it is that which XLA did not know.
    return True


def _is_debugged() -> bool:
    """Whether operations are watched, as `tf.debugging.enable_check_numerics` has it.

    Private names of TensorFlow: nothing public says so, and it can begin after the first step.
    """
    return bool(getattr(context.context(), "op_callbacks", ()))
