"""Nesterov's update on TensorFlow, in the way that costs least for the variable at hand.

Where Keras compiles the whole training step, as on a GPU, any way is fused into it. On a CPU it
does not: there each operation is a pass over memory of its own, and has to be paid for even where
there is next to nothing to pass over.
"""

import enum
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import keras
import tensorflow as tf

from nagd_keras.kernels import tensorflow_chunks as chunks
from nagd_keras.restart import SPEED, factors, weighted
from nagd_keras.step import Step
from nagd_keras.update_rule import Coefficients, bounded, nesterov_update

ONE_BY_ONE = True  # Keras brings each variable to the devices that hold it.
IN_PLACE = True
KNOWS_ROWS = True  # Gradients of embeddings are `tf.IndexedSlices`.

# From this number of elements on a pass over memory costs more than to call a compiled function.
LARGE = 2**22
# From this number on not to make a gradient of an embedding dense saves more than it costs.
LARGE_TABLE = 2**24
# XLA walks through pieces in one thread, but finds each in the cache the second time that it needs
# it. Two threads that have to wait for memory twice are slower than that; more may not be.
FEW_THREADS = 2


class Way(enum.Enum):
    """A way to execute an update."""

    FORMULA = "TensorFlow's operations, one by one"
    TRAINING_OPS = "TensorFlow's training operations, which write in place"
    COMPILED = "a function that XLA compiles, whatever is around it"
    CHUNKED = "the same, over one piece of the variable after the other"


_forced: list[Way] = []


@contextmanager
def only(way: Way) -> Iterator[None]:
    """Within this context every variable takes this way, if it can. For tests."""
    _forced.append(way)
    try:
        yield
    finally:
        _forced.pop()


def way_for(w: tf.Variable, s: tf.Variable, g: Any) -> Way:
    """Returns the way for a variable, its displacement and its gradient, a tensor or rows.

    The one place where this is decided.
    """
    rows, size = isinstance(g, tf.IndexedSlices), w.shape.num_elements() or 0
    # The training operations know one dtype for all, and round 16 bits at every turn.
    ops_can = not rows and w.dtype == s.dtype == g.dtype and w.dtype in (tf.float32, tf.float64)
    if _forced:
        can = {Way.TRAINING_OPS: ops_can, Way.CHUNKED: not rows and chunks.can(size)}.get(
            _forced[-1], True
        )
        return _forced[-1] if can else Way.FORMULA
    compiles = _on_cpu(w) and _compiles() and not tf.config.functions_run_eagerly()
    if (rows or size >= LARGE) and compiles:
        # Other dtypes would be widened as a whole, before the first piece.
        few = ops_can and _threads() <= FEW_THREADS
        return Way.CHUNKED if few and chunks.can(size) else Way.COMPILED
    return Way.TRAINING_OPS if ops_can else Way.FORMULA


def update(steps: Sequence[Step], lazy: bool = False, scheme: str | None = None) -> list[Any]:
    """Makes Nesterov's update of each variable and its displacement, in place.

    Gradients are tensors, or `tf.IndexedSlices` of `summed_rows`. With `lazy`, rows that such a
    gradient does not have stay, and so do their displacements.

    Returns:
        For each variable the restart scheme's inner product, if there is a scheme.
    """
    products = []
    for step in steps:
        w, s = _native(step.variable), _native(step.displacement)
        way = way_for(w, s, step.gradient)
        if way is Way.TRAINING_OPS:
            _by_training_ops(w.handle, s.handle, step.gradient, step.coefficients)
            products += [_restart_product(scheme, step, s)] if scheme else []
            continue
        variables = {"w": w.handle, "s": s.handle}
        dtypes = w.dtype, s.dtype, step.coefficients.step.dtype
        only_rows = lazy and isinstance(step.gradient, tf.IndexedSlices)
        if only_rows:
            _all_rows_back(step, dtypes, variables)
        arguments = {**variables, **_gradient(w, step, way, only_rows)}
        if way in (Way.COMPILED, Way.CHUNKED):
            # One function a shape: TensorFlow warns of a function that it traces for many.
            made = _compiled(*dtypes, only_rows, tuple(w.shape), way, scheme)
            parts = made(**arguments)
        else:
            parts = _by_formula(*dtypes, lazy=only_rows, **arguments)
        if scheme:
            products.append(_restart_product(scheme, step, s, parts))
    return products


def _restart_product(scheme: str, step: Step, s: tf.Variable, parts: Any = None) -> Any:
    """Returns a restart scheme's inner product, behind the update, as the sum of its parts."""
    if parts is None:
        parts = _restart_parts(scheme, step, s)
    return weighted(scheme, tf.reduce_sum(parts), step.scale)


def _restart_parts(scheme: str, step: Step, s: tf.Variable) -> Any:
    dtype, g = step.coefficients.step.dtype, step.gradient
    s_next = tf.raw_ops.ReadVariableOp(resource=s.handle, dtype=s.dtype)
    if scheme == SPEED:
        return sum_of_squares(tf.cast(s_next, dtype))
    if isinstance(g, tf.IndexedSlices):
        # Some of its rows may be behind the last, with zeros.
        s_next = tf.gather(s_next, tf.minimum(g.indices, s.shape[0] - 1))
        g = g.values
    g = bounded(tf.cast(g, dtype), step.coefficients.bound)
    a, b = factors(scheme, g, tf.cast(s_next, dtype))
    return a * b


def restart(steps: Sequence[Step], lazy: bool = False) -> None:
    """Takes from variables the displacements that an update has just added, and makes them zero.

    With `lazy`, the rows that did not take part in the update stay.
    """
    for step in steps:
        w, s, g = _native(step.variable), _native(step.displacement), step.gradient
        s_now = tf.raw_ops.ReadVariableOp(resource=s.handle, dtype=s.dtype)
        if lazy and isinstance(g, tf.IndexedSlices):
            rows = tf.boolean_mask(g.indices, g.indices < w.shape[0])
            taken = tf.gather(s_now, rows)
            w.scatter_sub(tf.IndexedSlices(tf.cast(taken, w.dtype), rows))
        else:
            wide = step.coefficients.step.dtype
            w_now = tf.raw_ops.ReadVariableOp(resource=w.handle, dtype=w.dtype)
            theta = tf.cast(w_now, wide) - tf.cast(s_now, wide)
            tf.raw_ops.AssignVariableOp(resource=w.handle, value=tf.cast(theta, w.dtype))
        tf.raw_ops.AssignVariableOp(resource=s.handle, value=tf.zeros(s.shape, s.dtype))


def _native(variable: Any) -> Any:
    return variable.value if isinstance(variable, keras.Variable) else variable


def _gradient(w: tf.Variable, step: Step, way: Way, only_rows: bool) -> dict[str, Any]:
    """Returns the arguments of the formula beside the two variables; a None is left out."""
    g, coefficients = step.gradient, step.coefficients._asdict()
    arrays = {"g": g}
    if isinstance(g, tf.IndexedSlices):
        indices = g.indices
        if only_rows and step.at_iterate is not False:  # None, where all have just gone back.
            behind = w.shape[0] + tf.range(tf.size(indices, indices.dtype), dtype=indices.dtype)
            indices = tf.where(step.at_iterate, behind, indices)
        arrays = {"g": g.values, "indices": indices}
        if way is Way.FORMULA and _on_cpu(w):  # Only XLA and GPUs pass over what is out of range.
            known = indices < w.shape[0]
            arrays = {name: tf.boolean_mask(x, known) for name, x in arrays.items()}
    return {name: x for name, x in (arrays | coefficients).items() if x is not None}


def _all_rows_back(step: Step, dtypes: tuple[Any, Any, Any], variables: dict[str, Any]) -> None:
    """Brings a variable that holds the iterate back to the look-ahead point.

    A lazy update would bring some rows only. Not within the compiled function, where XLA would
    copy the table for a branch that it hardly ever takes.
    """

    def back() -> None:
        arguments = {**variables, "g": tf.zeros((), dtypes[-1]), **step.coefficients._asdict()}
        _by_formula(*dtypes, **arguments)

    if step.at_iterate is not False:
        tf.cond(step.at_iterate, back, lambda: None)


def _by_training_ops(w: Any, s: Any, g: Any, c: Coefficients) -> None:
    """The update rule in two operations: s <- m s - m eps g and w <- w + s; w <- w - eps g."""
    if c.bound is not None:
        g = tf.clip_by_value(g, -c.bound, c.bound)
    if c.decay is not None:
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
    rule: Any = nesterov_update
    if way is Way.CHUNKED:
        rule = partial(chunks.update_and_sum, scheme) if scheme else chunks.update

    def nesterov(**arguments: Any) -> Any:
        return _by_formula(w_dtype, s_dtype, dtype, rule, lazy, **arguments)

    return tf.function(nesterov, jit_compile=True, autograph=False, reduce_retracing=True)


def _on_cpu(w: tf.Variable) -> bool:
    return not any(name in w.device.lower() for name in ("gpu", "tpu"))


def _threads() -> int:
    return tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count() or 1


@cache
def _compiles() -> bool:
    """Whether this TensorFlow has XLA, which some builds lack."""
    try:
        with tf.init_scope(), tf.device("cpu"):
            tf.function(lambda x: x + 1, jit_compile=True)(tf.constant(0))
    except tf.errors.OpError:
        return False
    return True


def sum_of_squares(x: Any) -> Any:
    """Returns the sum of the squares of a tensor's elements, without a tensor of the squares."""
    return 2 * tf.nn.l2_loss(x)


def is_dense(gradient: Any) -> bool:
    """Whether a gradient is a tensor that can be used as it is."""
    return isinstance(gradient, tf.Tensor)


def is_rows(gradient: Any, shape: tuple[int, ...], lazy: bool) -> bool:
    """Whether a gradient has some rows only, and an update of a variable of this shape gains by it.

    A small table costs less than to look for rows that are there twice.
    """
    rows = isinstance(gradient, tf.IndexedSlices) and gradient.indices.shape.rank == 1
    return rows and (lazy or bool(_forced) or math.prod(shape) >= LARGE_TABLE)


def with_values(rows: tf.IndexedSlices, values: Any) -> tf.IndexedSlices:
    """Returns other values for the same rows."""
    return tf.IndexedSlices(values, rows.indices, rows.dense_shape)


def summed_rows(gradient: tf.IndexedSlices, rows: int) -> tf.IndexedSlices:
    """Returns a gradient in which no row stands twice: its values there are summed.

    It has the next power of two of places, so that XLA, which compiles for each number of them,
    does so a few times only. Those that are free hold zeros, for rows behind the last.
    """
    ids, values = gradient.indices, gradient.values
    order = tf.argsort(ids, stable=True)
    ids = tf.gather(ids, order)
    new = tf.concat([tf.zeros_like(ids[:1], tf.int32), tf.cast(ids[1:] != ids[:-1], tf.int32)], 0)
    place = tf.cumsum(new)  # of each value among those that are left
    places = _next_power_of_two(tf.size(ids) if ids.shape[0] is None else ids.shape[0])
    sums = tf.math.unsorted_segment_sum(tf.gather(values, order), place, places)
    kept = tf.math.unsorted_segment_max(ids, place, places)
    free = tf.cast(rows + tf.range(places), ids.dtype)
    used = tf.range(places) <= tf.reduce_max(place)  # of nothing, the least of integers
    return tf.IndexedSlices(sums, tf.where(used, kept, free))


def _next_power_of_two(n: Any) -> Any:
    if isinstance(n, int):
        return 1 << max(0, n - 1).bit_length()
    below = tf.maximum(n, 1) - 1
    for shift in (1, 2, 4, 8, 16):  # All bits below the highest become ones.
        below = tf.bitwise.bitwise_or(below, tf.bitwise.right_shift(below, shift))
    return below + 1
