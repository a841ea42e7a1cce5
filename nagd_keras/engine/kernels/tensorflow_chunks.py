"""The update rule for XLA on a CPU, which else reads large variables from memory twice.

An update has two results, and XLA on the CPU writes one in a pass. Over pieces that fit the cache
the second pass finds there what the first has read, and 20 bytes an element go over the bus, where
28 did.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import tensorflow as tf

from nagd_keras.rules.nesterov import Coefficients, bounded, next_displacement, next_variable
from nagd_keras.rules.restart import factors

try:
    # A private module of TensorFlow: no public operation writes a piece at a place that is known
    # only when the loop runs, but for those that made XLA copy the whole.
    from tensorflow.compiler.tf2xla.ops import gen_xla_ops as xla
except ImportError:
    xla = None

# The XLA of TensorFlow 2.16 copies the displacement for each piece; that of 2.21 does not. Those
# between were not tried.
OPTIMAL = tuple(map(int, tf.__version__.split(".")[:2])) >= (2, 21)
# Of a piece, in elements: with three arrays in float32 at most 3 MB, and enough to be worth a turn.
LARGEST, SMALLEST = 2**18, 2**16
PARTS = 5  # of a piece that are added up, to write the sums less often


def can(elements: int) -> bool:
    """Whether a variable of so many elements can be updated so, with this TensorFlow."""
    counted = elements < 2**31  # by the integers of the loop
    return OPTIMAL and counted and xla is not None and piece_size(elements) is not None


@cache
def piece_size(elements: int) -> int | None:
    """Returns the size of pieces of which a number of elements has a whole number, if there is one.

    For a rest after the loop XLA would copy everything.
    """
    return next((n for n in range(LARGEST, SMALLEST - 1, -1) if elements % n == 0), None)


def update_and_sum(
    scheme: str | None, w: Any, s: Any, g: Any, c: Coefficients
) -> tuple[Any, Any, Any]:
    """Returns what `nesterov_update` does, and a tensor whose sum is a restart scheme's product.

    All are tensors within a function that XLA compiles; without a scheme the sum says nothing.
    To compute it apart would have to read g and s again, half of what the update reads and writes.
    """
    shape = tf.shape(w)
    w, s, g = (tf.reshape(x, (-1,)) for x in (w, s, g))
    elements = w.shape[0]
    size = piece_size(elements) or elements
    parts = next(n for n in range(PARTS, 0, -1) if size % n == 0) if scheme else 1

    def body(i: Any, w: Any, s: Any, sums: Any) -> tuple[Any, Any, Any, Any]:
        def piece(x: Any, part: int = 0, parts: int = 1) -> Any:
            length = size // parts
            return xla.xla_dynamic_slice(x, [i * size + part * length], [length])

        def put(x: Any, update: Any) -> Any:
            return xla.xla_dynamic_update_slice(x, update, [i * size])

        s = put(s, next_displacement(piece(s), piece(g), c))
        # The piece of s is read back. If its value were used, XLA would compute it a second time,
        # from a copy of all of s.
        w = put(w, next_variable(piece(w), piece(s), piece(g), c))
        if scheme:
            for part in range(parts):
                bounded_g = bounded(piece(g, part, parts), c.bound)
                a, b = factors(scheme, bounded_g, piece(s, part, parts))
                sums += a * b
        return i + 1, w, s, sums

    # Many sums, side by side, as XLA adds up to one sum one element after the other.
    sums = tf.zeros((size // parts,), s.dtype) if scheme else tf.zeros(())
    start = tf.constant(0), w, s, sums
    _, w, s, sums = tf.while_loop(lambda i, *_: i < elements // size, body, start)
    return tf.reshape(w, shape), tf.reshape(s, shape), sums


def update_along(
    direction: Any, w: Any, s: Any, g: Any, slots: Mapping[str, Any], t: Any, c: Coefficients
) -> tuple[Any, Any, dict[str, Any]]:
    """Returns the variable, the displacement and the slots after a step along a direction.

    All are tensors within a function that XLA compiles; the direction is an elementwise one.
    """
    shape = tf.shape(w)
    w, s, g, *kept = (tf.reshape(x, (-1,)) for x in (w, s, g, *slots.values()))
    elements = w.shape[0]
    size = piece_size(elements) or elements

    def body(i: Any, w: Any, s: Any, kept: list[Any], room: Any) -> tuple[Any, ...]:
        def piece(x: Any) -> Any:
            return xla.xla_dynamic_slice(x, [i * size], [size])

        def put(x: Any, update: Any) -> Any:
            return xla.xla_dynamic_update_slice(x, update, [i * size])

        before = dict(zip(slots, map(piece, kept), strict=True))
        d, after = direction.direct(piece(g), before, t)
        # By way of some room of their own: else XLA would compute the direction again for each use,
        # from copies of all slots. The places are known when the loop runs only, as those of `put`.
        zero = tf.minimum(i, 0)
        for n, x in enumerate((d, *(after[name] for name in slots))):
            room = xla.xla_dynamic_update_slice(room, x, [zero + n * size])

        def found(n: int) -> Any:
            return xla.xla_dynamic_slice(room, [zero + n * size], [size])

        kept = [put(x, found(1 + n)) for n, x in enumerate(kept)]
        s = put(s, next_displacement(piece(s), found(0), c))
        w = put(w, next_variable(piece(w), piece(s), found(0), c))
        return i + 1, w, s, kept, room

    room = tf.zeros(((1 + len(slots)) * size,), w.dtype)
    start = tf.constant(0), w, s, kept, room
    _, w, s, kept, _ = tf.while_loop(lambda i, *_: i < elements // size, body, start)
    w, s, *kept = (tf.reshape(x, shape) for x in (w, s, *kept))
    return w, s, dict(zip(slots, kept, strict=True))
