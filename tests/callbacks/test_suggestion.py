"""The one learning rate that a range test suggests."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from nagd_keras import NAGD
from nagd_keras.callbacks import LearningRateSweep, OneCycle, find_learning_rate
from nagd_keras.callbacks.suggestion import suggested
from tests.support.sweeps import sweep
from tests.support.training import data, network

STEPS = 60


def swept(rates, losses):
    """What a range test makes of losses."""
    weights = 0.9 ** np.arange(len(losses))
    smoothed = [np.average(losses[i::-1], weights=weights[: i + 1]) for i in range(len(losses))]
    return LearningRateSweep(np.asarray(rates), losses, np.array(smoothed))


class Landscape:
    """Losses that fall where the learning rate is right, and explode from an edge on."""

    def __init__(self, best, edge, scatter=0.01, falls=True):
        self.best, self.edge, self.scatter, self.falls = best, edge, scatter, falls
        self.rng, self.swept, self.tried = np.random.default_rng(0), [], []

    def noise(self):
        return self.scatter * self.rng.normal(size=STEPS)

    def sweep(self, rates):
        level = 1 / (1 + rates / self.best) if self.falls else np.ones(STEPS)
        return swept(rates, level + (rates / self.edge) ** 2 + self.noise())

    def trial(self, rate):
        """It falls to a level that is lowest at the best learning rate."""
        if rate < 1e-9:
            return np.ones(STEPS) + self.noise()
        end = 0.1 + 0.1 * abs(np.log(rate / self.best)) if self.falls else 1.0
        return np.linspace(1, min(0.9, end) if self.falls else 1.0, STEPS) + self.noise()

    def run(self, rates, stop, repeat):
        if rates[0] < rates[-1]:
            self.swept.append((rates[0], rates[-1], repeat))
            return SimpleNamespace(is_over=True, result=lambda: self.sweep(rates))
        if rates[0] > 1e-9:
            self.tried.append(rates[0])
        losses = self.trial(rates[0]) if rates[0] < self.edge else np.array([1.0, np.inf])
        return SimpleNamespace(all_losses=lambda: losses, is_spoiled=False)

    def found(self, last):
        return suggested(self.sweep(np.geomspace(1e-7, last, STEPS)), self.run, STEPS, 0.123)


def test_a_clear_answer_needs_one_finer_sweep():
    model = Landscape(best=0.01, edge=1.0)
    found = model.found(last=2.0)
    assert found.is_sure
    assert model.swept == [(pytest.approx(2e-3), pytest.approx(2.0), 1)]
    assert found.rate == model.tried[-2]  # A third of it did not train better.
    assert 2e-3 < found.rate < 0.1


def test_noise_has_no_answer_and_three_finer_sweeps_do_not_help():
    model = Landscape(best=0.01, edge=1e9, scatter=1.0, falls=False)
    found = model.found(last=10.0)
    assert not found.is_sure
    assert found.rate == 0.123
    assert [repeat for _, _, repeat in model.swept] == [1, 2, 3]
    assert found.reason.startswith("the optimizer's default")


def test_a_rate_that_explodes_in_its_trial_is_lowered():
    model = Landscape(best=0.01, edge=0.02)
    # It sees no edge, and suggests a tenth of the last.
    model.sweep = lambda rates: swept(rates, np.linspace(1, 0, STEPS))
    found = model.found(last=1.0)
    assert model.tried[:3] == pytest.approx([0.1, 0.1 / 3, 0.1 / 9])
    assert found.rate == pytest.approx(0.1 / 9)
    assert found.is_sure


def tried(losses, untrained, steps=STEPS):
    """What is suggested where a trial at any learning rate has these losses."""

    def run(rates, stop, repeat):
        if rates[0] < rates[-1]:
            falls = swept(rates, np.linspace(1, 0, len(rates)))
            return SimpleNamespace(is_over=True, result=lambda: falls)
        return SimpleNamespace(
            all_losses=lambda: untrained if rates[0] < 1e-9 else losses, is_spoiled=False
        )

    first = swept(np.geomspace(1e-7, 1, steps), np.linspace(1, 0, steps))
    return suggested(first, run, steps, 0.123)


def test_losses_with_a_long_tail_are_no_explosion():
    """Some batches have losses far above the others, with training and without."""
    rng = np.random.default_rng(0)
    untrained = np.exp(rng.normal(size=STEPS))
    untrained[: STEPS // 10] = 1.0  # so that the first say nothing of the tail
    assert untrained.max() > 5
    assert tried(0.5 * untrained, untrained).is_sure
    assert not tried(np.where(np.arange(STEPS) == 9, 1e3, 0.5) * untrained, untrained).is_sure


def test_noise_is_seldom_sure():
    """Three standard errors of five differences are exceeded by chance in 2 of 100."""
    rng = np.random.default_rng(0)
    sure = [tried(*(1 + 0.1 * rng.normal(size=(2, 8))), steps=8).is_sure for _ in range(200)]
    assert sum(sure) < 0.05 * len(sure)
    found = tried(np.array([0.5, 0.4, 0.3, 0.2]), np.ones(4), steps=4)
    assert found.reason.endswith("4 batches say little")


def test_what_is_sure_is_not_given_up_for_what_is_not():
    """A third of the learning rate has a lower mean, because of one batch."""
    untrained = np.ones(STEPS)
    sure, lucky = np.full(STEPS, 0.5), np.full(STEPS, 0.6)
    sure[::2] += 1e-3
    lucky[-1] = -1e3

    def run(rates, stop, repeat):
        if rates[0] < rates[-1]:
            falls = swept(rates, np.linspace(1, 0, len(rates)))
            return SimpleNamespace(is_over=True, result=lambda: falls)
        losses = untrained if rates[0] < 1e-9 else sure if rates[0] > 0.05 else lucky
        return SimpleNamespace(all_losses=lambda: losses, is_spoiled=False)

    first = swept(np.geomspace(1e-7, 1, STEPS), np.linspace(1, 0, STEPS))
    found = suggested(first, run, STEPS, 0.123)
    assert found.is_sure
    assert found.rate == pytest.approx(0.1)


def test_a_cycle_takes_the_sweep():
    model = network(NAGD(0.05))
    found = sweep(model, steps=100, min=1e-5, max=10.0)
    assert found.is_sure
    assert found.suggested < found.learning_rates[np.argmin(found.smoothed_losses)]
    assert f"suggested={found.suggested:.3g}" in repr(found)
    history = model.fit(*data(), 8, 3, verbose=0, callbacks=[OneCycle(found)]).history
    rates = history["learning_rate"]
    assert max(rates) <= found.suggested * 1.001
    assert rates[0] > found.suggested / 2


def test_without_trials_it_is_the_minimum():
    rates, losses = np.geomspace(1e-5, 1, 30), np.linspace(1, 0, 30)
    by_hand = LearningRateSweep(rates, losses, losses)
    assert by_hand.suggested == by_hand.minimum
    assert not by_hand.is_sure


@pytest.mark.long
def test_data_that_have_no_answer_give_the_default_of_the_optimizer():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 4)), rng.integers(2, size=(64, 1))
    for optimizer, default in [
        (NAGD(0.5, direction="adaptive"), NAGD(direction="adaptive").learning_rate),
        (keras.optimizers.Adam(0.5), 0.001),
    ]:
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, trainable=True)])
        model.compile(optimizer, keras.losses.BinaryCrossentropy(from_logits=True))
        with pytest.warns(UserWarning, match="not sure of its suggestion"):
            # So small that nothing is learned.
            found = find_learning_rate(model, x, y, min=1e-12, max=1e-9, steps=20, verbose=0)
        assert found.suggested == pytest.approx(float(default))
        assert not found.is_sure


def test_full_batches_without_a_fall_have_no_answer():
    """They have no scatter, so that a rounding would be sure."""
    x, y = data()
    model = network(NAGD(0.05))
    with pytest.warns(UserWarning, match="not sure"):
        found = find_learning_rate(
            model, x, y, batch_size=len(x), min=1e-13, max=1e-11, steps=20, verbose=0
        )
    assert not found.is_sure


def test_a_generator_gives_no_trial():
    x, y = data()
    batches = ((x[:16], y[:16]) for _ in range(60))
    model = network(NAGD(0.05))
    with pytest.warns(UserWarning, match="cannot be gone through again"):
        found = sweep(model, batches, steps=60, min=1e-5, max=1.0)
    assert found.suggested == found.minimum


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_digits_train_with_what_is_suggested(seed):
    """With `steepest` this network collapses to chance."""
    keras.utils.set_random_seed(seed)
    x, y = load_digits(return_X_y=True)
    x = x.reshape(-1, 8, 8, 1).astype("float32") / 16
    layers = [
        keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Conv2D(32, 3, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(64, "relu"),
        keras.layers.Dense(10),
    ]
    model = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(NAGD(), loss, metrics=["accuracy"])
    found = find_learning_rate(model, x[:1400], y[:1400], verbose=0)
    assert found.is_sure
    model.fit(x[:1400], y[:1400], epochs=5, verbose=0, callbacks=[OneCycle(found)])
    assert model.evaluate(x[1400:], y[1400:], verbose=0)[1] > 0.85


def test_a_network_that_exploded_and_came_down_has_not_trained():
    """Units that died leave a constant, which is better than what exploded."""
    model = Landscape(best=0.001, edge=1e9)
    model.sweep = lambda rates: swept(rates, np.linspace(1, 0, STEPS))
    came_down = np.array([1.0, 50.0, *np.full(STEPS, 0.4)])
    trial = model.trial
    model.trial = lambda rate: came_down if rate > 0.01 else trial(rate)
    found = model.found(last=1.0)
    assert model.tried[0] == pytest.approx(0.1)
    assert found.rate < 0.01
    assert found.is_sure
