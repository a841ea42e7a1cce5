"""Learning rates of single variables."""

import keras
import numpy as np
import pytest

from nagd_keras import NAGD
from nagd_keras.rules.nesterov import coefficients, nesterov_update
from tests.support.drivers import DRIVERS, Run, assert_identical, snapshot, to_float64
from tests.support.tolerances import TRAJECTORY, assert_close
from tests.support.training import data, network


def run_with(multipliers, rng, driver="eager", **settings):
    """The trajectory of x0, x1 and x2 under random gradients."""
    run = Run(
        NAGD(0.1, 0.9, learning_rate_multipliers=multipliers, **settings),
        [np.ones(3)] * 3,
        "float32",
        driver,
    )
    gradients = rng.normal(size=(20, 3, 3))
    for each in gradients:
        run.step(list(each))
    return run, gradients


@pytest.mark.keep(3)
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("settings", [{}, {"weight_decay": 0.1}, {"global_clipnorm": 0.5}], ids=str)
def test_each_variable_trains_with_its_own_rate(driver, settings, rng):
    """As with separate optimizers, once the gradients are clipped together."""
    run, gradients = run_with({"x0": 0.25, "x[01]": 3.0}, rng, driver, **settings)
    if "global_clipnorm" in settings:
        norms = np.sqrt(np.sum(gradients**2, axis=(1, 2), keepdims=True))
        gradients = gradients * np.minimum(1, settings["global_clipnorm"] / norms)
    for i, factor in enumerate([0.25, 3.0, 1.0]):
        w, s = np.ones(3), np.zeros(3)
        decay = settings.get("weight_decay")
        c = coefficients(0.1 * factor, 0.9, decay and 0.1 * factor * decay)
        for g in gradients[:, i]:
            w, s = nesterov_update(w, s, g, c)
        assert_close(run.look_ahead[i], w, TRAJECTORY["float32"], f"x{i}")


def test_zero_freezes(rng):
    """Whatever the gradient, and the weight decay."""
    run, _ = run_with({"x1": 0}, rng, weight_decay=0.5)
    np.testing.assert_array_equal(run.look_ahead[1], np.ones(3))
    run.step([np.ones(3), np.full(3, np.nan), np.ones(3)])
    np.testing.assert_array_equal(run.look_ahead[1], np.ones(3))
    np.testing.assert_array_equal(to_float64(run.optimizer.displacements[1]), np.zeros(3))


def test_on_the_paths_of_a_model(tmp_path):
    """Bias and kernel of a layer, by regular expression; the settings survive saving."""
    multipliers = {"hidden/kernel$": 0.0, "^.*/bias$": 2.0, "hidden": 0.0}
    model = network(NAGD(0.05, learning_rate_multipliers=multipliers))
    start = snapshot(model)
    model.fit(*data(), verbose=0, shuffle=False)
    moved = [np.any(a != b) for a, b in zip(snapshot(model), start, strict=True)]
    assert moved[:4] == [False, True, True, True]  # weights: kernel, bias, kernel, bias
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    config = loaded.optimizer.get_config()["learning_rate_multipliers"]
    assert list(config.items()) == list(multipliers.items())
    for each in (model, loaded):
        each.fit(*data(), verbose=0, shuffle=False)
    assert_identical(snapshot(loaded, loaded.optimizer), snapshot(model, model.optimizer))


def test_the_caller_may_change_the_dictionary(rng):
    multipliers = {"x0": 0.5}
    optimizer = NAGD(learning_rate_multipliers=multipliers)
    multipliers["none"] = 2.0
    optimizer.get_config()["learning_rate_multipliers"]["none"] = 2.0
    assert optimizer.get_config()["learning_rate_multipliers"] == {"x0": 0.5}


def test_a_pattern_that_matches_nothing():
    model = network(NAGD(learning_rate_multipliers={"hidden": 0.5, "embedding": 0.1}))
    before = snapshot(model)
    with pytest.raises(ValueError, match=r"'embedding'.*no variable.*hidden/kernel.*out/bias"):
        model.fit(*data(), verbose=0)
    assert_identical(snapshot(model), before)


@pytest.mark.parametrize(
    ("multipliers", "error", "says"),
    [
        ([("x", 1.0)], TypeError, "must be a dictionary"),
        ({1: 1.0}, TypeError, "must be a dictionary"),
        ({"(": 1.0}, ValueError, r"'\(', which is not one.*re\.escape"),
        ({"x": -1.0}, ValueError, r"Received: learning_rate_multipliers\['x'\]=-1\.0"),
        ({"x": float("nan")}, ValueError, "Received: .*=nan"),
        ({"x": "2"}, TypeError, "Received: .*='2'"),
        ({"x": True}, TypeError, "Received: .*=True"),
    ],
)
def test_bad_multipliers(multipliers, error, says):
    with pytest.raises(error, match=says):
        NAGD(learning_rate_multipliers=multipliers)


def test_a_pattern_that_matches_nothing_leaves_the_optimizer_unbuilt():
    optimizer = NAGD(learning_rate_multipliers={"embedding": 0.1})
    for _ in range(2):  # Not only the first time.
        with pytest.raises(ValueError, match=r"'embedding'.*no variable"):
            optimizer.build([keras.Variable([1.0], name="x")])
    assert not optimizer.built
