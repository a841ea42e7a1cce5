"""Who sets an optimizer's variables to zero begins anew, and keeps its settings."""

import keras
import numpy as np
import pytest

from nagd_keras import NAGD, schedules
from tests.support.drivers import DRIVERS, Run, assert_identical, snapshot

GRADIENTS = [np.asarray([1.0, -2.0]), np.asarray([0.5, 4.0]), np.asarray([-1.0, 1.0])]
START = [np.asarray([3.0, -1.0])]
SETTINGS = {
    "numbers": {"learning_rate": 0.1, "momentum": 0.8, "weight_decay": 0.5},
    "schedules": {
        "learning_rate": schedules.LinearWarmup(0.1, 4),
        "momentum": schedules.SutskeverMomentum(0.99, 2),
    },
    "restart": {"momentum": 0.95, "restart": "speed", "use_ema": True},
}


def run_of(settings, driver, start=START):
    optimizer = NAGD(**settings)
    optimizer.tracks_gradient_norm = True
    return Run(optimizer, start, "float32", driver)


def to_zero(optimizer):
    for variable in optimizer.variables:
        if "learning_rate" not in variable.name:
            variable.assign(keras.ops.zeros(variable.shape, variable.dtype))


@pytest.mark.keep(3)
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_slots_and_counters_are_those_of_a_new_optimizer(settings, driver):
    run = run_of(settings, driver)
    for gradient in GRADIENTS:
        run.step([gradient])
    new = run_of(settings, driver, run.look_ahead)
    to_zero(run.optimizer)
    for gradient in GRADIENTS:
        for each in (run, new):
            each.step([gradient])
        assert_identical(run.look_ahead, new.look_ahead)
    assert_identical(snapshot(run.optimizer.displacements), snapshot(new.optimizer.displacements))
    for name in ("age", "restarts", "iterations"):
        one, two = (int(getattr(each.optimizer, name)) for each in (run, new))
        assert one == two, name
    assert run.optimizer.get_config() == new.optimizer.get_config()


def test_what_was_set_stays():
    run = run_of(SETTINGS["numbers"], "eager")
    run.step(GRADIENTS[:1])
    run.optimizer.learning_rate, run.optimizer.momentum = 0.25, 0.5
    new = run_of({"learning_rate": 0.25, "momentum": 0.5, "weight_decay": 0.5}, "eager", START)
    to_zero(run.optimizer)
    run.variables[0].assign(new.variables[0])
    for each in (run, new):
        each.step(GRADIENTS[:1])
    assert_identical(run.look_ahead, new.look_ahead)
