"""Each way to execute an update on TensorFlow makes the update, and each is taken where it pays."""

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("the kernels of TensorFlow", allow_module_level=True)

import tensorflow as tf

from nagd_keras import NAGD
from nagd_keras.engine.kernels import tensorflow as kernels
from nagd_keras.engine.kernels import tensorflow_chunks as chunks
from nagd_keras.engine.kernels.tensorflow import Way, way_for
from tests.reference.settings import updated
from tests.support.drivers import DRIVERS, Run, to_float64
from tests.support.tolerances import TRAJECTORY, UNIT, assert_close
from tests.support.ways import only

SHAPES = [(6, 4), (8,), ()]
SETTINGS = [
    {},
    {"weight_decay": 0.125},
    {"clipnorm": 0.5},
    {"clipvalue": 0.25},
    {"global_clipnorm": 1.0, "weight_decay": 0.125},
]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Pieces for variables of a few elements; and no function that was compiled for others."""
    monkeypatch.setattr(chunks, "LARGEST", 8)
    monkeypatch.setattr(chunks, "SMALLEST", 3)
    monkeypatch.setattr(chunks, "OPTIMAL", True)  # As fast or not, right it is on all versions.
    for cached in (chunks.piece_size, kernels._compiled):
        cached.cache_clear()
    yield
    for cached in (chunks.piece_size, kernels._compiled):
        cached.cache_clear()


@pytest.fixture
def ways(monkeypatch):
    """The ways that were taken while this test ran."""
    taken = []

    def noted(*arguments):
        taken.append(way_for(*arguments))
        return taken[-1]

    monkeypatch.setattr(kernels, "way_for", noted)
    return taken


def arrays(rng, shapes=SHAPES):
    return [np.asarray(rng.normal(size=shape)) for shape in shapes]


@pytest.mark.keep(6)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("way", Way)
@pytest.mark.parametrize(
    ("driver", "dtype"), [*((driver, "float32") for driver in DRIVERS), ("graph", "float64")]
)
def test_every_way_makes_every_step(rng, driver, dtype, way, settings):
    keras.config.set_floatx(dtype)
    factors = (1.0, 0.5, 1.0)
    with only(way) as taken:
        optimizer = NAGD(0.25, 0.5, learning_rate_multipliers={"x1": 0.5}, **settings)
        run = Run(optimizer, arrays(rng), dtype, driver)
        for momentum in (0.5, 0.875, 0.875, 0.0, 0.875):
            optimizer.momentum = momentum
            ws, ss = run.look_ahead, displacements(optimizer)
            gradients = [to_float64(keras.ops.cast(g, dtype)) for g in arrays(rng)]
            run.step(gradients)
            wanted = updated(ws, ss, gradients, 0.25, momentum, factors=factors, **settings)
            found = run.look_ahead, displacements(optimizer)
            for ones, others in zip(found, wanted, strict=True):
                for i, (one, other) in enumerate(zip(ones, others, strict=True)):
                    # Some roundings of what is added up.
                    size = np.abs(ws[i]) + np.abs(ss[i]) + np.abs(gradients[i])
                    assert np.all(np.abs(one - other) <= 4 * UNIT[dtype] * size)
    assert way in taken


def displacements(optimizer):
    return [to_float64(s) for s in optimizer.displacements]


@pytest.mark.keep(4)
@pytest.mark.parametrize("way", [Way.FORMULA, Way.COMPILED, Way.CHUNKED])
@pytest.mark.parametrize("slot_dtype", ["float32", "float64", "bfloat16", "float16"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("driver", DRIVERS)
def test_other_dtypes_are_rounded_once(rng, driver, dtype, slot_dtype, way):
    eps, m = 2.0**-4, 1 - 2.0**-6
    with only(way):
        optimizer = NAGD(eps, m, slot_dtype=slot_dtype)
        run = Run(optimizer, [rng.normal(size=24)], dtype, driver)
        assert optimizer.displacements[0].dtype == slot_dtype
        for _ in range(5):
            w, s = run.look_ahead[0], to_float64(optimizer.displacements[0])
            g = to_float64(keras.ops.cast(rng.normal(size=24), dtype))
            run.step([g])
            (w_next,), (s_next,) = updated([w], [s], [g], eps, m)
            sums = 8 * UNIT["float32"] * (np.abs(w) + np.abs(s) + np.abs(g))
            for found, exact, unit in [
                (run.look_ahead[0], w_next, UNIT[dtype]),
                (to_float64(optimizer.displacements[0]), s_next, UNIT[slot_dtype]),
            ]:
                assert np.all(np.abs(found - exact) <= unit * np.abs(exact) + sums)


def variable(shape, dtype="float32"):
    return tf.Variable(tf.zeros(shape, dtype))


@pytest.mark.parametrize(
    ("threads", "shape", "dtypes", "way"),
    [
        (8, (kernels.LARGE - 1,), ("float32",) * 3, Way.TRAINING_OPS),
        (8, (kernels.LARGE,), ("float32",) * 3, Way.COMPILED),
        (2, (kernels.LARGE,), ("float32",) * 3, Way.COMPILED),
        (1, (kernels.LARGE,), ("float32",) * 3, Way.CHUNKED),
        (1, (2**22 + 15,), ("float32",) * 3, Way.COMPILED),  # a prime: no pieces
        (2, (), ("float32",) * 3, Way.TRAINING_OPS),
        (2, (0, 3), ("float32",) * 3, Way.TRAINING_OPS),
        (2, (4,), ("float64",) * 3, Way.TRAINING_OPS),
        (2, (4,), ("bfloat16",) * 3, Way.FORMULA),
        (2, (4,), ("float16",) * 3, Way.FORMULA),
        (2, (4,), ("float32", "bfloat16", "float32"), Way.FORMULA),
        (2, (4,), ("float32", "float32", "float64"), Way.FORMULA),
        (8, (kernels.LARGE,), ("float32", "bfloat16", "float32"), Way.COMPILED),
    ],
    ids=str,
)
def test_the_way_that_is_taken(monkeypatch, threads, shape, dtypes, way):
    monkeypatch.undo()  # of the small pieces
    monkeypatch.setattr(chunks, "OPTIMAL", True)
    monkeypatch.setattr(kernels, "_threads", lambda: threads)
    w, s, g = (variable(shape, dtype) for dtype in dtypes)
    assert way_for(w, s, tf.convert_to_tensor(g)) is way


def test_where_there_is_no_xla(monkeypatch, rng):
    monkeypatch.setattr(kernels, "_compiles", lambda: False)
    monkeypatch.setattr(kernels, "LARGE", 4)
    w, s = variable((8,)), variable((8,))
    assert way_for(w, s, tf.zeros(8)) is Way.TRAINING_OPS
    rows = tf.IndexedSlices(tf.zeros((1, 2)), tf.constant([0]))
    assert way_for(variable((4, 2)), variable((4, 2)), rows) is Way.FORMULA


def test_it_is_asked_once_whether_there_is_xla():
    kernels._has_xla.cache_clear()
    assert [kernels._compiles() for _ in range(2)] == [True, True]
    assert kernels._has_xla.cache_info().misses == 1


@pytest.mark.keep(1)
@pytest.mark.parametrize("threads", [1, 8])
def test_a_large_variable_in_fit(monkeypatch, ways, threads):
    """The ways for large variables, with nothing forced but the size."""
    monkeypatch.setattr(kernels, "_threads", lambda: threads)
    monkeypatch.setattr(kernels, "LARGE", 24)
    x, y = np.random.default_rng(0).normal(size=(2, 16, 6))
    found = []
    for optimizer in (NAGD(0.25, 0.875), keras.optimizers.SGD(0.25, 0.875, nesterov=True)):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((6,)), *map(keras.layers.Dense, (8, 6))])
        model.compile(optimizer=optimizer, loss="mse")
        model.fit(x, y, batch_size=4, epochs=3, shuffle=False, verbose=0)
        found.append([to_float64(v) for v in model.trainable_variables])
    for a, b in zip(*found, strict=True):
        assert_close(a, b, TRAJECTORY["float32"])
    assert set(ways) == {Way.CHUNKED if threads == 1 else Way.COMPILED, Way.TRAINING_OPS}


def test_no_warning_of_many_traces(rng):
    """One function for all shapes would be traced too often for TensorFlow's taste."""
    shapes = [(n, 3) for n in range(1, 12)]
    with only(Way.COMPILED):
        run = Run(NAGD(), arrays(rng, shapes), "float32")
        for _ in range(2):
            run.step(arrays(rng, shapes))


@pytest.mark.parametrize("way", Way)
def test_the_gradient_stays(rng, way):
    w = keras.Variable(rng.normal(size=24))
    g = tf.constant(rng.normal(size=24), "float32")
    before = g.numpy().copy()
    with only(way):
        NAGD(0.5, clipvalue=0.125).apply([g], [w])
    np.testing.assert_array_equal(g.numpy(), before)


@pytest.mark.parametrize("way", [Way.COMPILED, Way.CHUNKED])
def test_nothing_is_copied(monkeypatch, way):
    """XLA aliases the two variables with its results: a compiled way needs no memory of its own."""
    monkeypatch.setattr(chunks, "LARGEST", 2**10)
    optimal = tf.__version__ >= "2.21"
    shape = (2**14,)
    w, s, g = variable(shape), variable(shape), tf.ones(shape)
    function = kernels._compiled(*[tf.float32] * 3, False, shape, way)
    m = tf.constant(0.5)
    arguments = {"w": w.handle, "s": s.handle, "g": g, "momentum": m, "step": m, "carried": m}
    hlo = function.experimental_get_compiler_ir(**arguments)(stage="optimized_hlo")
    assert hlo.count("may-alias") + hlo.count("must-alias") >= 2
    copies = [line for line in hlo.splitlines() if " copy(" in line and "= f32[16384]" in line]
    if way is Way.COMPILED or optimal:
        assert not copies


@pytest.mark.parametrize(("jit", "kind"), [(True, "While"), (False, "If")])
def test_a_restart_is_a_loop_only_where_xla_compiles_the_step(jit, kind):
    """For a condition it copies all variables; without XLA a loop would read and write them."""
    x = keras.Variable(np.ones((6, 4)))
    optimizer = NAGD(restart="gradient")
    optimizer.build([x])
    step = tf.function(lambda g: optimizer.apply([g], [x]), jit_compile=jit, autograph=False)
    graph = step.get_concrete_function(tf.TensorSpec((6, 4))).graph
    found = {operation.type.removeprefix("Stateless") for operation in graph.get_operations()}
    assert found & {"While", "If"} == {kind}
