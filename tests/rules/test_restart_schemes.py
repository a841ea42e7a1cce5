"""Restarts that the optimizer decides about itself, over all variables, within an update."""

import keras
import numpy as np
import pytest

from nagd_keras import NAGD, convert, schedules
from nagd_keras.rules.restart import SCHEMES
from tests.reference.restart import restarted
from tests.reference.settings import clipped, updated
from tests.support.drivers import DRIVERS, LONG_RUNS, Run, assert_identical, snapshot, to_float64
from tests.support.problems import random_quadratic
from tests.support.tolerances import TRAJECTORY, UNIT, assert_close
from tests.support.training import fit, network

BACKEND = keras.backend.backend()
if BACKEND == "tensorflow":
    import tensorflow as tf

    from nagd_keras.engine.kernels import tensorflow as kernels
    from nagd_keras.engine.kernels import tensorflow_chunks as chunks
    from nagd_keras.engine.kernels.tensorflow import Way
    from tests.support.ways import only

    WAYS = list(Way)
else:
    WAYS = []
on_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="of TensorFlow's kernels")
SHAPES = [(6, 4), (8,), ()]
SETTINGS = [
    {},
    {"weight_decay": 0.125},
    {"clipnorm": 0.5},
    {"clipvalue": 0.25},
    {"global_clipnorm": 1.0, "weight_decay": 0.125},
    {"learning_rate_multipliers": {"x1": 0.5, "x2": 0.0}},
]


def split(x):
    return [x[:8], x[8:10].reshape(1, 2), x[10]]


def join(xs):
    return np.concatenate([np.ravel(x) for x in xs])


@pytest.mark.keep(1)
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("momentum", ["nesterov", "constant"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_step_is_the_textbooks(rng, float64, scheme, momentum, dtype, driver):
    steps = 60  # Further on, float32 has nothing left of the gradient but rounding.
    problem, start = random_quadratic(rng, 11, 30.0), rng.normal(size=11)
    rule = schedules.NesterovMomentum() if momentum == "nesterov" else 0.95
    mu = [0.95] * (steps + 2)
    if momentum == "nesterov":
        mu = [to_float64(rule(t)).item() for t in range(steps + 2)]
    run = Run(NAGD(1.0, rule, restart=scheme), split(start), dtype, driver)
    start = join(run.look_ahead)
    points = restarted(problem.gradient, start, mu, [1.0] * steps, scheme)
    assert points[-1].restarts >= 1
    for t, point in enumerate(points):
        found = join(run.look_ahead)
        assert_close(found, point.look_ahead, TRAJECTORY[dtype], f"look-ahead {t}")
        assert_close(join(run.iterate), point.iterate, TRAJECTORY[dtype], f"iterate {t}")
        assert int(run.optimizer.age) == point.age
        assert int(run.optimizer.restarts) == point.restarts
        assert int(run.optimizer.iterations) == t
        if t < steps:
            run.step(split(problem.gradient(found)))


def check_steps(run, rng, settings, scheme, steps=24, unit=UNIT["float32"]):
    """Holds every step to the formulas from the state before it; returns the restarts."""
    optimizer, speed, age, restarts = run.optimizer, np.nan, 0, 0
    settings = dict(settings)
    multipliers = settings.pop("learning_rate_multipliers", {})
    factors = [multipliers.get(f"x{i}", 1.0) for i in range(len(SHAPES))]
    norms = {k: v for k, v in settings.items() if k != "weight_decay"}
    slope = [rng.normal(size=s) for s in SHAPES]
    for t in range(steps):
        ws, ss = run.look_ahead, [to_float64(s) for s in optimizer.displacements]
        # The slope turns, so that a displacement that was made on it leads uphill.
        sign = np.sign(np.sin(0.5 * t + 0.1))
        turned = (sign * g + 0.1 * rng.normal(size=g.shape) for g in slope)
        gs = [to_float64(keras.ops.cast(g, run.dtype)) for g in turned]
        run.step(gs)
        ws, ss = updated(ws, ss, gs, 0.25, 0.875, factors=factors, **settings)
        if scheme == "gradient":
            parts = [np.sum(g * s) for g, s in zip(clipped(gs, **norms), ss, strict=True)]
            restart = sum(parts) > 0
        else:
            before, speed = speed, np.linalg.norm(join(ss)) / 0.875
            restart = speed < before and age >= 9
        if restart:
            ws, ss = [w - s for w, s in zip(ws, ss, strict=True)], [0 * s for s in ss]
        age, restarts = (0, restarts + 1) if restart else (age + 1, restarts)
        assert int(optimizer.age) == age, f"step {t}"
        assert int(optimizer.restarts) == restarts
        found = run.look_ahead, [to_float64(s) for s in optimizer.displacements]
        for ones, others in zip(found, (ws, ss), strict=True):
            for one, other in zip(ones, others, strict=True):
                np.testing.assert_allclose(one, other, rtol=0, atol=32 * unit)
    return restarts


@pytest.mark.keep(3)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_gradient_that_counts_is_the_one_of_the_update(rng, scheme, driver, settings):
    optimizer = NAGD(0.25, 0.875, restart=scheme, **settings)
    run = Run(optimizer, [rng.normal(size=s) for s in SHAPES], "float32", driver)
    assert 1 <= check_steps(run, rng, settings, scheme) < 23


@pytest.mark.keep(3)
@on_tensorflow
@pytest.mark.parametrize("settings", SETTINGS[:4], ids=str)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_way_of_tensorflow_decides(rng, monkeypatch, scheme, way, settings):
    monkeypatch.setattr(chunks, "LARGEST", 8)
    monkeypatch.setattr(chunks, "SMALLEST", 3)
    monkeypatch.setattr(chunks, "OPTIMAL", True)
    monkeypatch.setattr(chunks, "PARTS", 2)
    for cached in (chunks.piece_size, kernels._compiled):
        cached.cache_clear()
    with only(way):
        optimizer = NAGD(0.25, 0.875, restart=scheme, **settings)
        run = Run(optimizer, [rng.normal(size=s) for s in SHAPES], "float32", "graph")
        assert 1 <= check_steps(run, rng, settings, scheme) < 23
    for cached in (chunks.piece_size, kernels._compiled):
        cached.cache_clear()


@pytest.mark.keep(1)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_sixteen_bits(rng, scheme, dtype):
    """What is decided may differ from the exact arithmetic's only where that is nearly even."""
    run = Run(NAGD(0.25, 0.875, restart=scheme), [rng.normal(size=s) for s in SHAPES], dtype)
    assert 1 <= check_steps(run, rng, {}, scheme, unit=UNIT[dtype]) < 23


@pytest.mark.keep(1)
@pytest.mark.parametrize("driver", DRIVERS)
def test_accumulated_gradients_decide_on_their_mean(rng, driver):
    """With 2 batches an update, whose gradients differ by noise that cancels."""
    one, two = (
        Run(
            NAGD(1.0, 0.95, restart="gradient", gradient_accumulation_steps=steps),
            [np.ones(6)],
            "float32",
            driver,
        )
        for steps in (None, 2)
    )
    problem = random_quadratic(rng, 6)
    for _ in range(60):
        g = problem.gradient(one.look_ahead[0])
        noise = 4.0 * rng.normal(size=6)
        one.step([g])
        two.step([g + noise])
        two.step([g - noise])
        assert int(one.optimizer.restarts) == int(two.optimizer.restarts)
        assert_close(two.look_ahead[0], one.look_ahead[0], 8 * TRAJECTORY["float32"])
    assert int(one.optimizer.restarts) >= 1


@pytest.mark.parametrize("scheme", SCHEMES)
def test_without_momentum_nothing_restarts(rng, scheme):
    run = Run(NAGD(0.1, 0.0, restart=scheme), [np.ones(3)], "float32")
    for _ in range(30):
        run.step([rng.normal(size=3)])
    assert int(run.optimizer.restarts) == 0
    assert int(run.optimizer.age) == 30


@pytest.mark.parametrize("scheme", SCHEMES)
def test_variables_that_have_no_part_in_the_update_restart_with_it(scheme):
    a, b = keras.Variable([1.0]), keras.Variable([2.0])
    optimizer = NAGD(0.25, 0.875, restart=scheme)
    one = np.ones(1, "float32")
    for _ in range(12):
        optimizer.apply([one, one], [a, b])
    assert to_float64(optimizer.displacements[1])[0] < 0
    before = to_float64(b)
    optimizer.apply([-one], [a])
    assert int(optimizer.restarts) == 1
    assert_identical(snapshot(list(optimizer.displacements)), [np.zeros(1), np.zeros(1)])
    np.testing.assert_array_equal(to_float64(b), before)


@pytest.mark.keep(1)
@on_tensorflow
@pytest.mark.parametrize("driver", ["eager", "graph"])
@pytest.mark.parametrize("lazy", [True, False])
@pytest.mark.parametrize("way", WAYS[:1] + WAYS[2:3])
def test_rows(driver, lazy, way):
    """A restart drops the displacements of all rows; those that a lazy update left alone stay."""
    w, s, restarts = np.zeros((5, 2)), np.zeros((5, 2)), 0
    table = keras.Variable(w, dtype="float32")
    kind = "lazy" if lazy else "dense"
    optimizer = NAGD(0.5, 0.5, restart="gradient", sparse_updates=kind)
    optimizer.build([table])

    def step(ids, values):
        optimizer.apply([tf.IndexedSlices(values, ids, tf.constant([5, 2]))])

    made = step if driver == "eager" else tf.function(step, autograph=False, reduce_retracing=True)
    for ids, value in [([0, 1], 1.0), ([1, 3, 1], -4.0), ([1, 3], 1.0), ([0, 4], -1.0), ([2], 0.5)]:
        g = np.zeros((5, 2))
        np.add.at(g, ids, value)
        with only(way):
            made(tf.constant(ids), tf.fill([len(ids), 2], value))
        moving = np.isin(np.arange(5), ids) if lazy else np.full(5, True)
        s[moving] = 0.5 * (s - 0.5 * g)[moving]
        w[moving] += (s - 0.5 * g)[moving]
        if np.sum(g * s) > 0:
            w[moving] -= s[moving]
            s[:], restarts = 0, restarts + 1
        np.testing.assert_array_equal(to_float64(optimizer.displacements[0]), s)
        np.testing.assert_array_equal(to_float64(table), w)
        assert int(optimizer.restarts) == restarts
    assert restarts == 1


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_training_with_fit(scheme):
    """The same losses however Keras runs the steps, and the restarts are counted."""
    runs = {}
    ways = {"eager": {"run_eagerly": True, "jit_compile": False}, "graph": {"jit_compile": False}}
    if BACKEND != "torch":  # where Keras' own compiled steps warn
        ways["compiled"] = {"jit_compile": True}
    for name, settings in ways.items():
        model = network(NAGD(0.05, 0.97, restart=scheme), **settings)
        runs[name] = fit(model, epochs=12).history["loss"]
        assert int(model.optimizer.restarts) >= 1
        assert int(model.optimizer.age) < 72
    for losses in runs.values():
        np.testing.assert_allclose(losses, runs["eager"], rtol=1e-3)


@pytest.mark.keep(1)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_run_goes_on_after_loading_as_if_nothing_had_happened(tmp_path, scheme):
    def start():
        return network(NAGD(0.05, 0.97, restart=scheme))

    def train(model, epochs, begin=0):
        fit(model, epochs=epochs, initial_epoch=begin)

    whole, half = start(), start()
    train(whole, 16)
    train(half, 9)
    half.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.optimizer.restart == scheme
    train(again, 16, 9)
    assert int(whole.optimizer.restarts) >= 1
    assert_identical(snapshot(again, again.optimizer), snapshot(whole, whole.optimizer))


def test_a_trace_serves_all_steps(rng):
    traces = []

    @keras.saving.register_keras_serializable(package="nagd_keras_tests", name="traced")
    class Traced(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            traces.append(1)
            return keras.ops.cast(0.875, "float32")

        def get_config(self):
            return {}

    optimizer = NAGD(0.25, Traced(), restart="gradient", skip_nonfinite=True)
    run = Run(optimizer, [rng.normal(size=3)], "float32", LONG_RUNS)
    run.step([np.ones(3)])
    made = len(traces)
    for value in (1.0, -0.125, np.nan, 1.0):
        run.step([value * np.ones(3)])
    assert int(optimizer.restarts) == 1
    assert int(optimizer.skipped_updates) == 1
    if LONG_RUNS != "eager":
        assert len(traces) == made


@pytest.mark.parametrize("settings", [{}, {"restart": "gradient"}])
def test_what_is_not_used_is_not_there(settings):
    """No variable more than without: nothing to save, and nothing that a step hands over."""
    optimizer = NAGD(**settings)
    assert len(optimizer.variables) == len(NAGD().variables)
    assert optimizer.skipped_updates == 0
    assert not optimizer.skip_nonfinite


@pytest.mark.long
def test_a_state_is_loaded_with_the_scheme_changed(tmp_path):
    """Numbers that only a setting needs are left out, or begin."""
    kinds = [{}, {"restart": "speed"}, {"restart": "gradient", "skip_nonfinite": True}]
    for i, before in enumerate(kinds):
        model = network(NAGD(0.05, **before))
        fit(model)
        model.save_weights(tmp_path / f"{i}.weights.h5")
        for after in kinds:
            other = network(NAGD(0.05, **after))
            other.optimizer.build(other.trainable_variables)
            other.load_weights(tmp_path / f"{i}.weights.h5")
            assert int(other.optimizer.age) == int(model.optimizer.age)
            slots = [list(m.optimizer.displacements) for m in (model, other)]
            assert_identical(snapshot(slots[0]), snapshot(slots[1]))
            if after == {"restart": "speed"} != before:
                assert float(other.optimizer._state.scalars["velocity_norm"]) == 0
            fit(other)


@pytest.mark.long
def test_a_scheme_is_given_to_an_optimizer_that_has_trained():
    model = network(NAGD(0.05))
    fit(model)
    changed = convert.from_nagd(model.optimizer, model.trainable_variables, restart="speed")
    assert changed.restart == "speed"
    assert int(changed.age) == int(model.optimizer.age)


@pytest.mark.parametrize("given", ["function", "Gradient", "", 1, True, ["gradient"]])
def test_an_unknown_scheme(given):
    with pytest.raises(ValueError, match=r"must be one of 'gradient', 'speed', None. Received"):
        NAGD(restart=given)


def test_the_speed_of_a_lazy_table_is_not_known():
    if BACKEND != "tensorflow":
        pytest.skip("lazy updates are TensorFlow's")
    with pytest.raises(ValueError, match="Received: sparse_updates='lazy' and restart='speed'"):
        NAGD(restart="speed", sparse_updates="lazy")
