"""Gradients of embeddings on TensorFlow: rows that a batch names twice, summed."""

from typing import Any

import tensorflow as tf

# Up to this number of rows, to look in a table of all costs less than to sort those of a batch.
SMALL_TABLE = 2**17


def summed_rows(gradient: tf.IndexedSlices, rows: int) -> tf.IndexedSlices:
    """Returns a gradient in which no row stands twice: its values there are summed.

    It has the next power of two of places, so that XLA, which compiles for each number of them,
    does so a few times only. Those that are free hold zeros, for rows after the last.
    """
    ids, values = gradient.indices, gradient.values
    n = tf.size(ids) if ids.shape[0] is None else ids.shape[0]
    if rows <= SMALL_TABLE:
        place = _first_places(ids, n, rows)
    else:
        order = tf.argsort(ids, stable=True)
        ids, values = tf.gather(ids, order), tf.gather(values, order)
        place = _places_in_order(ids)
    places = next_power_of_two(n)
    sums = tf.math.unsorted_segment_sum(values, place, places)
    kept = tf.math.unsorted_segment_max(ids, place, places)  # of nothing, the least of integers
    free = tf.cast(rows + tf.range(places), ids.dtype)
    return tf.IndexedSlices(sums, tf.where(kept >= 0, kept, free))


def _first_places(ids: Any, n: Any, rows: int) -> Any:
    """Returns for each row where it stands first."""
    rows_in_all = tf.cast(rows, ids.dtype)
    beyond = tf.where((ids < 0) | (ids > rows_in_all), rows_in_all, ids)
    return tf.gather(tf.math.unsorted_segment_min(tf.range(n), beyond, rows + 1), beyond)


def _places_in_order(ids: Any) -> Any:
    """Returns for each row, of sorted ones, its number among those that differ."""
    new = tf.concat([tf.zeros_like(ids[:1], tf.int32), tf.cast(ids[1:] != ids[:-1], tf.int32)], 0)
    return tf.cumsum(new)


def next_power_of_two(n: Any) -> Any:
    """Returns the least power of two that is at least n, a number or a tensor."""
    if isinstance(n, int):
        return 1 << max(0, n - 1).bit_length()
    below = tf.maximum(n, 1) - 1
    for shift in (1, 2, 4, 8, 16):  # All bits below the highest become ones.
        below = tf.bitwise.bitwise_or(below, tf.bitwise.right_shift(below, shift))
    return below + 1
