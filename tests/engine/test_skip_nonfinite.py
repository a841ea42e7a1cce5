"""Updates whose gradients hold a NaN or an infinity: with `skip_nonfinite` nothing but counts."""

import keras
import numpy as np
import pytest

from nagd_keras import NAGD
from tests.support.drivers import DRIVERS, Run, assert_identical, snapshot, to_float64
from tests.support.limits import dtypes
from tests.support.tolerances import UNIT
from tests.support.training import BATCH, STEPS, data, fit, nagd, network

BACKEND = keras.backend.backend()
BAD = [np.nan, np.inf, -np.inf]
SHAPES = [(3, 2), (4,), ()]
COUNTERS = {"iteration", "skipped_updates"}
SETTINGS = [
    {},
    {"weight_decay": 0.125},
    {"clipnorm": 0.5},
    {"clipvalue": 0.25},
    {"global_clipnorm": 0.5},
    {"restart": "gradient"},
    {"restart": "speed"},
    {"use_ema": True, "ema_momentum": 0.5},
    {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 2},
    {"loss_scale_factor": 4.0},
    {"slot_dtype": "bfloat16"},
    {"learning_rate_multipliers": {"x1": 0.0}},
]


def gradients(rng, bad=None, place=1):
    made = [rng.normal(size=shape) for shape in SHAPES]
    if bad is not None:
        made[place] = np.array(made[place])
        made[place].reshape(-1)[-1:] = bad
    return made


def held(run):
    """All that an update could change, but the counters that count whatever happens."""
    named = run.optimizer._state.named()
    kept = [v for name, v in named.items() if name.slot not in COUNTERS]
    assert len(kept) == len(named) - len(COUNTERS)
    return snapshot([*run.variables, *kept])


@pytest.mark.keep(6)
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_skipped_step_changes_nothing_but_counters(rng, driver, settings):
    optimizer = NAGD(0.25, 0.875, skip_nonfinite=True, **settings)
    run = Run(optimizer, [rng.normal(size=shape) for shape in SHAPES], "float32", driver)
    constraint = keras.constraints.MaxNorm(0.7, axis=[0, 1])  # which rounds at each turn
    run.variables[0].constraint = constraint
    good = 0
    for t, bad in enumerate([None, None, *BAD, None, np.nan, None]):
        before, age = held(run), int(optimizer.age)
        run.step(gradients(rng, bad, place=t % len(SHAPES)))
        good += bad is None
        assert int(optimizer._iterations) == t + 1
        assert int(optimizer.skipped_updates) == t + 1 - good
        if bad is not None:
            assert_identical(held(run), before)
            assert int(optimizer.age) == age
    assert good == 4
    assert all(np.all(np.isfinite(w)) for w in run.look_ahead)


@pytest.mark.keep(2)
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("dtype", dtypes(*UNIT))
def test_training_goes_on_as_if_the_step_had_not_been(dtype, driver):
    runs = []
    for with_bad in (True, False):
        rng = np.random.default_rng(0)
        start = [rng.normal(size=shape) for shape in SHAPES]
        run = Run(NAGD(0.25, 0.875, skip_nonfinite=True), start, dtype, driver)
        for t in range(6):
            run.step(gradients(rng))
            if with_bad and t in (0, 2, 3):
                run.step(gradients(np.random.default_rng(1), BAD[t % 3]))
        runs.append(run)
    assert_identical(snapshot(runs[0].variables), snapshot(runs[1].variables))
    slots = [list(run.optimizer.displacements) for run in runs]
    assert_identical(snapshot(slots[0]), snapshot(slots[1]))
    assert int(runs[0].optimizer.skipped_updates) == 3


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_first_step_that_is_skipped(rng, driver):
    """Keras gives an average its first value, the variable's, in the first step and no later."""
    start = [rng.normal(size=shape) for shape in SHAPES]
    optimizer = NAGD(0.25, skip_nonfinite=True, use_ema=True, ema_momentum=0.75)
    run = Run(optimizer, start, "float32", driver)
    begin = run.look_ahead
    slots = list(optimizer.displacements)
    for bad in BAD[:2]:
        run.step(gradients(rng, bad))
        assert_identical(run.look_ahead, begin)
        assert not any(np.any(s) for s in snapshot(slots))
    run.step(gradients(rng))
    averages = snapshot(list(optimizer._model_variables_moving_average))
    for average, first, now in zip(averages, begin, run.look_ahead, strict=True):
        np.testing.assert_allclose(average, 0.75 * first + 0.25 * now, rtol=1e-6)


def test_an_optimizer_that_the_first_step_builds():
    variable = keras.Variable(np.ones(3))
    variable.constraint = keras.constraints.NonNeg()
    optimizer = NAGD(skip_nonfinite=True, use_ema=True)
    optimizer.apply([np.array([1.0, np.nan, 1.0], "float32")], [variable])
    assert optimizer.built
    assert int(optimizer.skipped_updates) == 1
    np.testing.assert_array_equal(to_float64(variable), np.ones(3))
    assert "nagd" in optimizer.displacements[0].path


@pytest.mark.parametrize("settings", [{}, {"use_ema": True}])
def test_without_gradients_or_variables(settings):
    optimizer = NAGD(skip_nonfinite=True, **settings)
    optimizer.apply([], [])
    with pytest.raises(ValueError, match="optimizer must already be built"):
        optimizer.apply([np.ones(1, "float32")])


@pytest.mark.keep(2)
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_whole_window_is_dropped(rng, driver, bad, place):
    """Of accumulated gradients, one is bad; the windows before and behind count as they would."""
    steps, runs = 3, []
    for with_bad in (True, False):
        draw = np.random.default_rng(0)
        optimizer = NAGD(0.25, skip_nonfinite=True, gradient_accumulation_steps=steps)
        run = Run(optimizer, [np.ones(4)], "float32", driver)
        for window in range(4):
            for i in range(steps):
                g = draw.normal(size=4)
                if window == 1:
                    if not with_bad:
                        continue
                    if i == place:
                        g[2] = bad
                run.step([g])
        runs.append(run)
    assert_identical(snapshot(runs[0].variables), snapshot(runs[1].variables))
    assert [int(run.optimizer.skipped_updates) for run in runs] == [1, 0]
    assert [int(run.optimizer.age) for run in runs] == [3, 3]


@pytest.mark.parametrize("driver", DRIVERS)
def test_large_gradients_are_not_infinite(driver):
    optimizer = NAGD(1e-30, 0.5, skip_nonfinite=True)
    run = Run(optimizer, [np.ones(3)], "float32", driver)
    run.step([np.array([1e30, -3e30, 1e37])])
    assert int(optimizer.skipped_updates) == 0
    assert run.look_ahead[0][1] > 3.9


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("settings", [{"clipnorm": 1.0}, {"global_clipnorm": 1.0}], ids=str)
def test_a_norm_that_overflows_is_infinite(driver, settings):
    """Clipping by it would leave nothing, or NaN."""
    optimizer = NAGD(0.5, skip_nonfinite=True, **settings)
    run = Run(optimizer, [np.ones(3)], "float32", driver)
    run.step([np.array([1.0, 1e25, 1.0])])
    assert int(optimizer.skipped_updates) == 1
    np.testing.assert_array_equal(run.look_ahead[0], np.ones(3))


@pytest.mark.skipif(BACKEND != "tensorflow", reason="IndexedSlices are TensorFlow's")
@pytest.mark.parametrize("lazy", ["dense", "lazy"])
def test_rows(lazy):
    import tensorflow as tf

    table = keras.Variable(np.ones((5, 2)), dtype="float32")
    optimizer = NAGD(0.5, skip_nonfinite=True, sparse_updates=lazy)
    optimizer.build([table])
    for value in (1.0, np.nan, np.inf):
        before = to_float64(table)
        values = tf.constant([[1.0, value], [1.0, 1.0]])
        optimizer.apply([tf.IndexedSlices(values, tf.constant([1, 3]), tf.constant([5, 2]))])
        if value != 1.0:
            np.testing.assert_array_equal(to_float64(table), before)
    assert int(optimizer.skipped_updates) == 2
    assert to_float64(table)[3, 1] < 1.0


def poisoned(places):
    x, y = data()
    x = x.copy()
    for place in places:
        x[place * BATCH] = np.nan
    return x, y


WAYS = {
    "plain": {"jit_compile": False},
    "compiled": {"jit_compile": True},
    "eager": {"run_eagerly": True, "jit_compile": False},
    "executions": {"jit_compile": False, "steps_per_execution": 3},
}
if BACKEND == "torch":  # Keras has no executions there, and its compiled steps warn.
    WAYS = {name: WAYS[name] for name in ("plain", "eager")}


@pytest.mark.long
@pytest.mark.parametrize("way", WAYS)
def test_fit_with_bad_batches(way):
    model = network(NAGD(0.05, skip_nonfinite=True, use_ema=True), **WAYS[way])
    x, y = poisoned([1, 4])
    model.fit(x, y, batch_size=BATCH, epochs=3, shuffle=False, verbose=0)
    assert int(model.optimizer.skipped_updates) == 6
    assert int(model.optimizer.age) == 3 * (STEPS - 2)
    x, y = data()
    assert model.evaluate(x, y, verbose=0)[0] < 2.0
    # As one sees without it:
    model = network(NAGD(0.05), **WAYS[way])
    model.fit(*poisoned([1, 4]), batch_size=BATCH, epochs=1, shuffle=False, verbose=0)
    assert all(np.all(np.isnan(w)) for w in snapshot(model.trainable_variables))


def test_in_mixed_float16_the_wrapper_skips(rng):
    """Keras' LossScaleOptimizer leaves such steps out itself; NAGD does not get to see them."""
    keras.config.set_dtype_policy("mixed_float16")
    model = network(NAGD(0.05, skip_nonfinite=True))
    fit(model)
    inner, scale = nagd(model), float(to_float64(model.optimizer.dynamic_scale))
    assert type(model.optimizer).__name__ == "LossScaleOptimizer"
    before = snapshot(model.trainable_variables, list(inner.displacements))
    ages = int(inner.age), int(inner.iterations), int(inner.skipped_updates)
    x, y = poisoned([0])
    model.train_on_batch(x[:BATCH], y[:BATCH])
    assert_identical(snapshot(model.trainable_variables, list(inner.displacements)), before)
    assert (int(inner.age), int(inner.iterations), int(inner.skipped_updates)) == ages
    assert float(to_float64(model.optimizer.dynamic_scale)) == scale / 2
    fit(model)
    assert int(inner.age) > ages[0]


@pytest.mark.long
@pytest.mark.parametrize("way", ["plain", "eager"])
def test_the_counter_is_saved(tmp_path, way):
    model = network(NAGD(0.05, skip_nonfinite=True), **WAYS[way])
    model.fit(*poisoned([2]), batch_size=BATCH, epochs=2, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.optimizer.skip_nonfinite
    assert int(again.optimizer.skipped_updates) == 2
    for each in (model, again):
        each.fit(*poisoned([2]), batch_size=BATCH, epochs=1, shuffle=False, verbose=0)
    assert_identical(snapshot(again, again.optimizer), snapshot(model, model.optimizer))


def test_the_norm_is_that_of_the_last_update_that_was_made(rng):
    optimizer = NAGD(skip_nonfinite=True)
    optimizer.tracks_gradient_norm = True
    run = Run(optimizer, [np.ones(2)], "float32")
    run.step([np.array([3.0, 4.0])])
    run.step([np.array([3.0, np.nan])])
    assert float(to_float64(optimizer.gradient_norm)) == 5.0


@pytest.mark.parametrize("given", [None, 1, "yes", 0.0])
def test_it_is_on_or_off(given):
    with pytest.raises(TypeError, match=r"`skip_nonfinite` must be True or False\. Received: "):
        NAGD(skip_nonfinite=given)


def test_at_the_iterate(rng):
    """Without the skip, a NaN there destroys the model; with it, the variables have gone back."""
    run = Run(NAGD(0.25, skip_nonfinite=True), [rng.normal(size=4)], "float32")
    for _ in range(3):
        run.step([rng.normal(size=4)])
    w = run.look_ahead[0]
    run.optimizer.swap_to_iterate()
    run.step([np.full(4, np.nan)])
    assert not run.optimizer.at_iterate
    np.testing.assert_array_equal(to_float64(run.variables[0]), w)
    assert int(run.optimizer.skipped_updates) == 1
