"""Every callback with every way to train, held against a loop that does the same by hand."""

import keras
import numpy as np
import pytest

from nagd_keras import schedules
from nagd_keras.callbacks import (
    AdaptiveRestart,
    EvaluateAtIterate,
    HyperparameterMonitor,
    MomentumScheduler,
    OneCycle,
    StopAtTolerance,
)
from tests.reference.schedules import one_cycle
from tests.support.drivers import assert_identical, snapshot, to_float64
from tests.support.tolerances import TRAJECTORY, UNIT, assert_close
from tests.support.training import BATCH, EACH_WAY, STEPS, data, nagd

pytestmark = pytest.mark.long  # see pyproject.toml


def by_hand(way, settings, before_batch=None, after_epoch=None):
    """Trains batch by batch; the two functions do to the optimizer what a callback should."""
    model = way.start(**settings)
    model.steps_per_execution = 1
    x, y = data()
    for fit, epochs in enumerate(way.epochs()):
        for epoch in epochs:
            for batch in range(STEPS):
                if before_batch:
                    before_batch(nagd(model), fit, epoch, batch)
                rows = slice(batch * BATCH, (batch + 1) * BATCH)
                model.train_on_batch(x[rows], y[rows])
            if after_epoch:
                after_epoch(nagd(model), fit, epoch)
    return model


def assert_same_weights(way, model, reference):
    for found, wanted in zip(model.weights, reference.weights, strict=True):
        tolerance = TRAJECTORY[way.dtype]
        assert_close(to_float64(found), to_float64(wanted), tolerance, found.path)


def assert_same_weights_together(way, model, reference):
    """With a schedule, whose roundings differ within a step and alone.

    They reach a small bias through the errors of large weights, so all are one vector here.
    """
    found, wanted = (
        np.concatenate([to_float64(weight).ravel() for weight in each.weights])
        for each in (model, reference)
    )
    assert_close(found, wanted, TRAJECTORY[way.dtype])


def finished_batches(optimizer):
    """As schedules count: what was accumulated, but not what loss scaling skipped."""
    return int(optimizer._iterations)


def first_of_execution(way, batch):
    """The batch before which a callback can last act."""
    steps = way.compile.get("steps_per_execution", 1)
    return batch - batch % steps


@EACH_WAY
def test_momentum_scheduler(way):
    def momentum(epoch):
        return 0.9 - 0.4 / (epoch + 1)

    settings = {"learning_rate": 0.02, "momentum": 0.3}
    model = way.start(**settings)
    histories = way.train(model, [MomentumScheduler(lambda epoch, old: momentum(epoch))])
    reference = by_hand(
        way,
        settings,
        lambda optimizer, fit, epoch, batch: setattr(optimizer, "momentum", momentum(epoch)),
    )
    assert_same_weights(way, model, reference)
    for history, epochs in zip(histories, way.epochs(), strict=True):
        wanted = [np.float32(momentum(epoch)) for epoch in epochs]
        assert history.history["momentum"] == wanted


@EACH_WAY
def test_one_cycle(way):
    peak, first = 0.04, 0.04 / 25

    def step(fit, epoch, batch):
        return epoch * STEPS + first_of_execution(way, batch), way.fits[fit]["epochs"] * STEPS

    def set_both(optimizer, *where):
        at, total = step(*where)
        # All steps in one call, as the callback makes it: the last bit may depend on that.
        every = np.arange(total)
        optimizer.learning_rate = schedules.OneCycle(first, peak, first / 1e4, total)(every)[at]
        optimizer.momentum = schedules.OneCycle(0.95, 0.85, 0.95, total)(every)[at]

    settings = {"learning_rate": 0.5, "momentum": 0.5}
    model = way.start(**settings)
    histories = way.train(model, [OneCycle(peak, momentum=(0.95, 0.85))])
    assert_same_weights(way, model, by_hand(way, settings, set_both))
    for fit, (history, epochs) in enumerate(zip(histories, way.epochs(), strict=True)):
        wanted = []
        for epoch in epochs:
            at, total = step(fit, epoch, STEPS - 1)
            shape = total, 0.3, "cosine", False
            rate = one_cycle(first, peak, first / 1e4, *shape)(at)
            wanted.append((rate, one_cycle(0.95, 0.85, 0.95, *shape)(at)))
        found = zip(history.history["learning_rate"], history.history["momentum"], strict=True)
        # Near its end a cycle is the peak times 1 + cos, where the rounding of cos stays.
        unit = UNIT["float32"]
        np.testing.assert_allclose(list(found), wanted, rtol=4 * unit, atol=peak * unit)


@EACH_WAY
def test_adaptive_restart(way):
    settings = {"learning_rate": 0.3, "momentum": 0.97}
    model = way.start(**settings)
    histories = way.train(model, [AdaptiveRestart()])
    losses = [history.history["loss"] for history in histories]
    # The rule, on the losses that were seen: each epoch of a run that goes on has a predecessor.
    restarts, before = set(), None
    for fit, epochs in enumerate(way.epochs()):
        for epoch, loss in zip(epochs, losses[fit], strict=True):
            if epoch > 0 and before is not None and loss > before:
                restarts.add((fit, epoch))
            before = loss
    assert restarts, "the learning rate is too small for a test"
    assert int(nagd(model).restarts) == len(restarts)
    reference = by_hand(
        way,
        settings,
        after_epoch=lambda optimizer, *when: when in restarts and optimizer.reset_momentum(),
    )
    assert_same_weights(way, model, reference)
    assert int(nagd(model).age) == int(nagd(reference).age)


@EACH_WAY
def test_schedules_are_the_numbers_that_they_give(way):
    """Each set by hand before every batch, at the step where the README says it is read."""
    rate = schedules.LinearWarmup(schedules.OneCycle(0.02, 0.05, 0.01, 9), 5, start=0.01)
    momentum = schedules.NesterovMomentum()
    decay = schedules.Piecewise([4], [0.0, schedules.OneCycle(0.1, 0.2, 0.0, 12)])
    same = {"learning_rate_multipliers": {"hidden": 2.0, "bias": 0.5}}
    model = way.start(learning_rate=rate, momentum=momentum, weight_decay=decay, **same)
    way.train(model)

    def set_all(optimizer, fit, epoch, batch):
        optimizer.learning_rate = rate(finished_batches(optimizer))
        optimizer.momentum = momentum(optimizer.age + 1)
        optimizer.weight_decay = decay(finished_batches(optimizer))

    reference = by_hand(way, {"weight_decay": 0.0, **same}, set_all)
    assert finished_batches(nagd(reference)) >= 16  # All parts of the schedules had their turn.
    assert_same_weights_together(way, model, reference)


@EACH_WAY
def test_plateau_with_a_schedule(way):
    decay = keras.optimizers.schedules.PolynomialDecay(0.05, 30, 0.01)
    model = way.start(learning_rate=decay)
    plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e9)
    way.train(model, [plateau])
    factor = 1.0

    def set_rate(optimizer, fit, epoch, batch):
        optimizer.learning_rate = factor * decay(finished_batches(optimizer))

    def halve(optimizer, fit, epoch):
        nonlocal factor
        if epoch != way.epochs()[fit][0]:  # The first of a fit is the best, whatever its loss.
            factor /= 2

    reference = by_hand(way, {}, set_rate, halve)
    assert factor <= 1 / 4
    assert_same_weights_together(way, model, reference)


@EACH_WAY
def test_observers_report_and_change_nothing(way):
    observers = [
        HyperparameterMonitor(every_n_batches=2, norms=True),
        EvaluateAtIterate(),
        StopAtTolerance(gradient_norm=0, relative_loss_change=0),
    ]
    states = []
    for callbacks in ([], observers):
        model = way.start(learning_rate=0.05, momentum=0.8, weight_decay=0.001)
        histories = way.train(model, callbacks, validation_data=data())
        named = nagd(model)._state.named().items()
        states.append(snapshot(model, [v for n, v in named if n.slot != "gradient_norm"]))
    assert_identical(*states)
    for history, epochs in zip(histories, way.epochs(), strict=True):
        found = history.history
        for name, value in {"learning_rate": 0.05, "momentum": 0.8, "weight_decay": 0.001}.items():
            assert found[name] == [np.float32(value)] * len(epochs)
        assert "restarts" not in found  # as nothing here restarts
        assert all(0 < value < np.inf for value in found["gradient_norm"])
    displacements = [to_float64(s) for s in nagd(model).displacements]
    wanted = np.sqrt(sum(np.sum(s**2) for s in displacements))
    assert found["displacement_norm"][-1] == pytest.approx(wanted, rel=1e-6)
    # The validation was that of the iterate.
    x, y = data()
    at_look_ahead = model.evaluate(x, y, verbose=0, batch_size=BATCH)[0]
    for variable, displacement in zip(
        model.trainable_variables, nagd(model).displacements, strict=True
    ):
        variable.assign(variable - displacement)
    at_iterate = model.evaluate(x, y, verbose=0, batch_size=BATCH)[0]
    assert found["val_loss"][-1] == at_iterate != at_look_ahead


@EACH_WAY
def test_stop_at_tolerance_counts_calm_epochs(way):
    """A tolerance that every epoch after the first keeps stops after `patience` of them."""
    model = way.start(learning_rate=0.01)
    fits = way.train(model, [StopAtTolerance(relative_loss_change=1e6, patience=2)])
    calm = 0
    for history, epochs in zip(fits, way.epochs(), strict=True):
        ran = []
        for epoch in epochs:
            ran.append(epoch)
            has_predecessor = epoch > 0 and (len(ran) > 1 or history is not fits[0])
            calm = calm + 1 if has_predecessor else 0
            if calm >= 2:
                calm = 0  # A fit that goes on has its patience again.
                break
        assert history.epoch == ran


@EACH_WAY
def test_all_together(way):
    """The callbacks do not disturb each other."""
    model = way.start(learning_rate=0.05)
    callbacks = [
        EvaluateAtIterate(),
        OneCycle(0.05, momentum=(0.95, 0.85)),
        AdaptiveRestart(every_n_batches=2),
        StopAtTolerance(gradient_norm=0),
        HyperparameterMonitor(every_n_batches=1, norms=True),
        keras.callbacks.EarlyStopping(monitor="val_loss", patience=9),
    ]
    histories = way.train(model, callbacks, validation_data=data())
    assert [history.epoch for history in histories] == way.epochs()
    assert not nagd(model).at_iterate
    assert all(np.isfinite(value).all() for value in snapshot(model))
