"""One cycle without a number: the optimizer's own learning rate is the peak, and is given back."""

import keras
import numpy as np
import pytest

from nagd_keras import NAGD, schedules
from nagd_keras.callbacks import OneCycle
from nagd_keras.callbacks.rollbacks import Rollbacks
from nagd_keras.callbacks.together import SCALE
from tests.support.tolerances import UNIT
from tests.support.training import STEPS, fit, nagd, network

EPOCHS = 3  # of `fit`
CLOSE = 2 * UNIT["float32"]


class Rates(keras.callbacks.Callback):
    """The learning rate of each batch; ends a fit before a given one."""

    def __init__(self, ends_before=None):
        super().__init__()
        self.seen, self._end = [], ends_before

    def on_train_batch_begin(self, batch, logs=None):
        if len(self.seen) == self._end:
            raise InterruptedError
        self.seen.append(float(keras.ops.convert_to_numpy(nagd(self.model).learning_rate)))


def cycle(peak):
    """What one cycle of three epochs gives."""
    every = np.arange(EPOCHS * STEPS)
    return np.asarray(schedules.OneCycle(peak / 25, peak, peak / 25e4, EPOCHS * STEPS)(every))


@pytest.mark.keep(1)
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize("direction", ["gradient", "adaptive", "orthogonal"])
def test_the_peak_is_the_rate_of_the_direction(direction, policy):
    keras.config.set_dtype_policy(policy)
    model = network(NAGD(direction=direction))
    own = {"gradient": 0.01, "adaptive": 0.003, "orthogonal": 0.01}[direction]
    for _ in range(2):  # The second fit must not begin where the first ended.
        rates = Rates()
        fit(model, OneCycle(), rates)
        np.testing.assert_allclose(rates.seen, cycle(own), rtol=CLOSE)
        assert float(nagd(model).learning_rate) == pytest.approx(own)


def test_a_number_that_was_given_stays_where_it_ended():
    model = network(NAGD())
    fit(model, OneCycle(0.1))
    assert float(model.optimizer.learning_rate) == pytest.approx(0.1 / 25e4)


@pytest.mark.parametrize("make", [NAGD, keras.optimizers.Adam])
def test_the_next_cycle_has_the_peak_of_the_last(make):
    """Its last value is nothing to train with."""
    model, rates = network(make(0.02)), Rates()
    fit(model, OneCycle(0.1))
    fit(model, OneCycle(), rates)
    np.testing.assert_allclose(rates.seen, cycle(0.1), rtol=CLOSE)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.1)
    fit(model, OneCycle(0.1))
    model.optimizer.learning_rate = 0.03
    rates = Rates()
    fit(model, OneCycle(), rates)
    np.testing.assert_allclose(rates.seen, cycle(0.03), rtol=CLOSE)


def test_any_optimizer():
    model = network(keras.optimizers.Adam(0.02))
    history = fit(model, OneCycle(momentum=None))
    at = np.arange(EPOCHS) * STEPS + STEPS - 1
    np.testing.assert_allclose(history.history["learning_rate"], cycle(0.02)[at], rtol=CLOSE)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.02)


def test_a_run_that_was_killed_has_the_same_peak(tmp_path):
    model = network(NAGD(0.05))
    with pytest.raises(InterruptedError):
        fit(model, OneCycle(), Rates(ends_before=STEPS + 2))
    left = float(model.optimizer.learning_rate)
    assert left != pytest.approx(0.05, rel=1e-3)
    model.save(tmp_path / "model.keras")
    for each in (model, keras.saving.load_model(tmp_path / "model.keras")):
        assert float(each.optimizer.learning_rate) == pytest.approx(left)
        rates = Rates()
        fit(each, OneCycle(), rates)
        np.testing.assert_allclose(rates.seen, cycle(0.05), rtol=CLOSE)
        assert float(each.optimizer.learning_rate) == pytest.approx(0.05)


def test_a_rate_that_is_set_after_a_run_was_killed_is_the_peak():
    model = network(NAGD(0.05))
    with pytest.raises(InterruptedError):
        fit(model, OneCycle(), Rates(ends_before=STEPS + 2))
    model.optimizer.learning_rate = 0.02
    rates = Rates()
    fit(model, OneCycle(), rates)
    np.testing.assert_allclose(rates.seen, cycle(0.02), rtol=CLOSE)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.02)


def test_a_rate_of_zero_is_no_peak():
    model = network(NAGD(0.0))
    with pytest.raises(ValueError, match=r"must be above 0. Received: 0.0. Set it, or pass max_"):
        fit(model, OneCycle())


def test_any_optimizer_whose_fit_was_interrupted():
    model = network(keras.optimizers.Adam(0.05))
    with pytest.raises(InterruptedError):
        fit(model, OneCycle(), Rates(ends_before=STEPS + 2))
    rates = Rates()
    fit(model, OneCycle(), rates)
    np.testing.assert_allclose(rates.seen, cycle(0.05), rtol=CLOSE)


class Lowering(keras.callbacks.Callback):
    """Lowers the learning rate after a batch, as a guard does."""

    fit_roles = (SCALE,)

    def __init__(self, after):
        super().__init__()
        self._after = after

    def on_train_batch_end(self, batch, logs=None):
        if nagd(self.model).iterations == self._after:
            Rollbacks(nagd(self.model), 0.5).add(0)


@pytest.mark.parametrize("after", [STEPS, EPOCHS * STEPS])
def test_a_rollback_after_the_last_batch_counts(after):
    model = network(NAGD(0.05))
    fit(model, OneCycle(), Lowering(after))
    assert float(model.optimizer.learning_rate) == pytest.approx(0.025)


def test_a_run_that_was_killed_after_a_rollback(tmp_path):
    """With the guard it goes on lowered; without it, it does not lose half in each fit."""
    model = network(NAGD(0.05))
    with pytest.raises(InterruptedError):
        fit(model, OneCycle(), Lowering(STEPS), Rates(ends_before=STEPS))
    rates = Rates()
    fit(model, OneCycle(), Lowering(-1), rates)
    np.testing.assert_allclose(rates.seen, cycle(0.05) / 2, rtol=CLOSE)
    for _ in range(2):
        fit(model, OneCycle())
        assert float(model.optimizer.learning_rate) == pytest.approx(0.025)


def test_what_a_guard_lowered_stays_lowered():
    """A rollback halves the learning rate: that of the cycle, and the one that is given back."""
    model, rates = network(NAGD(0.05)), Rates()
    fit(model, OneCycle(), Lowering(STEPS + 2), rates)
    half = np.where(np.arange(EPOCHS * STEPS) < STEPS + 2, 1.0, 0.5)
    np.testing.assert_allclose(rates.seen, cycle(0.05) * half, rtol=CLOSE)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.025)


def test_what_a_guard_lowered_is_lower_in_the_next_cycle():
    model, rates = network(NAGD(0.05)), Rates()
    fit(model, OneCycle(0.1), Lowering(STEPS + 2))
    fit(model, OneCycle(), rates)
    np.testing.assert_allclose(rates.seen, cycle(0.1) / 2, rtol=CLOSE)


def test_what_lowers_the_rate_after_the_last_batch_leaves_the_peak():
    """Its tiny value is not taken for the optimizer's own."""

    class AtTheEnd(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.optimizer.learning_rate *= 0.5

    model, rates = network(NAGD(0.05)), Rates()
    fit(model, OneCycle(0.1), AtTheEnd())
    fit(model, OneCycle(), rates)
    np.testing.assert_allclose(rates.seen, cycle(0.1), rtol=CLOSE)
