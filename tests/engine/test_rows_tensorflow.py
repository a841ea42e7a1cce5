"""Rows that a batch of an embedding names twice are summed, in two ways."""

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("only TensorFlow has gradients of rows", allow_module_level=True)

import tensorflow as tf

from nagd_keras.backends import tensorflow_rows as rows

ROWS, WIDTH = 9, 3


def summed(ids, values):
    """What it comes to, row by row."""
    found = np.zeros((ROWS, WIDTH), "float32")
    for i, value in zip(ids, values, strict=True):
        if i < ROWS:
            found[i] += value
    return found


@pytest.mark.keep(12)
@pytest.mark.parametrize("small", [0, ROWS], ids=["sorted", "looked up in a table of all"])
@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("static", [True, False], ids=["known length", "unknown length"])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("n", [0, 1, 5, 8, 40])
def test_each_row_stands_once(rng, monkeypatch, n, dtype, static, jit, small):
    if jit and not static:
        pytest.skip("XLA needs the length")
    monkeypatch.setattr(rows, "SMALL_TABLE", small)
    ids = rng.integers(ROWS + 2, size=n).astype(dtype)  # Two are after the last row.
    values = rng.normal(size=(n, WIDTH)).astype("float32")

    def step(ids, values):
        found = rows.summed_rows(tf.IndexedSlices(values, ids), ROWS)
        return found.indices, found.values

    length = n if static else None
    spec = [tf.TensorSpec((length,), dtype), tf.TensorSpec((length, WIDTH), "float32")]
    compiled = tf.function(step, input_signature=spec, jit_compile=jit, autograph=False)
    found_ids, found = (x.numpy() for x in compiled(ids, values))
    assert len(found_ids) == len(found) == rows.next_power_of_two(n)
    there = found_ids < ROWS
    assert sorted(found_ids[there]) == sorted({i for i in ids if i < ROWS})
    # The same bits: those of a row are added in the order of the batch.
    np.testing.assert_array_equal(summed(found_ids[there], found[there]), summed(ids, values))


def test_few_numbers_of_places():
    """So that XLA compiles a few times, not for each number of ids."""
    wanted = [1, 1, 2, 4, 4, 8, 8, 8, 8, 16]
    assert [rows.next_power_of_two(n) for n in range(10)] == wanted
    assert [int(rows.next_power_of_two(tf.constant(n))) for n in range(10)] == wanted
    assert int(rows.next_power_of_two(tf.constant(2**20 + 1))) == 2**21
