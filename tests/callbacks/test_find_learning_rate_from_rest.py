"""The learning-rate range test begins at rest: what was trained before does not drive it."""

import keras
import numpy as np
import pytest

from nagd_keras import NAGD, schedules
from tests.support.drivers import assert_identical, snapshot, to_float64
from tests.support.sweeps import sweep
from tests.support.training import data, fit, nagd, network

pytestmark = pytest.mark.filterwarnings("ignore:The range test is not sure")

OPTIMIZERS = {
    "plain": lambda: NAGD(0.05, 0.99),
    "momentum by age": lambda: NAGD(0.05, schedules.NesterovMomentum()),
    "restart": lambda: NAGD(0.05, 0.99, restart="speed"),
    # 6 batches were trained in each epoch, so that 2 are in a window that is not over.
    "accumulation": lambda: NAGD(0.05, 0.9, gradient_accumulation_steps=4),
    "averages": lambda: NAGD(0.05, 0.9, use_ema=True, ema_overwrite_frequency=6),
    "Keras SGD": lambda: keras.optimizers.SGD(0.05, 0.99),
    "Keras Adam": lambda: keras.optimizers.Adam(0.05),
    "Keras Adagrad": lambda: keras.optimizers.Adagrad(0.05),
}


@pytest.mark.long
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_trained_optimizer_sweeps_like_a_new_one(name):
    model, new = (network(OPTIMIZERS[name](), run_eagerly=True) for _ in range(2))
    fit(model, epochs=1)
    new.set_weights(model.get_weights())
    before = snapshot(model, model.optimizer)
    found = sweep(model, stop_at=1e6, steps=13)
    np.testing.assert_array_equal(found.losses, sweep(new, stop_at=1e6, steps=13).losses)
    assert len(found.losses) == 13
    assert_identical(snapshot(model, model.optimizer), before)


@pytest.mark.long
def test_within_loss_scaling():
    keras.config.set_dtype_policy("mixed_float16")
    test_a_trained_optimizer_sweeps_like_a_new_one("plain")


def test_a_schedule_stays_where_it_is():
    """One that begins with 0 can be scaled only later."""
    model = network(NAGD(schedules.LinearWarmup(0.1, 5)), run_eagerly=True)
    fit(model, epochs=1)
    assert len(sweep(model, max=1e-3, steps=3).losses) == 3
    assert float(nagd(model).learning_rate) == pytest.approx(0.1)


@pytest.mark.long
def test_the_point_that_the_variables_hold_is_given_back():
    model = network(NAGD(0.05), run_eagerly=True)
    fit(model, epochs=1)
    look_ahead = snapshot(model)
    nagd(model).swap_to_iterate()
    iterate = snapshot(model)
    loss = np.mean((to_float64(model(data()[0])) - data()[1]) ** 2)
    found = sweep(model, batch_size=len(data()[0]))
    assert found.losses[0] == pytest.approx(loss, rel=1e-5)
    assert nagd(model).at_iterate
    assert_identical(snapshot(model), iterate)
    nagd(model).swap_to_lookahead()
    assert_identical(snapshot(model), look_ahead)
