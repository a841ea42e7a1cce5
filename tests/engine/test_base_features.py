"""What Keras' base optimizer offers, and what becomes of unusual variables and gradients."""

import keras
import numpy as np
import pytest

from nagd_keras import NAGD
from tests.support.drivers import DRIVERS, Run, assert_identical, snapshot, to_float64
from tests.support.limits import needs
from tests.support.tolerances import TRAJECTORY, assert_close

BACKEND = keras.backend.backend()


def variable(value, name="x", **settings):
    return keras.Variable(np.asarray(value, "float32"), name=name, **settings)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_constraint_holds_after_every_update(rng, driver):
    run = Run(NAGD(0.5), [rng.normal(size=(4, 3))], "float32", driver)
    run.variables[0].constraint = keras.constraints.NonNeg()
    for _ in range(5):
        run.step([rng.normal(size=(4, 3))])
        assert np.all(run.look_ahead[0] >= 0)
        assert np.any(run.look_ahead[0] == 0)


def test_a_variable_without_a_gradient_stays_with_its_slot():
    a, b = variable([1.0, 2.0], "a"), variable([3.0], "b")
    optimizer = NAGD(0.1)
    optimizer.apply([[1.0, 1.0], [1.0]], [a, b])
    b_before, slot_before = to_float64(b), to_float64(optimizer.displacements[1])
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        optimizer.apply([np.ones(2, "float32"), None], [a, b])
    np.testing.assert_array_equal(to_float64(b), b_before)
    np.testing.assert_array_equal(to_float64(optimizer.displacements[1]), slot_before)
    assert int(optimizer.age) == 2


def test_some_of_the_variables_can_be_updated():
    a, b = variable([1.0, 2.0], "a"), variable([3.0], "b")
    optimizer = NAGD(0.1)
    optimizer.build([a, b])
    optimizer.apply([np.ones(1, "float32")], [b])
    np.testing.assert_array_equal(to_float64(a), [1.0, 2.0])
    assert_close(to_float64(b), [3.0 - 0.1 * 1.9], TRAJECTORY["float32"])


def test_frozen_layers_stay(rng):
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, name="frozen"), keras.layers.Dense(1)]
    )
    x, y = rng.normal(size=(8, 3)), rng.normal(size=(8, 1))
    frozen = model.get_layer("frozen")
    frozen.trainable = False
    before = snapshot(frozen)
    model.compile(optimizer=NAGD(0.1), loss="mse")
    model.fit(x, y, verbose=0)
    assert len(model.optimizer.displacements) == 2
    assert_identical(snapshot(frozen), before)


@needs("frozen after it was built")
def test_layers_that_are_frozen_later(rng):
    """The optimizer goes on with the variables that are left."""
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, name="frozen"), keras.layers.Dense(1)]
    )
    x, y = rng.normal(size=(8, 3)), rng.normal(size=(8, 1))
    frozen = model.get_layer("frozen")
    model.compile(optimizer=NAGD(0.1), loss="mse")
    model.fit(x, y, verbose=0)
    optimizer = model.optimizer
    frozen.trainable = False
    model.compile(optimizer=optimizer, loss="mse")
    before = snapshot(frozen)
    model.fit(x, y, verbose=0)
    assert_identical(snapshot(frozen), before)
    assert int(optimizer.age) == 2


@pytest.mark.parametrize("accumulation", [None, 2])
def test_overwrite_with_gradient(accumulation):
    """Keras' float8 layers pass new values as the "gradients" of such variables."""
    a, scale = variable([1.0], "a"), variable([5.0], "scale")
    scale.overwrite_with_gradient = True
    optimizer = NAGD(0.1, weight_decay=0.5, gradient_accumulation_steps=accumulation)
    optimizer.build([scale, a])
    assert optimizer.displacements[0] is None
    for _ in range(accumulation or 1):
        optimizer.apply([np.array([7.0], "float32"), np.ones(1, "float32")], [scale, a])
    np.testing.assert_array_equal(to_float64(scale), [7.0])
    assert_close(to_float64(a), [1.0 - 0.1 * 0.5 - 0.1 * 1.9], TRAJECTORY["float32"])
    optimizer.reset_momentum()


@pytest.mark.parametrize("by", ["var_list", "var_names"])
def test_exclude_from_weight_decay(by):
    kernel, bias = variable([1.0], "kernel"), variable([1.0], "bias")
    optimizer = NAGD(0.5, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(**{by: [bias] if by == "var_list" else ["bias"]})
    optimizer.apply([np.zeros(1, "float32"), np.zeros(1, "float32")], [kernel, bias])
    np.testing.assert_array_equal(to_float64(kernel), [0.75])
    np.testing.assert_array_equal(to_float64(bias), [1.0])
    # The decay never enters the displacement.
    np.testing.assert_array_equal(to_float64(optimizer.displacements[0]), [0.0])


def test_ema_is_written_into_the_model_at_the_end_of_fit(rng):
    x, y = rng.normal(size=(16, 3)), rng.normal(size=(16, 1))
    weights = {}
    for optimizer in (
        NAGD(0.1, 0.875, use_ema=True, ema_momentum=0.5),
        keras.optimizers.SGD(0.1, 0.875, nesterov=True, use_ema=True, ema_momentum=0.5),
    ):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile(optimizer=optimizer, loss="mse")
        model.fit(x, y, batch_size=4, epochs=3, shuffle=False, verbose=0)
        weights[type(optimizer).__name__] = to_float64(model.trainable_variables[0])
        averages = optimizer._model_variables_moving_average
        np.testing.assert_array_equal(weights[type(optimizer).__name__], to_float64(averages[0]))
    assert_close(weights["NAGD"], weights["SGD"], TRAJECTORY["float32"])


@pytest.mark.keep(7)
@pytest.mark.skipif(BACKEND != "tensorflow", reason="IndexedSlices are TensorFlow's")
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"clipnorm": 0.5},
        {"global_clipnorm": 0.5},
        {"clipvalue": 0.25},
        {"gradient_accumulation_steps": 2},
        {"loss_scale_factor": 2.0},
        {"weight_decay": 0.1, "use_ema": True},
    ],
    ids=str,
)
def test_an_embeddings_gradient_is_as_exact_as_a_dense_one(rng, settings, driver):
    """Rows that were not looked up keep moving, and a row looked up twice counts twice."""
    import tensorflow as tf

    table = rng.normal(size=(6, 2)).astype("float32")
    rows, values = np.array([4, 1, 4]), rng.normal(size=(3, 2)).astype("float32")
    full = np.zeros_like(table)
    np.add.at(full, rows, values)
    sparse = Run(NAGD(0.1, **settings), [table], "float32")
    dense = Run(NAGD(0.1, **settings), [table], "float32", driver)
    step = sparse.optimizer.apply
    if driver != "eager":
        step = tf.function(step, jit_compile=driver == "xla")
    for _ in range(4):
        step([tf.IndexedSlices(tf.constant(values), tf.constant(rows), tf.constant([6, 2]))])
        dense.step([full])
        assert_close(sparse.look_ahead[0], dense.look_ahead[0], TRAJECTORY["float32"])
    assert np.all(sparse.look_ahead[0][[1, 4]] != table[[1, 4]])


def test_an_embedding_layer_trains_as_with_keras_sgd(rng):
    ids, y = rng.integers(0, 10, size=(16, 3)), rng.normal(size=(16, 1))
    found = {}
    for optimizer in (NAGD(0.1, 0.875), keras.optimizers.SGD(0.1, 0.875, nesterov=True)):
        keras.utils.set_random_seed(0)
        layers = keras.layers
        model = keras.Sequential(
            [keras.Input((3,)), layers.Embedding(10, 4), layers.Flatten(), layers.Dense(1)]
        )
        model.compile(optimizer=optimizer, loss="mse")
        model.fit(ids, y, batch_size=4, epochs=5, shuffle=False, verbose=0)
        found[type(optimizer)] = snapshot(model)
    # All weights as one: the bias, a small number, has the rounding of the far larger outputs. To
    # round the first weights otherwise moves it by up to 22 roundings of its own.
    a, b = (np.concatenate([np.ravel(w) for w in each]) for each in found.values())
    assert_close(a, b, TRAJECTORY["float32"])


def test_build_a_second_time_changes_nothing():
    x = variable([1.0])
    optimizer = NAGD()
    optimizer.apply([np.ones(1, "float32")], [x])
    before = snapshot(optimizer)
    optimizer.build([x])
    assert_identical(snapshot(optimizer), before)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="SparseTensor is TensorFlow's")
def test_a_sparse_tensor_is_made_dense():
    import tensorflow as tf

    x = variable(np.ones((2, 2)))
    NAGD(1.0, 0.0).apply([tf.sparse.from_dense([[0.0, 1.0], [0.0, 0.0]])], [x])
    np.testing.assert_array_equal(to_float64(x), [[1.0, 0.0], [1.0, 1.0]])


def test_update_step_takes_a_learning_rate_as_keras_documents_it():
    x, y = variable([1.0]), variable([1.0])
    alone, whole = NAGD(0.5, 0.5, weight_decay=0.25), NAGD(0.5, 0.5, weight_decay=0.25)
    alone.build([x])
    gradient = keras.ops.ones(1)
    # On TensorFlow Keras hands the native variable over; elsewhere its own.
    alone.update_step(gradient, x.value if BACKEND == "tensorflow" else x, 0.5)
    whole.apply([gradient], [y])
    np.testing.assert_array_equal(to_float64(x), to_float64(y))
    assert int(alone.age) == 0


def test_displacements_are_a_list_of_ones_own():
    optimizer = NAGD()
    optimizer.build([variable([1.0])])
    optimizer.displacements.clear()
    assert len(optimizer.displacements) == 1


def test_reset_momentum_clears_what_is_not_finite():
    x = variable([1.0])
    optimizer = NAGD()
    optimizer.apply([np.array([np.nan], "float32")], [x])
    optimizer.reset_momentum()
    np.testing.assert_array_equal(to_float64(optimizer.displacements[0]), [0.0])


def test_gradients_and_variables_may_be_iterators():
    variables = [variable([1.0], "a"), variable([1.0], "b")]
    optimizer = NAGD(0.5, 0.0)
    for _ in range(2):
        gradients = (np.ones(1, "float32") for _ in range(2))
        optimizer.apply(gradients, iter(variables))
    optimizer.apply_gradients(zip([np.ones(1, "float32")] * 2, variables, strict=True))
    for x in variables:
        np.testing.assert_array_equal(to_float64(x), [-0.5])


def test_a_gradient_may_be_finer_than_its_variable():
    """It is rounded with the result, not before."""
    x = keras.Variable([1.0], dtype="bfloat16")
    optimizer = NAGD(1.0, 0.0)
    fine = keras.ops.convert_to_tensor([1 + 2.0**-9], "float32")  # 1 in bfloat16
    optimizer.apply([fine], [x])
    np.testing.assert_array_equal(to_float64(x), [-(2.0**-9)])


def test_no_gradients_at_all_are_no_update():
    optimizer = NAGD()
    optimizer.build([variable([1.0])])
    optimizer.apply([])
    assert int(optimizer.iterations) == int(optimizer.age) == 0


@pytest.mark.skipif(BACKEND == "tensorflow", reason="Keras has no stateless updates there")
def test_a_stateless_scope_keeps_the_variables(rng):
    """Also where another than `stateless_apply` has opened it."""
    x = variable(rng.normal(size=8))
    optimizer = NAGD(0.5)
    optimizer.build([x])
    before = snapshot([x], optimizer)
    with keras.StatelessScope() as scope:
        optimizer.apply([keras.ops.ones(8)])
    assert_identical(snapshot([x], optimizer), before)
    changed = to_float64(scope.get_current_value(x))
    assert_close(changed, before[0] - 0.5 * 1.9, TRAJECTORY["float32"])
