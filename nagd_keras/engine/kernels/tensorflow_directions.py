"""Updates along a direction on TensorFlow: a group of variables in one compiled function."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import tensorflow as tf

from nagd_keras.backends.tensorflow import native
from nagd_keras.directions.direction import Direction
from nagd_keras.engine.groups import same_shapes
from nagd_keras.engine.kernels import tensorflow_chunks as chunks
from nagd_keras.engine.step import Step
from nagd_keras.rules.nesterov import Coefficients, nesterov_update

# From this number of elements on, to compile the few operations of an elementwise direction pays.
FUSED = 2**14
# From this number of elements on, to go piece by piece pays.
PIECES = 2**19


def compiled_move(
    plain: Any,
    direction: Direction,
    variables: Sequence[Any],
    dtype: str,
    one_thread: bool,
    can: Callable[[], bool],
) -> Any:
    """Returns what makes the updates of variables: compiled where that is faster, else as `plain`.

    Args:
        plain: the formula's `move_for` of the same.
        direction: see there.
        variables: see there.
        dtype: see there.
        one_thread: whether there is one thread only, so that a large variable goes in pieces.
        can: says whether XLA compiles when a step is traced.
    """
    size = sum(native(variable).shape.num_elements() or 0 for variable in variables)
    # Each array that is handed over costs, so of small variables it does not pay.
    large = direction.elementwise and len(variables) == 1 and size >= FUSED
    if not (direction.compiled or large):
        return plain
    pieces = large and same_shapes(direction, variables[0])
    pieces = pieces and one_thread and size >= PIECES and chunks.can(size)

    # One function a group: TensorFlow warns of a function that it traces for many shapes.
    @partial(tf.function, jit_compile=True, autograph=False, reduce_retracing=True)
    def compiled(gs: Any, ws: Any, ss: Any, slots: Any, t: Any, coefficients: Any) -> None:
        c = Coefficients(**coefficients)
        before = [{name: _read(h, dtype) for name, h in each.items()} for each in slots]
        pairs = [(_read(w, dtype), _read(s, dtype)) for w, s in zip(ws, ss, strict=True)]
        if pieces:
            after: list[Any] = [chunks.update_along(direction, *pairs[0], gs[0], before[0], t, c)]
        else:
            found, kept = direction.direct_all(gs, before, t)
            after = [
                (*nesterov_update(w, s, d, c), new)
                for (w, s), d, new in zip(pairs, found, kept, strict=True)
            ]
        for w, s, own, (w_next, s_next, new) in zip(ws, ss, slots, after, strict=True):
            for handle, value in ((s, s_next), (w, w_next), *((own[x], new[x]) for x in own)):
                tf.raw_ops.AssignVariableOp(resource=handle, value=tf.cast(value, dtype))

    def move(steps: Sequence[Step], slots: Sequence[Mapping[str, Any]], t: Any, lazy: bool) -> None:
        used = [x for step in steps for x in (step.variable, step.displacement)]
        used += [slot for each in slots for slot in each.values()]
        alike = all(native(x).dtype == dtype for x in used)
        rows = any(isinstance(step.gradient, tf.IndexedSlices) for step in steps)
        if rows or not alike or tf.config.functions_run_eagerly() or not can():
            plain(steps, slots, t, lazy)
            return
        with tf.device(native(steps[0].variable).device):
            compiled(
                [step.gradient for step in steps],
                [native(step.variable).handle for step in steps],
                [native(step.displacement).handle for step in steps],
                [{name: native(slot).handle for name, slot in each.items()} for each in slots],
                tf.cast(t, dtype),
                {k: x for k, x in steps[0].coefficients._asdict().items() if x is not None},
            )

    return move


def _read(handle: Any, dtype: str) -> Any:
    return tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype)
