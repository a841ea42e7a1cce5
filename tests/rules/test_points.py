"""The way from the look-ahead point to the iterate and back."""

import gc
import weakref

import keras
import numpy as np
import pytest

from nagd_keras import NAGD
from nagd_keras.backends.current import current
from nagd_keras.callbacks import at_iterate
from nagd_keras.tensors import global_norm
from tests.support.drivers import DRIVERS, Run, assert_identical, snapshot, to_float64
from tests.support.limits import dtypes
from tests.support.tolerances import UNIT, assert_close
from tests.support.training import data, nagd, network

DTYPES = pytest.mark.parametrize("dtype", dtypes(*UNIT))


def trained(dtype, rng, steps=5, driver="eager", **settings):
    start = [rng.normal(size=(7, 5)), rng.normal(size=())]
    run = Run(NAGD(0.1, 0.9, **settings), start, dtype, driver)
    for _ in range(steps):
        run.step([rng.normal(size=(7, 5)), rng.normal(size=())])
    return run


@DTYPES
def test_there_and_back_is_the_identity(dtype, rng):
    """Not so for (w - s) + s: the test shows that it would differ."""
    run = trained(dtype, rng)
    for v in run.variables:  # An update may end with this sum, which then gives its bits again.
        v.assign(keras.ops.cast(rng.normal(size=v.shape), dtype))
    optimizer, before = run.optimizer, snapshot(run.variables, run.optimizer)
    iterate = [w.astype(before[0].dtype) for w in run.iterate]
    for _ in range(2):
        optimizer.swap_to_iterate()  # A second call does nothing.
        assert optimizer.at_iterate
        for found, wanted in zip(run.look_ahead, iterate, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=UNIT[dtype], atol=0)
    rounded = [
        np.any(to_float64(v + s) != w)
        for v, s, w in zip(run.variables, optimizer.displacements, before[:2], strict=True)
    ]
    for _ in range(2):
        optimizer.swap_to_lookahead()
        assert not optimizer.at_iterate
        assert_identical(snapshot(run.variables, optimizer), before)
    assert any(rounded), "the sum is exact here, so that the test shows nothing"


def test_values_set_meanwhile_are_the_new_iterate(rng):
    run = trained("float32", rng)
    matrix, number = run.variables
    optimizer = run.optimizer
    kept = to_float64(number)
    optimizer.swap_to_iterate()
    matrix.assign(np.ones(matrix.shape))
    optimizer.swap_to_lookahead()
    np.testing.assert_allclose(
        to_float64(matrix), 1 + to_float64(optimizer.displacements[0]), rtol=UNIT["float32"]
    )
    assert to_float64(number) == kept


def test_resetting_the_momentum_makes_both_points_one(rng):
    run = trained("float32", rng)
    run.optimizer.swap_to_iterate()
    iterate = snapshot(run.variables)
    run.optimizer.reset_momentum()
    assert not run.optimizer.at_iterate
    run.optimizer.swap_to_lookahead()
    assert_identical(snapshot(run.variables), iterate)
    assert int(run.optimizer.restarts) == 1


def lifts(driver):
    """Whether a step can set variables where it is compiled."""
    return driver != "jit"


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_step_that_begins_at_the_iterate_goes_back_first(driver, rng):
    """Where it runs eagerly or is compiled then; to the bit."""
    start = [rng.normal(size=(7, 5)), rng.normal(size=())]
    gradients = [np.ones((7, 5)), np.ones(())]
    runs = [Run(NAGD(0.1, 0.9), start, "float32") for _ in range(2)]
    for run in runs:
        run.step(gradients)
    runs[0].optimizer.swap_to_iterate()
    if lifts(driver):
        DRIVERS[driver](runs[0].optimizer, runs[0].variables)(gradients_of(gradients))
        assert not runs[0].optimizer.at_iterate
        DRIVERS[driver](runs[1].optimizer, runs[1].variables)(gradients_of(gradients))
        assert_identical(*(snapshot(run.variables, run.optimizer) for run in runs))
    else:
        with pytest.raises(ValueError, match="swap_to_lookahead"):
            DRIVERS[driver](runs[0].optimizer, runs[0].variables)(gradients_of(gradients))


def gradients_of(arrays):
    return [keras.ops.cast(g, "float32") for g in arrays]


@pytest.mark.parametrize("method", ["swap_to_iterate", "swap_to_lookahead"])
@pytest.mark.parametrize("survived", [0, 1])
def test_an_interrupted_swap_is_made_good(method, survived, rng, monkeypatch):
    """Ctrl-C between two variables; the way back then finds all bits."""
    run = trained("float32", rng)
    before = snapshot(run.variables, run.optimizer)
    if method == "swap_to_lookahead":
        run.optimizer.swap_to_iterate()
    assign, assigned = keras.Variable.assign, []

    def interrupted(self, value):
        if any(self is variable for variable in run.variables):
            assigned.append(self)
            if len(assigned) > survived:
                raise KeyboardInterrupt
        return assign(self, value)

    with monkeypatch.context() as patch:
        patch.setattr(keras.Variable, "assign", interrupted)
        with pytest.raises(KeyboardInterrupt):
            getattr(run.optimizer, method)()
    run.optimizer.swap_to_lookahead()
    assert_identical(snapshot(run.variables, run.optimizer), before)


def test_before_the_first_update():
    optimizer = NAGD()
    optimizer.swap_to_iterate()
    optimizer.swap_to_lookahead()
    variable = keras.Variable([1.0])
    optimizer.build([variable])
    optimizer.swap_to_iterate()
    assert to_float64(variable) == [1.0]


@pytest.mark.keep(2)
@pytest.mark.parametrize("policy", dtypes("float32", "mixed_float16", "bfloat16", "float64"))
@pytest.mark.parametrize("suffix", ["keras", "weights.h5"])
def test_saved_at_the_iterate_and_loaded(tmp_path, policy, suffix):
    """Training goes on from the exact look-ahead point, in whatever way it was saved."""
    keras.config.set_dtype_policy(policy)
    if policy == "float64":
        keras.config.set_floatx("float64")
    x, y = data()
    model = network(NAGD(0.05))
    model.fit(x, y, verbose=0, shuffle=False)
    wanted = snapshot(model, model.optimizer)
    path = tmp_path / f"model.{suffix}"
    with at_iterate(model):
        iterate = snapshot(model)
        (model.save if suffix == "keras" else model.save_weights)(path)
    if suffix == "keras":
        loaded = keras.saving.load_model(path)
    else:
        loaded = network(NAGD(0.05))
        loaded.optimizer.build(loaded.trainable_variables)
        loaded.load_weights(path)
    assert_identical(snapshot(loaded), iterate)
    assert nagd(loaded).at_iterate
    nagd(loaded).swap_to_lookahead()
    assert_identical(snapshot(loaded, loaded.optimizer), wanted)


def test_a_state_of_another_optimizer_is_left_alone():
    model = network(NAGD())
    model.optimizer.build(model.trainable_variables)
    store = {str(i): np.zeros(()) for i in range(3)}
    before = snapshot(model, model.optimizer)
    with pytest.warns(UserWarning, match="another optimizer"):
        model.optimizer.load_own_variables(store)
    assert_identical(snapshot(model, model.optimizer), before)
    assert not model.optimizer.at_iterate


def test_an_interrupted_way_back_after_values_were_set(rng, monkeypatch):
    run = trained("float32", rng)
    run.optimizer.swap_to_iterate()
    for variable in run.variables:
        variable.assign(np.ones(variable.shape))
    wanted = [1 + to_float64(s) for s in run.optimizer.displacements]
    assign = keras.Variable.assign

    def interrupted(self, value):
        if self is run.variables[1]:
            raise KeyboardInterrupt
        return assign(self, value)

    with monkeypatch.context() as patch:
        patch.setattr(keras.Variable, "assign", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.optimizer.swap_to_lookahead()
    run.optimizer.swap_to_lookahead()
    for found, value in zip(run.look_ahead, wanted, strict=True):
        assert_close(found, value, 2 * UNIT["float32"])


def test_variables_without_a_displacement_stay(rng):
    """Those that Keras overwrites with their gradient; the norm leaves them out too."""
    a, scale = keras.Variable([1.0, 1.0], name="a"), keras.Variable([5.0], name="scale")
    scale.overwrite_with_gradient = True
    optimizer = NAGD(0.5, 0.5)
    optimizer.build([a, scale])
    optimizer.displacements[0].assign([3.0, 4.0])
    assert float(global_norm(optimizer.displacements)) == 5.0
    optimizer.swap_to_iterate()
    np.testing.assert_array_equal(to_float64(a), [-2.0, -3.0])
    np.testing.assert_array_equal(to_float64(scale), [5.0])
    optimizer.swap_to_lookahead()
    np.testing.assert_array_equal(to_float64(a), [1.0, 1.0])
    optimizer.reset_momentum()


def test_nothing_is_remembered_at_the_look_ahead_point(rng):
    """So that the copy of the variables does not outlive the look."""
    run = trained("float32", rng)
    for back in (run.optimizer.swap_to_lookahead, run.optimizer.reset_momentum):
        run.optimizer.swap_to_iterate()
        copies = [weakref.ref(each) for each in run.optimizer._state.points.remembered().values()]
        back()
        gc.collect()
        assert not any(copy() is not None for copy in copies)


def test_a_variable_that_is_frozen_meanwhile_comes_back(rng, tmp_path):
    run = trained("float32", rng)
    before = run.look_ahead
    run.optimizer.swap_to_iterate()
    run.variables[0].trainable = False
    run.optimizer.swap_to_lookahead()
    assert_identical(run.look_ahead, before)
    run.optimizer.swap_to_iterate()  # Frozen, it stays.
    np.testing.assert_array_equal(run.look_ahead[0], before[0])
    assert np.any(run.look_ahead[1] != before[1])


@DTYPES
def test_in_one_call_the_points_have_the_same_bits(dtype, rng, monkeypatch):
    """As by one operation after the other; also with what was set meanwhile, or frozen."""
    fast, slow = (trained(dtype, np.random.default_rng(1)) for _ in range(2))
    for change in ("nothing", "set", "frozen", "reset"):
        seen = []
        for run, plain in ((fast, False), (slow, True)):
            with monkeypatch.context() as patch:
                if plain:
                    patch.setattr(type(current), "at_once", lambda self, function: function)
                run.optimizer.swap_to_iterate()
                seen.append(snapshot(run.variables, run.optimizer))
                if change == "set":
                    run.variables[0].assign(np.ones((7, 5)))
                if change == "frozen":
                    run.variables[1].trainable = False
                run.optimizer.swap_to_lookahead()
                seen.append(snapshot(run.variables, run.optimizer))
                if change == "reset":
                    run.optimizer.reset_momentum()
        assert_identical(seen[0], seen[2])
        assert_identical(seen[1], seen[3])
