"""Callbacks that fight: what is said of a list when training begins, once."""

import warnings

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
from nagd_keras.callbacks.listed import listed_with
from nagd_keras.callbacks.together import doubtful, refused
from tests.support.drivers import assert_identical, snapshot
from tests.support.training import STEPS, fit, network

keras_callbacks = keras.callbacks


def eager(optimizer):
    return network(optimizer, run_eagerly=True, jit_compile=False)


def cycle(**settings):
    return OneCycle(0.1, momentum=None, **settings)


def plateau():
    return keras_callbacks.ReduceLROnPlateau("loss")


def stopping(**settings):
    return keras_callbacks.EarlyStopping("loss", **settings)


def checkpoint():
    return keras_callbacks.ModelCheckpoint("x.keras", "loss")


def best():
    return keras_callbacks.ModelCheckpoint("x.keras", "loss", save_best_only=True)


def by_epoch():
    return keras_callbacks.LearningRateScheduler(lambda epoch: 0.01)


def by_rate():
    return keras_callbacks.LearningRateScheduler(lambda epoch, rate: 0.9 * rate)


def momentum():
    return MomentumScheduler(lambda epoch: 0.5)


def guard(**settings):
    return DivergenceGuard(verbose=0, **settings)


def csv():
    return keras_callbacks.CSVLogger("x.csv")


def backup():
    return Backup("x")


def keras_backup():
    return keras_callbacks.BackupAndRestore("x")


REFUSED = [
    ([cycle(), cycle()], "set the learning rate before every batch.*OneCycle and OneCycle"),
    (
        [OneCycle(0.1, momentum=(0.95, 0.85)), momentum()],
        "set the momentum.*MomentumScheduler.*momentum=None",
    ),
    ([momentum(), momentum()], "Only one callback of a fit can set the momentum"),
    ([AdaptiveRestart(), AdaptiveRestart(every_n_batches=2)], "can restart the momentum"),
    ([StopAtTolerance(0.1), StopAtTolerance(0.2)], "can stop at a tolerance"),
    ([guard(), guard(window=20)], "can go back to a good state"),
    ([backup(), keras_backup()], "can back training up.*Backup and BackupAndRestore"),
    ([EvaluateAtIterate(), EvaluateAtIterate()], "can evaluate at the iterate"),
]


@pytest.mark.parametrize(("listed", "says"), REFUSED)
def test_only_one_can(listed, says):
    (message,) = refused(listed, NAGD())
    assert message.startswith("Only one")
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(message)
    assert not [*refused(listed[:1], NAGD())]


def test_a_number_for_each_epoch_is_refused_where_a_schedule_rules():
    for optimizer in (NAGD(schedules.LinearWarmup(0.1, 5)), NAGD(lambda: 0.1)):
        (message,) = refused([by_epoch()], optimizer)
        assert "LearningRateScheduler sets" in message
        assert "a number as learning_rate" in message
        assert not [*refused([by_rate()], optimizer)]
    assert not [*refused([by_epoch()], NAGD(0.1))]


EPOCHS = {"epochs": 10, "steps": 4}
DOUBTFUL = [
    ([cycle(), plateau()], "ReduceLROnPlateau takes off is lost"),
    ([plateau(), cycle()], "ReduceLROnPlateau takes off is lost"),
    ([by_epoch(), guard()], "DivergenceGuard takes off is lost"),
    ([cycle(), by_epoch()], "LearningRateScheduler has no effect"),
    ([cycle(), by_rate()], "LearningRateScheduler has no effect"),
    ([by_epoch(), plateau()], "LearningRateScheduler sets.*every epoch.*Plateau takes off"),
    ([guard(), keras_callbacks.TerminateOnNaN()], "Leave out TerminateOnNaN"),
    ([EvaluateAtIterate(), keras_callbacks.SwapEMAWeights()], "SwapEMAWeights and Evaluate"),
    ([csv(), HyperparameterMonitor()], "Put CSVLogger after HyperparameterMonitor"),
    ([keras_callbacks.TensorBoard("x"), HyperparameterMonitor()], "Put TensorBoard after"),
    ([checkpoint(), EvaluateAtIterate()], "Put EvaluateAtIterate first"),
    ([stopping(restore_best_weights=True), EvaluateAtIterate()], "Put EvaluateAtIterate first"),
    ([backup(), plateau()], "Put Backup after ReduceLROnPlateau"),
    ([keras_backup(), AdaptiveRestart()], "Put BackupAndRestore after AdaptiveRestart"),
    ([backup(), StopAtTolerance(0.1)], "Put Backup after StopAtTolerance"),
    ([backup(), stopping(patience=3)], "Put Backup after EarlyStopping"),
    ([backup(), best()], "Put Backup after ModelCheckpoint"),
    ([cycle(), stopping(patience=8)], "EarlyStopping can end training.*patience=8"),
    ([stopping(), cycle(total_steps=20)], "EarlyStopping can end training.*patience=0"),
]
PEACEFUL = [
    [OneCycle(0.1), EvaluateAtIterate(), AdaptiveRestart(), HyperparameterMonitor(), csv()],
    [cycle(), momentum(), guard(learning_rate_factor=1)],
    [HyperparameterMonitor(), HyperparameterMonitor(2), csv(), plateau(), backup()],
    [backup(), AdaptiveRestart(every_n_batches=2), EvaluateAtIterate()],
    [EvaluateAtIterate(), checkpoint(), stopping(restore_best_weights=True), backup()],
    [stopping(), EvaluateAtIterate()],
    [by_rate(), plateau(), guard()],
    [cycle(), stopping(patience=9)],
    [cycle(), stopping(patience=2, start_from_epoch=7)],
    [cycle(total_steps=20), stopping(patience=4)],
]


@pytest.mark.parametrize(("listed", "says"), DOUBTFUL)
def test_what_makes_others_useless(listed, says):
    (message,) = doubtful(listed, EPOCHS)
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(message)


@pytest.mark.parametrize("listed", PEACEFUL)
def test_what_goes_together(listed):
    assert not [*doubtful(listed, EPOCHS), *refused(listed, NAGD())]


def test_without_a_fit_a_cycle_may_be_ended():
    assert len([*doubtful([cycle(), stopping(patience=99)], {})]) == 1


def test_each_is_said_once_before_training():
    model, before = eager(NAGD()), []

    def said():
        return sum("takes off is lost" in str(each.message) for each in caught)

    look = keras_callbacks.LambdaCallback(on_epoch_begin=lambda *_: before.append(said()))
    listed = [plateau(), OneCycle(0.1), HyperparameterMonitor(), AdaptiveRestart(), look]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(model, *listed, epochs=2)
        fit(model, *listed, epochs=1)
    assert before == [1, 1, 2]


@pytest.mark.keep(1)
@pytest.mark.parametrize("listed", [each for each, _ in REFUSED[:2]])
def test_a_fit_is_refused_before_training(listed):
    model = eager(NAGD())
    before = snapshot(model)
    with pytest.raises(ValueError, match="Only one callback of a fit can"):
        fit(model, *listed)
    assert_identical(snapshot(model), before)
    for each in listed:  # one after the other
        fit(model, each, epochs=1)


def test_a_callback_finds_the_list_of_this_fit():
    """Also where that of an earlier one, which failed, is still there."""

    class Fails(keras_callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            raise InterruptedError

    found = []
    here = keras_callbacks.LambdaCallback(on_train_begin=lambda logs: found.append(None))
    here.on_train_begin = lambda logs: found.append(listed_with(here))
    model = eager(NAGD())
    with pytest.raises(InterruptedError) as held:
        fit(model, here, Fails())
    fit(model, here, momentum(), epochs=1)
    names = [[type(each).__name__ for each in listed] for listed in found]
    assert names[0] == ["LambdaCallback", "Fails", "History"], held
    assert names[1] == ["LambdaCallback", "MomentumScheduler", "History"]
    assert listed_with(keras_callbacks.Callback()) != []


# Rates that are set where a schedule rules


def test_a_scheduled_rate_can_be_lowered_but_not_raised():
    optimizer = NAGD(schedules.LinearWarmup(0.5, 4, start=0.25))
    optimizer.learning_rate = 0.125
    assert float(optimizer.learning_rate) == 0.125
    with pytest.raises(ValueError, match=r"0\.5, where.*gives 0\.125 now.*learning_rate\(4\)"):
        optimizer.learning_rate = 0.5
    assert float(optimizer.learning_rate) == 0.125
    optimizer.scale_learning_rate(4)
    assert float(optimizer.learning_rate) == 0.5


@pytest.mark.parametrize("rates", [(0.05, 0.001), (0.001, 0.05)])
def test_a_scheduler_of_numbers_is_refused_where_it_would_raise(rates):
    """At once where a schedule warms up, and in the second epoch where it falls."""
    first, last = rates
    model = eager(NAGD(schedules.OneCycle(first, last, last, STEPS)))
    scheduler = keras_callbacks.LearningRateScheduler(lambda epoch, rate: 0.02)
    with pytest.raises(ValueError, match="can be lowered by setting it"):
        fit(model, scheduler)


def test_a_range_test_scales_a_schedule():
    from nagd_keras.callbacks import find_learning_rate

    model = eager(NAGD(schedules.LinearWarmup(0.05, 4, start=0.025)))
    x, y = np.ones((16, 4)), np.ones((16, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = find_learning_rate(model, x, y, min=0.001, max=0.1, steps=4, verbose=0)
    np.testing.assert_allclose(found.learning_rates, np.geomspace(0.001, 0.1, 4))
    assert float(model.optimizer.learning_rate) == np.float32(0.025)
