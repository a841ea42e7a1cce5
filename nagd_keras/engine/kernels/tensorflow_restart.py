"""Restarts on TensorFlow: what they are decided by, and how to begin anew."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.ops import control_flow_util

from nagd_keras.backends.tensorflow import native
from nagd_keras.engine.step import Restart, Step
from nagd_keras.rules.nesterov import bounded, iterate
from nagd_keras.rules.restart import SPEED, factors
from nagd_keras.tensors import real_parts


def sum_of_squares(x: Any) -> Any:
    """Returns the sum of the squares of a tensor's elements, without a tensor of the squares."""
    return 2 * tf.nn.l2_loss(x)


def parts(scheme: str, step: Step, s: tf.Variable) -> Any:
    """Returns a tensor whose sum is a restart scheme's inner product, after the update."""
    dtype, g = step.coefficients.step.dtype, step.gradient
    s_next = _read(s)
    if scheme == SPEED:
        return sum_of_squares(real_parts(tf.cast(s_next, dtype)))
    if isinstance(g, tf.IndexedSlices):
        # Some of its rows may be after the last, with zeros.
        s_next = tf.gather(s_next, tf.minimum(g.indices, s.shape[0] - 1))
        g = g.values
    g = bounded(tf.cast(g, dtype), step.coefficients.bound)
    a, b = factors(scheme, g, tf.cast(s_next, dtype))
    return a * b


def decided(steps: Sequence[Step], lazy: bool, restart: Restart, products: Sequence[Any]) -> Any:
    """Returns whether to restart, and if so takes back what an update has just added.

    With `lazy`, the rows that did not take part in the update stay where they are.
    """
    restarts = restart.decide(products)
    rows = lazy and any(isinstance(step.gradient, tf.IndexedSlices) for step in steps)
    if _is_compiled() and not rows:
        _begin_anew_in_a_loop(restarts, steps, restart.others)
    else:
        keras.ops.cond(restarts, lambda: _begin_anew(steps, lazy, restart.others), lambda: None)
    return restarts


def _begin_anew(steps: Sequence[Step], lazy: bool, others: Sequence[Any]) -> None:
    """Takes from variables the displacements that were added, and makes all of these zero."""
    for step in steps:
        w, s, g = native(step.variable), native(step.displacement), step.gradient
        if lazy and isinstance(g, tf.IndexedSlices):
            rows = tf.boolean_mask(g.indices, g.indices < w.shape[0])
            taken = tf.cast(tf.gather(_read(s), rows), w.dtype)
            tf.raw_ops.ResourceScatterSub(resource=w.handle, indices=rows, updates=taken)
        else:
            _write(w, _theta(_read(w), _read(s), step))
    for s in (*(native(step.displacement) for step in steps), *map(native, others)):
        _write(s, tf.zeros(s.shape, s.dtype))


def _begin_anew_in_a_loop(restarts: Any, steps: Sequence[Step], others: Sequence[Any]) -> None:
    """Does as `_begin_anew` in a loop of one turn or none.

    For a condition XLA copies all variables, whatever comes of it, and that takes several times as
    long as the update. For a loop it copies none.
    """
    variables = [native(step.variable) for step in steps]
    displacements = [native(step.displacement) for step in steps]
    displacements += map(native, others)

    def turn(_: Any, ws: list[Any], ss: list[Any]) -> tuple[Any, list[Any], list[Any]]:
        thetas = [_theta(w, s, step) for w, s, step in zip(ws, ss, steps, strict=False)]
        return tf.constant(False), thetas, [tf.zeros_like(s) for s in ss]

    start = restarts, [_read(w) for w in variables], [_read(s) for s in displacements]
    _, ws, ss = tf.while_loop(lambda again, *_: again, turn, start)
    for variable, value in zip([*variables, *displacements], [*ws, *ss], strict=True):
        _write(variable, value)


def _theta(w: Any, s: Any, step: Step) -> Any:
    wide = step.coefficients.step.dtype
    return tf.cast(iterate(tf.cast(w, wide), tf.cast(s, wide)), w.dtype)


def _read(variable: tf.Variable) -> Any:
    return tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype)


def _write(variable: tf.Variable, value: Any) -> None:
    tf.raw_ops.AssignVariableOp(resource=variable.handle, value=value)


def _is_compiled() -> bool:
    """Whether XLA compiles the step around. Nothing public says so while it is traced."""
    graph = tf.compat.v1.get_default_graph()
    return not tf.executing_eagerly() and control_flow_util.GraphOrParentsInXlaContext(graph)
