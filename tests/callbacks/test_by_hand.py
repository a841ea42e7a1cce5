"""Callbacks in a loop of one's own, without the settings that `fit` tells them."""

import keras
import numpy as np
import pytest

from nagd_keras import NAGD, schedules
from nagd_keras.callbacks import (
    AdaptiveRestart,
    Backup,
    DivergenceGuard,
    EvaluateAtIterate,
    HyperparameterMonitor,
    MomentumScheduler,
    OneCycle,
    StopAtTolerance,
)
from tests.support.drivers import snapshot
from tests.support.training import BATCH, STEPS, data, network


def loop(callback, direct=False, **told):
    """Trains as a user may write it; returns the model, and rate and momentum of each batch."""
    model, (x, y) = network(NAGD(0.05), run_eagerly=True, jit_compile=False), data()
    listed = callback
    if direct:  # without any list
        callback.set_model(model)
    else:
        listed = keras.callbacks.CallbackList([callback], model=model, **told)
    seen = []
    listed.on_train_begin()
    for epoch in range(2):
        model.reset_metrics()
        listed.on_epoch_begin(epoch)
        for batch in range(STEPS):
            listed.on_train_batch_begin(batch)
            rows = slice(batch * BATCH, (batch + 1) * BATCH)
            logs = model.train_on_batch(x[rows], y[rows], return_dict=True)
            seen.append((float(model.optimizer.learning_rate), float(model.optimizer.momentum)))
            listed.on_train_batch_end(batch, logs)
        listed.on_epoch_end(epoch, logs)
    listed.on_train_end()
    return model, np.transpose(seen)


MAKERS = {
    "Keras' own": lambda folder: keras.callbacks.LearningRateScheduler(lambda epoch: 0.1),
    "one cycle": lambda folder: OneCycle(0.1, total_steps=2 * STEPS, momentum=(0.95, 0.85)),
    "momentum": lambda folder: MomentumScheduler(lambda epoch: 0.5),
    "momentum of both": lambda folder: MomentumScheduler(lambda epoch, momentum: momentum),
    "restart": lambda folder: AdaptiveRestart(),
    "restart on batches": lambda folder: AdaptiveRestart(every_n_batches=2),
    "monitor": lambda folder: HyperparameterMonitor(2, norms=True),
    "stop": lambda folder: StopAtTolerance(1e-9, 1e-9),
    "guard": lambda folder: DivergenceGuard(verbose=0),
    "iterate": lambda folder: EvaluateAtIterate(),
    "backup": lambda folder: Backup(folder / "backup"),
}


@pytest.mark.keep(3)
@pytest.mark.parametrize("direct", [False, pytest.param(True, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", MAKERS)
def test_each_works_without_settings(name, direct, tmp_path):
    model, _ = loop(MAKERS[name](tmp_path), direct=direct)
    assert all(np.isfinite(each).all() for each in snapshot(model))


def test_a_cycle_of_given_length():
    _, (rates, momenta) = loop(OneCycle(0.1, total_steps=2 * STEPS, momentum=(0.95, 0.85)))
    wanted = schedules.OneCycle(0.1 / 25, 0.1, 0.1 / 25e4, 2 * STEPS)(np.arange(2 * STEPS))
    np.testing.assert_allclose(rates, wanted, rtol=1e-6)
    assert momenta[-1] == pytest.approx(0.95)


def test_a_cycle_of_a_fit_needs_one():
    with pytest.raises(ValueError, match=r"is not in a fit.*Pass total_steps to OneCycle"):
        loop(OneCycle(0.1))
    _, (rates, _) = loop(OneCycle(0.1), epochs=2, steps=STEPS)
    assert rates[0] == pytest.approx(0.1 / 25)


def test_momenta_are_set():
    _, (_, momenta) = loop(MomentumScheduler(lambda epoch: 0.25 + epoch / 4))
    assert [*momenta] == [0.25] * STEPS + [0.5] * STEPS


def test_a_backup_tells_a_loop_where_to_begin(tmp_path):
    class Killed(Exception):
        pass

    def train(kill):
        model, (x, y) = network(NAGD(0.05), run_eagerly=True, jit_compile=False), data()
        backup = Backup(tmp_path / "backup", verbose=0)
        listed = keras.callbacks.CallbackList([backup], model=model)
        listed.on_train_begin()
        for epoch in range(backup.epochs_done, 4):
            listed.on_epoch_begin(epoch)
            if epoch == kill:
                raise Killed
            model.train_on_batch(x, y)
            listed.on_epoch_end(epoch)
        listed.on_train_end()
        return [np.asarray(each) for each in model.get_weights()]

    wanted = train(None)
    with pytest.raises(Killed):
        train(2)
    for found, each in zip(train(None), wanted, strict=True):
        np.testing.assert_array_equal(found, each)


# What is tried before it is used


def _noting(asked):
    def momentum(epoch):
        asked.append(epoch)
        return 0.5

    return momentum


def test_a_momentum_is_tried_at_the_first_and_the_last_epoch():
    for epochs in (1, 2, 1_000_000):
        asked = []
        scheduler = MomentumScheduler(_noting(asked))
        scheduler.set_model(network(NAGD()))
        scheduler.set_params({"epochs": epochs, "steps": 1})
        scheduler.on_train_begin()
        for epoch in range(2):
            scheduler.on_epoch_begin(epoch)
        assert asked == [0, *([epochs - 1] if epochs > 1 else []), 1]


def test_a_cycle_of_many_steps_is_not_computed_at_once():
    model = network(NAGD())
    cycle = OneCycle(0.1)
    cycle.set_model(model)
    cycle.set_params({"epochs": 1_000_000, "steps": 1000})  # 8 GB of numbers
    cycle.on_train_begin()
    cycle.on_epoch_begin(0)
    cycle.on_train_batch_begin(0)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.1 / 25)
    cycle.on_epoch_begin(999_999)
    cycle.on_train_batch_begin(999)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.1 / 25e4, rel=1e-5)
