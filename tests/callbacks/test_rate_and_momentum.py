"""Callbacks of the learning rate and the momentum, and what they say of themselves."""

import keras
import numpy as np
import pytest

from nagd_keras import NAGD, schedules
from nagd_keras.callbacks import (
    AdaptiveRestart,
    DivergenceGuard,
    EvaluateAtIterate,
    HyperparameterMonitor,
    MomentumScheduler,
    OneCycle,
    StopAtTolerance,
)
from tests.support.drivers import assert_identical, snapshot
from tests.support.limits import needs
from tests.support.tolerances import UNIT
from tests.support.training import STEPS, fit, network

# The learning rate and the momentum


class Record(keras.callbacks.Callback):
    """The learning rate and momentum that each batch was trained with."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        optimizer = self.model.optimizer
        self.seen.append((float(optimizer.learning_rate), float(optimizer.momentum)))


def test_momentum_scheduler_gives_the_present_momentum_and_prints(capsys):
    model = network(NAGD(momentum=0.5))
    history = fit(model, MomentumScheduler(lambda epoch, m: (1 + m) / 2, verbose=1))
    assert history.history["momentum"] == [0.75, 0.875, 0.9375]
    assert "Epoch 2: MomentumScheduler setting momentum to 0.875." in capsys.readouterr().out


@pytest.mark.long
def test_momentum_scheduler_takes_a_schedule_of_epochs():
    model = network(NAGD())
    schedule = schedules.Piecewise([1], [0.5, 0.75])
    assert fit(model, MomentumScheduler(schedule)).history["momentum"] == [0.5, 0.75, 0.75]


@pytest.mark.keep(1)
@pytest.mark.parametrize("anneal", ["cosine", "linear"])
@pytest.mark.parametrize("three_phase", [False, True])
def test_one_cycle_is_the_schedule_at_every_batch(anneal, three_phase):
    """The schedule is held against PyTorch in `schedules/test_values.py`."""
    model, record = network(NAGD()), Record()
    shape = {"anneal": anneal, "three_phase": three_phase}
    cycle = OneCycle(
        0.1,
        momentum=(0.9, 0.7),
        warm_up_fraction=0.4,
        initial_divisor=10,
        final_divisor=100,
        **shape,
    )
    fit(model, cycle, record)
    wanted = [
        schedules.OneCycle(*corners, 3 * STEPS, 0.4, **shape)(np.arange(3 * STEPS))
        for corners in [(0.01, 0.1, 0.0001), (0.9, 0.7, 0.9)]
    ]
    np.testing.assert_allclose(record.seen, np.transpose(wanted), rtol=2 * UNIT["float32"])


@pytest.mark.long
def test_one_cycle_of_given_length_goes_on_over_fits_and_ends():
    model, record = network(NAGD()), Record()
    cycle = OneCycle(0.1, total_steps=2 * STEPS)
    fit(model, cycle, record, epochs=1)
    with pytest.warns(UserWarning, match=r"ends before this fit.*made 6 steps.* least 12"):
        fit(model, cycle, record, epochs=2)  # One epoch longer than the cycle.
    at = np.minimum(np.arange(3 * STEPS), 2 * STEPS - 1)
    wanted = schedules.OneCycle(0.1 / 25, 0.1, 0.1 / 25e4, 2 * STEPS)(at)
    np.testing.assert_allclose([lr for lr, _ in record.seen], wanted, rtol=2 * UNIT["float32"])
    with pytest.raises(UserWarning, match=r"total_steps=12 ends before.*has made 18 steps"):
        fit(model, cycle)


@pytest.mark.keep(1)
@pytest.mark.parametrize("make", [keras.optimizers.SGD, keras.optimizers.Adam])
def test_one_cycle_of_the_learning_rate_alone_drives_any_optimizer(make):
    model = network(make(0.01))
    history = fit(model, OneCycle(0.1, momentum=None))
    wanted = schedules.OneCycle(0.1 / 25, 0.1, 0.1 / 25e4, 3 * STEPS)
    for epoch, rate in enumerate(history.history["learning_rate"]):
        assert rate == pytest.approx(float(wanted(epoch * STEPS + STEPS - 1)), rel=1e-6)
    assert "momentum" not in history.history


def test_an_empty_fit_is_left_alone():
    model = network(NAGD())
    before = snapshot(model, model.optimizer)
    everything = [
        EvaluateAtIterate(),
        OneCycle(0.1),
        AdaptiveRestart(),
        StopAtTolerance(gradient_norm=1.0),
        HyperparameterMonitor(norms=True),
    ]
    assert fit(model, *everything, epochs=0).history == {}
    assert_identical(snapshot(model), before[: len(model.variables)])
    assert "evaluate" not in vars(model)


@pytest.mark.long
def test_a_warm_up_from_zero_survives_being_set_to_what_it_is():
    """LearningRateScheduler does so; 0 of 0 is no ratio to scale by."""
    model = network(NAGD(schedules.LinearWarmup(0.05, 4)))
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch, rate: float(rate))
    fit(model, scheduler)
    assert float(model.optimizer.learning_rate) == np.float32(0.05)


# Plateau and schedule


@pytest.mark.keep(1)
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_plateau_multiplies_whatever_the_schedule_says(policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    decay = keras.optimizers.schedules.PolynomialDecay(0.1, 100, 0.01)
    model = network(NAGD(decay))
    plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e9)
    history = fit(model, plateau, HyperparameterMonitor(), epochs=4)
    nagd = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    steps = int(nagd.iterations)
    # The first epoch is the best so far; each of the others halves the rate.
    assert float(model.optimizer.learning_rate) == pytest.approx(
        float(decay(steps)) / 8, rel=4 * UNIT["float32"]
    )
    assert len(history.history["learning_rate"]) == 4
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert float(loaded.optimizer.learning_rate) == float(model.optimizer.learning_rate)
    for each in (model, loaded):
        fit(each)
    assert_identical(snapshot(loaded, loaded.optimizer), snapshot(model, model.optimizer))


@pytest.mark.long
def test_a_scaled_schedule_trains_like_one_that_was_made_so():
    halved = network(NAGD(schedules.LinearWarmup(0.05, 4, start=0.025)))
    halved.optimizer.learning_rate = 0.0125
    wanted = network(NAGD(schedules.LinearWarmup(0.025, 4, start=0.0125)))
    for model in (halved, wanted):
        fit(model)
    assert_identical(snapshot(halved), snapshot(wanted))


# The monitor


def test_monitor_in_csv_tensorboard_and_progress_bar(tmp_path, capsys):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    def values(name):
        return [make_ndarray(event.tensor_proto).item() for event in board.Tensors(name)]

    model = network(NAGD(schedules.LinearWarmup(0.05, 4, start=0.01), 0.75, weight_decay=0.5))
    fit(
        model,
        HyperparameterMonitor(every_n_batches=2, norms=True),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.TensorBoard(tmp_path / "board", update_freq=1, write_graph=False),
        epochs=2,
        verbose=2,
    )
    wanted = model.history.history
    # The schedule is 0.05 from step 4 on, and epochs end after 6 and 12.
    assert wanted["learning_rate"] == [np.float32(0.05)] * 2
    assert wanted["momentum"] == [0.75] * 2
    assert wanted["weight_decay"] == [0.5] * 2

    head, *rows = (tmp_path / "log.csv").read_text().splitlines()
    table = dict(
        zip(head.split(","), zip(*(row.split(",") for row in rows), strict=True), strict=True)
    )
    assert "learning_rate: 0.05" in capsys.readouterr().out
    board = EventAccumulator(str(tmp_path / "board" / "train"))
    board.Reload()
    for name in ("learning_rate", "momentum", "weight_decay", "gradient_norm"):
        assert [float(value) for value in table[name]] == wanted[name]
        assert values(f"epoch_{name}") == wanted[name]
    steps = [event.step for event in board.Tensors("batch_learning_rate")]
    assert steps == [2, 4, 6, 8, 10, 12]  # as Keras counts batches
    # After 2 batches the third is to come: step 2 of the warm-up.
    assert values("batch_learning_rate")[0] == pytest.approx(0.03, rel=1e-6)


def test_monitor_of_other_optimizers():
    model = network(keras.optimizers.SGD(0.125, momentum=0.5))
    history = fit(model, HyperparameterMonitor())
    assert history.history["learning_rate"] == [0.125] * 3
    assert history.history["momentum"] == [0.5] * 3
    assert "restarts" not in history.history


@pytest.mark.parametrize(
    "direction", ["gradient", pytest.param("adaptive", marks=pytest.mark.long)]
)
def test_restarts_are_shown_where_there_can_be_some(direction, capsys):
    """A progress bar makes 0.0000e+00 of their 0."""
    fit(network(NAGD(direction=direction)), HyperparameterMonitor(), verbose=1)
    assert "restarts" not in capsys.readouterr().out
    optimizer = NAGD(direction=direction, restart="gradient")
    assert len(fit(network(optimizer), HyperparameterMonitor()).history["restarts"]) == 3
    for callback in (AdaptiveRestart(), DivergenceGuard()):
        model = network(NAGD(direction=direction))
        assert len(fit(model, callback, HyperparameterMonitor()).history["restarts"]) == 3


def test_a_scaled_schedule_keeps_float64(float64):
    optimizer = NAGD(schedules.LinearWarmup(0.3, 4, start=0.3))
    optimizer.learning_rate = 0.1
    assert abs(float(optimizer.learning_rate) / 0.1 - 1) < 8 * UNIT["float64"]


def test_momentum_scheduler_checks_a_second_fit_again():
    model = network(NAGD())
    scheduler = MomentumScheduler(lambda epoch: 0.5 + epoch / 8)
    fit(model, scheduler, epochs=2)
    before = snapshot(model)
    with pytest.raises(ValueError, match="in epoch 5"):
        fit(model, scheduler, epochs=6)
    assert_identical(snapshot(model), before)


def test_a_momentum_is_checked_where_it_is_used():
    model = network(NAGD(momentum=0.9))
    with pytest.raises(ValueError, match="MomentumScheduler in epoch 2"):
        fit(model, MomentumScheduler(lambda epoch, momentum: momentum + 0.04))
    assert float(model.optimizer.momentum) == pytest.approx(0.98)


def test_a_cycle_that_just_ended_warns():
    model, cycle = network(NAGD()), OneCycle(0.1, total_steps=2 * STEPS)
    fit(model, cycle, epochs=2)
    with pytest.raises(UserWarning, match="has made 12 steps"):
        fit(model, cycle, epochs=1)


def test_one_cycle_goes_to_any_step():
    model, steps = network(NAGD()), 2500
    model.optimizer.build(model.trainable_variables)
    cycle = OneCycle(0.1, total_steps=steps)
    cycle.set_model(model)
    cycle.set_params({"epochs": 1, "steps": steps})
    cycle.on_train_begin()
    wanted = schedules.OneCycle(0.1 / 25, 0.1, 0.1 / 25e4, steps)
    for step in (0, 1023, 1024, 1500, 2047, 2048, 2499, 100):
        model.optimizer.iterations.assign(step)
        cycle.on_train_batch_begin(step)
        assert float(model.optimizer.learning_rate) == pytest.approx(float(wanted(step)), rel=1e-6)


def test_the_limits_of_the_cycle_are_allowed():
    model, record = network(NAGD()), Record()
    fit(model, OneCycle(0.125, momentum=(0.5, 0.5), initial_divisor=1), record, epochs=3)
    assert [momentum for _, momentum in record.seen] == [0.5] * 3 * STEPS
    assert record.seen[0][0] == pytest.approx(0.125)


@pytest.mark.long
@needs("steps per execution")
def test_monitor_every_n_batches_between_executions():
    class Seen(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if "momentum" in logs:
                seen.append(int(self.model.optimizer.iterations))

    seen = []
    model = network(NAGD(), steps_per_execution=3)
    fit(model, HyperparameterMonitor(every_n_batches=2), Seen(), epochs=1)
    assert seen == [3, 6]


@pytest.mark.long
def test_one_cycle_of_given_length_counts_accumulated_batches():
    model, record = network(NAGD(gradient_accumulation_steps=3)), Record()
    fit(model, OneCycle(0.1, total_steps=3 * STEPS), record)
    wanted = schedules.OneCycle(0.1 / 25, 0.1, 0.1 / 25e4, 3 * STEPS)(np.arange(3 * STEPS))
    np.testing.assert_allclose([lr for lr, _ in record.seen], wanted, rtol=2 * UNIT["float32"])


def test_a_short_warm_up_may_suit_a_long_fit():
    """The length of the fit is not known when the callback is made."""
    OneCycle(0.1, warm_up_fraction=0.001)


@pytest.mark.keep(1)
@pytest.mark.parametrize("first", [0, 1])
def test_the_momentum_can_follow_one_callback_only(first):
    both = [MomentumScheduler(lambda epoch: 0.5), OneCycle(0.1, momentum=(0.95, 0.85))]
    model = network(NAGD())
    before = snapshot(model)
    with pytest.raises(ValueError, match=r"one callback of a fit can set the momentum.*Received"):
        fit(model, both[first], both[1 - first])
    assert_identical(snapshot(model), before)
    fit(model, OneCycle(0.1, momentum=None), both[0], epochs=1)  # These two go together,
    for each in both:  # and one after the other.
        fit(model, each, epochs=1)


def test_a_scheduled_rate_that_is_set_within_a_step():
    class Halving(NAGD):
        def apply(self, *gradients_and_variables):
            self.learning_rate = keras.ops.cast(self.learning_rate, "float32") / 2
            return super().apply(*gradients_and_variables)

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(optimizer=Halving(schedules.LinearWarmup(0.5, 4, start=0.5)), loss="mse")
    fit(model, epochs=1)
    assert float(model.optimizer.learning_rate) == 0.5 / 2**STEPS


def test_a_scale_beyond_float32_is_refused():
    optimizer = NAGD(schedules.LinearWarmup(0.5, 4, start=1e-30))
    with pytest.raises(ValueError, match="`learning_rate` must be a finite number"):
        optimizer.scale_learning_rate(1e40)
    assert float(optimizer.learning_rate) == np.float32(1e-30)
