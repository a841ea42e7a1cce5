"""What the callbacks refuse, before anything is trained."""

import keras
import pytest

from nagd_keras import NAGD, schedules
from nagd_keras.callbacks import (
    AdaptiveRestart,
    EvaluateAtIterate,
    HyperparameterMonitor,
    MomentumScheduler,
    OneCycle,
    StopAtTolerance,
    at_iterate,
    find_learning_rate,
)
from tests.support.drivers import assert_identical, snapshot
from tests.support.training import BATCH, data, fit, network


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: MomentumScheduler(0.9), TypeError, "function of the epoch.*schedule=0.9"),
        (lambda: OneCycle(0), ValueError, r"`max_learning_rate`.*max_learning_rate=0"),
        (lambda: OneCycle(float("nan")), ValueError, "max_learning_rate=nan"),
        (lambda: OneCycle(keras.Variable(0.1)), TypeError, r"not be a variable.*float\(variable\)"),
        (lambda: OneCycle("1"), TypeError, "max_learning_rate='1'"),
        (lambda: OneCycle(0.1, initial_divisor=0.5), ValueError, "initial_divisor=0.5"),
        (lambda: OneCycle(0.1, final_divisor=0), ValueError, "final_divisor=0"),
        (lambda: OneCycle(0.1, momentum=0.9), ValueError, "momentum=0.9"),
        (lambda: OneCycle(0.1, momentum=(0.9, 1.0)), ValueError, r"momentum=\(0.9, 1.0\)"),
        (lambda: OneCycle(0.1, momentum=(0.8, 0.9)), ValueError, "the largest and the smallest"),
        (lambda: OneCycle(0.1, anneal="exp"), ValueError, "anneal='exp'"),
        (lambda: OneCycle(0.1, warm_up_fraction=1.0), ValueError, "Received.*1.0"),
        (lambda: OneCycle(0.1, total_steps=3), ValueError, "total_steps=3.*more steps"),
        (lambda: OneCycle(0.1, total_steps=0), ValueError, "total_steps=0"),
        (
            lambda: OneCycle(0.1, warm_up_fraction=0.6, three_phase=True),
            ValueError,
            "to one half or less",
        ),
        (lambda: AdaptiveRestart(mode="down"), ValueError, "mode='down'"),
        (lambda: AdaptiveRestart("quality"), ValueError, "monitor='quality'.*Pass mode"),
        (lambda: AdaptiveRestart(monitor=None), TypeError, "monitor=None"),
        (lambda: AdaptiveRestart(min_delta=-1), ValueError, "min_delta=-1"),
        (lambda: AdaptiveRestart(min_delta=float("nan")), ValueError, "min_delta=nan"),
        (lambda: AdaptiveRestart(every_n_batches=0), ValueError, "every_n_batches=0"),
        (lambda: HyperparameterMonitor(every_n_batches=0), ValueError, "every_n_batches=0"),
        (lambda: HyperparameterMonitor(every_n_batches=True), TypeError, "every_n_batches=True"),
        (lambda: StopAtTolerance(), ValueError, "at least one"),
        (lambda: StopAtTolerance(gradient_norm=-1), ValueError, "gradient_norm=-1"),
        (lambda: StopAtTolerance(relative_loss_change=float("nan")), ValueError, "change=nan"),
        (lambda: StopAtTolerance(1e-3, patience=0), ValueError, "patience=0"),
    ],
)
def test_bad_settings(make, error, says):
    with pytest.raises(error, match=says):
        make()


SGD, SCHEDULE = keras.optimizers.SGD, schedules.LinearWarmup(0.1, 5)


@pytest.mark.keep(8)
@pytest.mark.parametrize(
    ("optimizer", "callback", "error", "says"),
    [
        (
            lambda: SGD(0.1, 0.9),
            lambda: MomentumScheduler(lambda e, m: 0.5),
            TypeError,
            r"SGD, which has none.*ignored.*NAGD",
        ),
        (
            lambda: keras.optimizers.Adam(),
            lambda: MomentumScheduler(lambda e, m: 0.5),
            TypeError,
            r"Adam, which has none",
        ),
        (
            lambda: NAGD(momentum=SCHEDULE),
            lambda: MomentumScheduler(lambda e, m: 0.5),
            TypeError,
            "schedule or a callable.*number as momentum",
        ),
        (
            NAGD,
            lambda: MomentumScheduler(lambda e, m: float("nan")),
            ValueError,
            r"nan from the `schedule` of MomentumScheduler in epoch 0",
        ),
        (NAGD, lambda: MomentumScheduler(lambda e: 0.5 + e / 4), ValueError, r"1\.0 from.*epoch 2"),
        (NAGD, lambda: MomentumScheduler(lambda e, m: None), TypeError, "None from"),
        (
            lambda: SGD(0.1, 0.9),
            lambda: OneCycle(0.1, momentum=(0.95, 0.85)),
            TypeError,
            "sets the momentum.*or pass momentum=None",
        ),
        (lambda: NAGD(SCHEDULE), lambda: OneCycle(0.1), TypeError, "number as learning_rate"),
        (lambda: SGD(SCHEDULE), lambda: OneCycle(0.1, momentum=None), TypeError, "as learning"),
        (
            lambda: NAGD(momentum=SCHEDULE),
            lambda: OneCycle(0.1, momentum=(0.95, 0.85)),
            TypeError,
            "number as momentum",
        ),
        (NAGD, lambda: OneCycle(0.1, warm_up_fraction=0.05), ValueError, "Take more steps"),
        (SGD, AdaptiveRestart, TypeError, "AdaptiveRestart needs the optimizer NAGD.*with SGD"),
        (SGD, EvaluateAtIterate, TypeError, "EvaluateAtIterate needs"),
        (SGD, lambda: StopAtTolerance(1e-3), TypeError, "StopAtTolerance needs"),
        (SGD, lambda: HyperparameterMonitor(norms=True), TypeError, "HyperparameterMonitor needs"),
    ],
)
def test_what_is_refused_before_training(optimizer, callback, error, says):
    model = network(optimizer())
    model.optimizer.build(model.trainable_variables)
    before = snapshot(model, model.optimizer)
    with pytest.raises(error, match=f"(?s){says}"):
        fit(model, callback(), epochs=3)
    assert_identical(snapshot(model, model.optimizer), before)
    assert "evaluate" not in vars(model)


def test_data_of_unknown_length_need_a_number_of_steps():
    def batches():
        while True:
            yield tuple(a[:BATCH] for a in data())

    model = network(NAGD())
    with pytest.raises(ValueError, match="Pass total_steps to OneCycle, or steps_per_epoch"):
        model.fit(batches(), callbacks=[OneCycle(0.1)], verbose=0, shuffle=False)
    model.fit(batches(), steps_per_epoch=8, callbacks=[OneCycle(0.1)], verbose=0, shuffle=False)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.1 / 25e4, rel=1e-6)


def test_a_model_that_is_not_compiled():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match=r"no optimizer\. Compile it first"), at_iterate(model):
        pass


@pytest.mark.keep(5)
@pytest.mark.parametrize("verbose", ["auto", None, 2, [1]])
@pytest.mark.parametrize(
    "make",
    [
        lambda verbose: MomentumScheduler(lambda epoch: 0.5, verbose),
        lambda verbose: AdaptiveRestart(verbose=verbose),
        lambda verbose: StopAtTolerance(1.0, verbose=verbose),
        lambda verbose: find_learning_rate(network(NAGD()), *data(), verbose=verbose),
    ],
)
def test_verbosity(make, verbose):
    with pytest.raises(ValueError, match=r"`verbose` must be one of 0, 1.*Received: verbose="):
        make(verbose)


def test_norms_are_wanted_or_not():
    with pytest.raises(TypeError, match="norms='no'"):
        HyperparameterMonitor(norms="no")


@pytest.mark.keep(1)
@pytest.mark.parametrize("name", ["momentum", "weight_decay"])
def test_what_is_set_on_the_loss_scaling_is_lost(name):
    model = network(keras.optimizers.LossScaleOptimizer(NAGD(weight_decay=0.0)))
    setattr(model.optimizer, name, 0.5)
    with pytest.raises(ValueError, match=f"inner_optimizer.{name} instead"):
        fit(model, HyperparameterMonitor())
    setattr(model.optimizer, name, None)
    setattr(model.optimizer.inner_optimizer, name, 0.5)
    assert fit(model, HyperparameterMonitor(), epochs=1).history[name] == [0.5]
