"""Gradients that have some rows only: exact with "dense", and "lazy" moves these rows alone."""

import re

import keras
import numpy as np
import pytest

from nagd_keras import NAGD, directions
from tests.reference.settings import updated
from tests.support.drivers import DRIVERS, Run, assert_identical, snapshot, to_float64
from tests.support.tolerances import TRAJECTORY, UNIT, assert_close

BACKEND = keras.backend.backend()
if BACKEND == "tensorflow":
    import tensorflow as tf

    from nagd_keras.engine.kernels.tensorflow import Way
    from tests.support.ways import only

    WAYS = [Way.FORMULA, Way.COMPILED]
else:
    WAYS = []
on_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="IndexedSlices are TensorFlow's")
ROWS, WIDTH = 7, 3


def rows_of(rng, ids, dtype="int64"):
    """The gradient that has values in some rows, and the same as an array."""
    values = rng.normal(size=(len(ids), WIDTH)).astype("float32")
    full = np.zeros((ROWS, WIDTH))
    np.add.at(full, list(ids), values)
    gradient = tf.IndexedSlices(
        tf.constant(values), tf.constant(ids, dtype), tf.constant([ROWS, WIDTH])
    )
    return gradient, full


def stepper(optimizer, driver):
    if driver == "eager":
        return optimizer.apply
    return tf.function(optimizer.apply, jit_compile=driver == "xla", reduce_retracing=True)


@pytest.mark.keep(7)
@on_tensorflow
@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"weight_decay": 0.25},
        {"clipnorm": 0.5},
        {"global_clipnorm": 0.5, "weight_decay": 0.25},
        {"clipvalue": 0.25},
        {"loss_scale_factor": 4.0},
    ],
    ids=str,
)
def test_every_step_is_the_references(rng, settings, driver, way, lazy):
    if driver == "xla" and way is WAYS[0]:
        pytest.skip("on a CPU only a compiled function passes over rows that are not there")
    kind = "lazy" if lazy else "dense"
    optimizer = NAGD(0.25, 0.875, sparse_updates=kind, **settings)
    scale = settings.get("loss_scale_factor", 1.0)
    rule = {name: x for name, x in settings.items() if name != "loss_scale_factor"}
    with only(way):
        run = Run(optimizer, [rng.normal(size=(ROWS, WIDTH))], "float32")
        step = stepper(optimizer, driver)
        for ids in ([5, 0, 5, 3], [1, 1, 1, 1], [6, 5, 0, 2], [3], []):
            (w,), s = run.look_ahead, to_float64(optimizer.displacements[0])
            gradient, full = rows_of(rng, ids)
            step([gradient])
            (w_next,), (s_next,) = updated([w], [s], [full / scale], 0.25, 0.875, **rule)
            found_w, found_s = run.look_ahead[0], to_float64(optimizer.displacements[0])
            if lazy:
                others = [i for i in range(ROWS) if i not in ids]
                w_next[others], s_next[others] = w[others], s[others]
                np.testing.assert_array_equal(found_w[others], w[others])
                np.testing.assert_array_equal(found_s[others], s[others])
            size = np.abs(w) + np.abs(s) + np.abs(full)
            assert np.all(np.abs(found_w - w_next) <= 4 * UNIT["float32"] * size)
            assert np.all(np.abs(found_s - s_next) <= 4 * UNIT["float32"] * size)
    assert int(optimizer.age) == 5


@on_tensorflow
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_ids_of_either_kind(rng, dtype):
    gradient, full = rows_of(rng, [2, 2, 4], dtype)
    w = keras.Variable(np.zeros((ROWS, WIDTH), "float32"))
    NAGD(1.0, 0.0, sparse_updates="lazy").apply([gradient], [w])
    assert_close(to_float64(w), -full, TRAJECTORY["float32"])


def recommender(optimizer, **compile_settings):
    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            layers.Embedding(20, 4),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    model.compile(optimizer=optimizer, loss="mse", **compile_settings)
    return model


def batches(rng, n=22):
    return rng.integers(0, 10, size=(n, 3)), rng.normal(size=(n, 1)).astype("float32")


@pytest.mark.keep(1)
@on_tensorflow
@pytest.mark.parametrize("how", [{}, {"jit_compile": True}, {"run_eagerly": True}], ids=str)
def test_lazy_in_fit(rng, how):
    """The last batch is a smaller one; ids from 10 on never come."""
    x, y = batches(rng)
    model = recommender(NAGD(0.1, sparse_updates="lazy", weight_decay=0.1), **how)
    before = to_float64(model.layers[0].embeddings)
    model.fit(x, y, batch_size=8, epochs=3, verbose=0)
    after = to_float64(model.layers[0].embeddings)
    np.testing.assert_array_equal(after[10:], before[10:])
    assert np.all(after[np.unique(x)] != before[np.unique(x)])


@on_tensorflow
@pytest.mark.parametrize("compiled", [False, True])
def test_a_lazy_adaptive_step_is_that_of_the_rows(compiled, rng):
    """Of a table of those rows alone, whatever the others; these keep all that they have."""
    rows = np.array([7, 2, 9])
    start = rng.normal(size=(12, 3)).astype("float32")
    settings = {"learning_rate": 0.1, "direction": "adaptive", "global_clipnorm": 2.0}
    lazy, dense = NAGD(**settings, sparse_updates="lazy"), NAGD(**settings)
    table, small = keras.Variable(start), keras.Variable(start[rows])
    for optimizer, variable in ((lazy, table), (dense, small)):
        optimizer.build([variable])

    def apply(values):
        twice = tf.concat([values / 2, values / 2], 0)  # Rows that are looked up twice.
        slices = tf.IndexedSlices(twice, tf.constant(np.tile(rows, 2)), tf.constant([12, 3]))
        lazy.apply([slices], [table])

    apply = tf.function(apply) if compiled else apply
    for _ in range(6):
        values = tf.constant(rng.normal(size=(3, 3)).astype("float32"))
        apply(values)
        dense.apply([values], [small])
        assert_close(to_float64(table)[rows], to_float64(small), TRAJECTORY["float32"])
    others = np.setdiff1d(np.arange(12), rows)
    np.testing.assert_array_equal(to_float64(table)[others], start[others])
    for kind in ("mean_square", "displacement"):
        one, two = (to_float64(o._state.slots[kind][0]) for o in (lazy, dense))
        assert_close(one[rows], two, TRAJECTORY["float32"])
        assert not one[others].any()


@on_tensorflow
def test_lazy_equals_dense_where_all_rows_are_looked_up(rng):
    x, y = rng.integers(0, 20, size=(64, 3)), rng.normal(size=(64, 1))
    x[:8, :] = np.resize(np.arange(20), (8, 3))
    x = np.resize(x[:8], (64, 3))
    found = []
    for kind in ("lazy", "dense"):
        model = recommender(NAGD(0.1, sparse_updates=kind))
        model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        found.append(snapshot(model))
    for a, b in zip(*found, strict=True):
        assert_close(a, b, TRAJECTORY["float32"])


@pytest.mark.long
@on_tensorflow
def test_lazy_in_mixed_precision(rng):
    keras.config.set_dtype_policy("mixed_float16")
    x, y = batches(rng)
    model = recommender(NAGD(0.1, sparse_updates="lazy"))
    before = to_float64(model.layers[0].embeddings)
    model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    after = to_float64(model.layers[0].embeddings)
    assert int(model.optimizer.inner_optimizer.age) == 6
    np.testing.assert_array_equal(after[10:], before[10:])
    assert np.all(np.isfinite(after))
    assert np.any(after != before)


@on_tensorflow
def test_lazy_is_saved_and_goes_on_to_the_bit(rng, tmp_path):
    x, y = batches(rng)
    model = recommender(NAGD(0.1, sparse_updates="lazy", slot_dtype="bfloat16"))
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    config = loaded.optimizer.get_config()
    assert (config["sparse_updates"], config["slot_dtype"]) == ("lazy", "bfloat16")
    for each in (model, loaded):
        each.fit(x, y, shuffle=False, verbose=0)
    assert_identical(snapshot(loaded, loaded.optimizer), snapshot(model, model.optimizer))


@pytest.mark.long
@on_tensorflow
@pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly")
def test_lazy_where_functions_run_eagerly(rng):
    x, y = batches(rng)
    found = []
    for eagerly in (False, True):
        model = recommender(NAGD(0.1, sparse_updates="lazy"))
        tf.config.run_functions_eagerly(eagerly)
        try:
            model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
        finally:
            tf.config.run_functions_eagerly(False)
        found.append(snapshot(model))
    for a, b in zip(*found, strict=True):
        assert_close(a, b, TRAJECTORY["float32"])


@on_tensorflow
@pytest.mark.parametrize("kind", ["lazy", "dense"])
@pytest.mark.parametrize("driver", ["eager", "graph"])
def test_update_step_takes_rows(rng, kind, driver):
    gradient, full = rows_of(rng, [2, 2, 4])
    w = keras.Variable(np.zeros((ROWS, WIDTH), "float32"))
    optimizer = NAGD(1.0, 0.0, sparse_updates=kind)
    optimizer.build([w])
    step = optimizer.update_step if driver == "eager" else tf.function(optimizer.update_step)
    step(gradient, w.value, 1.0)
    assert_close(to_float64(w), -full, TRAJECTORY["float32"])


@on_tensorflow
@pytest.mark.parametrize("kind", ["lazy", "dense"])
def test_rows_of_another_width(kind):
    w = keras.Variable(np.zeros((ROWS, WIDTH), "float32"))
    gradient = tf.IndexedSlices(tf.ones((2, 1)), tf.constant([0, 1]), tf.constant([ROWS, WIDTH]))
    with pytest.raises(ValueError, match=r"a gradient of shape \(7, 1\) for the variable"):
        NAGD(sparse_updates=kind).apply([gradient], [w])
    assert not np.any(to_float64(w))


@on_tensorflow
def test_the_norm_of_rows(rng):
    gradient, full = rows_of(rng, [2, 2, 4])
    optimizer = NAGD(0.1)
    optimizer.tracks_gradient_norm = True
    optimizer.apply([gradient], [keras.Variable(np.zeros((ROWS, WIDTH), "float32"))])
    assert float(optimizer.gradient_norm) == pytest.approx(np.linalg.norm(full), rel=1e-6)


@pytest.mark.parametrize("value", ["sparse", "Lazy", None, 1, True])
def test_an_unknown_kind(value):
    with pytest.raises(ValueError, match=r"must be one of 'dense', 'lazy'\. Received: sparse_upd"):
        NAGD(sparse_updates=value)


@on_tensorflow
def test_lazy_and_accumulation():
    with pytest.raises(ValueError, match="Received: sparse_updates='lazy' and gradient_accum"):
        NAGD(sparse_updates="lazy", gradient_accumulation_steps=2)


@on_tensorflow
def test_lazy_rows_of_a_matrix(rng):
    """What the error says to exclude is the variable, whatever is in its path."""
    gradient, _ = rows_of(rng, [2, 4])
    w = keras.Variable(np.zeros((ROWS, WIDTH), "float32"), name="a+b (1)")
    with pytest.raises(ValueError, match="updates some rows of 'a\\+b") as raised:
        NAGD(direction="orthogonal", sparse_updates="lazy").apply([gradient], [w])
    said = re.search(r"Orthogonal\((exclude=.*)\);", str(raised.value))[1]
    direction = eval(f"Orthogonal({said})", {"Orthogonal": directions.Orthogonal})
    NAGD(direction=direction, sparse_updates="lazy").apply([gradient], [w])


@pytest.mark.skipif(BACKEND == "tensorflow", reason="there it can be done")
def test_lazy_where_gradients_have_no_rows():
    with pytest.raises(ValueError, match=f"On Keras' {BACKEND} backend"):
        NAGD(sparse_updates="lazy")


@pytest.mark.parametrize("value", ["int32", "float8", "half", 16, True, "string"])
def test_a_slot_dtype_that_is_none(value):
    with pytest.raises(ValueError, match=r"`slot_dtype` must be one of .*Received: slot_dtype="):
        NAGD(slot_dtype=value)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_slot_of_16_bits_takes_half_the_memory(rng, driver):
    optimizer = NAGD(0.25, 0.5, slot_dtype="bfloat16")
    run = Run(optimizer, [rng.normal(size=(4, 2))], "float32", driver)
    run.step([rng.normal(size=(4, 2))])
    slot = optimizer.displacements[0]
    assert keras.backend.standardize_dtype(slot.dtype) == "bfloat16"
    assert optimizer.swap_to_iterate() is None
    optimizer.swap_to_lookahead()
    optimizer.reset_momentum()
    assert not np.any(to_float64(slot))


@pytest.mark.skipif(BACKEND != "torch", reason="PyTorch's sparse tensors")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"clipnorm": 0.5, "weight_decay": 0.25},
        {"global_clipnorm": 0.5},
        {"gradient_accumulation_steps": 2},
        {"restart": "gradient", "skip_nonfinite": True},
        {"loss_scale_factor": 4.0, "use_ema": True},
    ],
    ids=str,
)
def test_sparse_gradients_of_pytorch(rng, settings):
    """The same bits as the gradient of an embedding that is not `sparse`."""
    import torch

    optimizer, other = NAGD(0.25, **settings), NAGD(0.25, **settings)
    start = [rng.normal(size=(ROWS, WIDTH)), rng.normal(size=(2,))]
    found, wanted = Run(optimizer, start, "float32"), Run(other, start, "float32")
    for ids in ([5, 0, 5, 3], [1, 1], [6, 5, 0, 2], []):
        values = torch.tensor(rng.normal(size=(len(ids), WIDTH)), dtype=torch.float32)
        gradient = torch.sparse_coo_tensor(
            torch.tensor([ids]).long(), values, (ROWS, WIDTH), check_invariants=True
        )
        before = gradient.to_dense().clone()
        optimizer.apply([gradient, torch.ones(2)], found.variables)
        other.apply([before, torch.ones(2)], wanted.variables)
        assert torch.equal(gradient.to_dense(), before)
    assert_identical(snapshot(found.variables, optimizer), snapshot(wanted.variables, other))
    optimizer.update_step(gradient, found.variables[0], 0.5)  # which takes them, too


@pytest.mark.skipif(BACKEND != "torch", reason="PyTorch's sparse tensors")
def test_a_sparse_embedding_of_pytorch_is_fitted():
    import torch

    def fitted(optimizer):
        torch.manual_seed(0)
        words = keras.Input((3,), dtype="int64")
        table = keras.layers.TorchModuleWrapper(
            torch.nn.Embedding(ROWS, WIDTH, sparse=True), output_shape=(None, 3, WIDTH)
        )
        model = keras.Model(words, keras.layers.Flatten()(table(words)))
        model.compile(optimizer=optimizer, loss="mse")
        x = np.arange(12).reshape(4, 3) % 5
        model.fit(x, np.ones((4, 9)), epochs=3, batch_size=2, shuffle=False, verbose=0)
        return snapshot(model)

    sgd = keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True)
    for found, wanted in zip(fitted(NAGD(0.1)), fitted(sgd), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
