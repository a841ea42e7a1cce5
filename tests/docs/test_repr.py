"""What an object says of itself: the call that makes it."""

import keras
import pytest

from nagd_keras import NAGD, callbacks, directions, schedules
from nagd_keras.callbacks import (
    AdaptiveRestart,
    Backup,
    EvaluateAtIterate,
    HyperparameterMonitor,
    MomentumScheduler,
    OneCycle,
    StopAtTolerance,
)

MOMENTUM = schedules.SutskeverMomentum(0.99, 250)


@pytest.mark.parametrize(
    ("optimizer", "wanted"),
    [
        (NAGD, "NAGD(learning_rate=0.01, momentum=0.9)"),
        (
            lambda: NAGD(0.1, MOMENTUM, weight_decay=1e-4, restart="speed", clipnorm=1.0),
            "NAGD(learning_rate=0.1, momentum=SutskeverMomentum(max_momentum=0.99, period=250), "
            "weight_decay=1e-04, restart='speed', clipnorm=1.0)",
        ),
        (
            lambda: NAGD(direction="adaptive", sparse_updates="dense", slot_dtype="float16"),
            "NAGD(learning_rate=0.003, momentum=0.9, "
            "direction=Adaptive(beta_2=0.99, epsilon=1e-12), slot_dtype='float16')",
        ),
        (
            lambda: NAGD(learning_rate_multipliers={"kernel": 0.5}, skip_nonfinite=True, name="x"),
            "NAGD(learning_rate=0.01, momentum=0.9, skip_nonfinite=True, "
            "learning_rate_multipliers={'kernel': 0.5}, name='x')",
        ),
    ],
)
def test_an_optimizer(optimizer, wanted):
    assert repr(optimizer()) == wanted


def test_an_optimizer_tells_what_its_numbers_are_now():
    optimizer = NAGD()
    optimizer.momentum = 0.95
    assert repr(optimizer) == "NAGD(learning_rate=0.01, momentum=0.95)"


class Derived(NAGD):
    """With an argument of its own."""

    def __init__(self, mine=0, **settings):
        super().__init__(**settings)


def test_a_derived_optimizer():
    assert repr(Derived(momentum=0.5)) == "Derived(learning_rate=0.01, momentum=0.5)"


def scheme(epoch, momentum):
    return momentum


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (
            AdaptiveRestart(min_delta=0.5, every_n_batches=3),
            "AdaptiveRestart(monitor='loss', mode='auto', min_delta=0.5, every_n_batches=3, "
            "verbose=0)",
        ),
        (EvaluateAtIterate(), "EvaluateAtIterate()"),
        (HyperparameterMonitor(2), "HyperparameterMonitor(every_n_batches=2, norms=False)"),
        (MomentumScheduler(MOMENTUM), f"MomentumScheduler(schedule={MOMENTUM!r}, verbose=0)"),
        (
            OneCycle(momentum=(0.95, 0.85), anneal="linear"),
            "OneCycle(max_learning_rate=None, total_steps=None, momentum=(0.95, 0.85), "
            "warm_up_fraction=0.3, initial_divisor=25.0, final_divisor=10000.0, anneal='linear', "
            "three_phase=False)",
        ),
        (
            StopAtTolerance(1e-3, patience=2),
            "StopAtTolerance(gradient_norm=0.001, relative_loss_change=None, patience=2, "
            "verbose=0)",
        ),
    ],
    ids=lambda x: "" if isinstance(x, str) else type(x).__name__,
)
def test_a_callback(made, wanted):
    assert repr(made) == wanted
    names = {"NAGD": NAGD, "SutskeverMomentum": schedules.SutskeverMomentum}
    again = eval(repr(made), {**vars(callbacks), **names})
    assert repr(again) == wanted


def test_a_backup(tmp_path):
    assert repr(Backup(tmp_path)) == f"Backup(folder={tmp_path!r}, keep=2, verbose=1)"


class Longer(OneCycle):
    """With an argument that it does not keep."""

    def __init__(self, warm_up, **settings):
        super().__init__(warm_up_fraction=warm_up, **settings)


def test_a_derived_callback_tells_what_it_can():
    assert repr(Longer(0.5)) == "Longer()"


@pytest.mark.parametrize(
    "made", [directions.Gradient(), directions.Adaptive(0.9), directions.Orthogonal(exclude=["a"])]
)
def test_a_direction(made):
    again = eval(repr(made), vars(directions))
    assert again.get_config() == made.get_config()


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the step is TensorFlow's")
def test_an_optimizer_in_a_compiled_step():
    import tensorflow as tf

    optimizer, said = NAGD(), []
    tf.function(lambda: said.append(repr(optimizer)))()
    assert "NAGD(learning_rate=Tensor" in said[0]
