"""What single callbacks do, besides the combinations; and what they refuse."""

import warnings

import keras
import numpy as np
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
)
from tests.drivers import assert_identical, snapshot
from tests.tolerances import UNIT
from tests.training import BATCH, STEPS, data, network


def fit(model, *callbacks, **settings):
    settings = {"epochs": 3, "batch_size": BATCH, "shuffle": False, "verbose": 0, **settings}
    return model.fit(*data(), callbacks=list(callbacks), **settings)


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


def test_momentum_scheduler_takes_a_schedule_of_epochs():
    model = network(NAGD())
    schedule = schedules.Piecewise([1], [0.5, 0.75])
    assert fit(model, MomentumScheduler(schedule)).history["momentum"] == [0.5, 0.75, 0.75]


@pytest.mark.parametrize("anneal", ["cosine", "linear"])
@pytest.mark.parametrize("three_phase", [False, True])
def test_one_cycle_is_the_schedule_at_every_batch(anneal, three_phase):
    """The schedule is held against PyTorch in test_schedules.py."""
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


def test_one_cycle_of_given_length_goes_on_over_fits_and_ends():
    model, record = network(NAGD()), Record()
    cycle = OneCycle(0.1, total_steps=2 * STEPS)
    fit(model, cycle, record, epochs=1)
    fit(model, cycle, record, epochs=2)  # One epoch longer than the cycle.
    at = np.minimum(np.arange(3 * STEPS), 2 * STEPS - 1)
    wanted = schedules.OneCycle(0.1 / 25, 0.1, 0.1 / 25e4, 2 * STEPS)(at)
    np.testing.assert_allclose([lr for lr, _ in record.seen], wanted, rtol=2 * UNIT["float32"])
    with pytest.raises(UserWarning, match=r"total_steps=12 is over.*has made 18 steps"):
        fit(model, cycle)


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


def test_a_warm_up_from_zero_survives_being_set_to_what_it_is():
    """LearningRateScheduler does so; 0 of 0 is no ratio to scale by."""
    model = network(NAGD(schedules.LinearWarmup(0.05, 4)))
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch, rate: float(rate))
    fit(model, scheduler)
    assert float(model.optimizer.learning_rate) == np.float32(0.05)


# Plateau and schedule


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


def test_a_scaled_schedule_trains_like_one_that_was_made_so():
    halved = network(NAGD(schedules.LinearWarmup(0.05, 4, start=0.025)))
    halved.optimizer.learning_rate = 0.0125
    wanted = network(NAGD(schedules.LinearWarmup(0.025, 4, start=0.0125)))
    for model in (halved, wanted):
        fit(model)
    assert_identical(snapshot(halved), snapshot(wanted))


# Restart and stop


@pytest.mark.parametrize(("mode", "restarts"), [("min", 0), ("max", 4)])
def test_restart_follows_the_mode(mode, restarts):
    """A loss that falls in every epoch is a good objective to minimize, and a bad one to raise."""
    model = network(NAGD(0.001))
    history = fit(model, AdaptiveRestart(mode=mode), epochs=5)
    assert np.all(np.diff(history.history["loss"]) < 0)
    assert int(model.optimizer.restarts) == restarts
    assert int(model.optimizer.age) == (0 if restarts else 5 * STEPS)


def test_restart_leaves_small_rises_alone(capsys):
    losses = fit(network(NAGD(0.2, 0.97)), epochs=3).history["loss"]
    rise = losses[2] - losses[1]
    assert rise > 0
    for min_delta, restarts in [(0.99 * rise, 1), (1.01 * rise, 0)]:
        model = network(NAGD(0.2, 0.97))
        fit(model, AdaptiveRestart(min_delta=min_delta, verbose=1))
        assert int(model.optimizer.restarts) == restarts
    assert "momentum reset" in capsys.readouterr().out


@pytest.mark.parametrize("n", [1, 2, 4])
def test_restart_on_batches_compares_their_own_means(n):
    """Against the losses of single batches, in a run that is not disturbed by restarts."""

    class Losses(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            rows = slice(batch * BATCH, (batch + 1) * BATCH)
            x, y = data()
            error = self.model(x[rows]) - y[rows]
            losses.append(float(np.mean(np.square(error))))

    losses = []
    model = network(NAGD(0.2, 0.97))
    model.optimizer.reset_momentum = lambda: resets.append(len(losses))
    resets = []
    fit(model, AdaptiveRestart(every_n_batches=n), Losses(), epochs=3)
    wanted, before = [], np.inf
    for epoch in range(3):
        for end in range(n, STEPS + 1, n):
            mean = np.mean(losses[epoch * STEPS + end - n : epoch * STEPS + end])
            if mean > before:
                wanted.append(epoch * STEPS + end)
            before = mean
    assert resets == wanted
    assert wanted


def test_restart_speeds_up_a_strongly_convex_problem():
    """Linear regression with full batches: too high a momentum ripples, a restart ends that."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(64, 8)) * np.geomspace(0.1, 1, 8)).astype("float32")
    y = (x @ rng.normal(size=(8, 1))).astype("float32")
    losses = []
    for callbacks in ([], [AdaptiveRestart()]):
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1, use_bias=False)])
        model.layers[0].set_weights([np.zeros((8, 1))])
        model.compile(NAGD(0.2, 0.99), "mse")
        history = model.fit(x, y, 64, 80, verbose=0, callbacks=callbacks, shuffle=False)
        losses.append(history.history["loss"][-1])
    assert losses[1] < losses[0] / 10


def test_stop_at_a_small_gradient():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 3)).astype("float32")
    y = x.sum(axis=1, keepdims=True)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(NAGD(0.1), "mse")
    settings = {"batch_size": 32, "epochs": 500, "verbose": 0}
    stop, monitor = StopAtTolerance(gradient_norm=1e-3), HyperparameterMonitor(norms=True)
    norms = model.fit(x, y, callbacks=[stop, monitor], **settings).history["gradient_norm"]
    assert len(norms) < 500
    assert norms[-1] <= 1e-3
    assert all(norm > 1e-3 for norm in norms[:-1])


def test_the_gradient_norm_is_that_before_clipping():
    """By the gradient itself, in a model of one weight: d/dw (w x - y)^2 = 2 x (w x - y)."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.layers[0].set_weights([np.array([[3.0]])])
    model.compile(NAGD(0.1, clipnorm=0.5), "mse")
    x, y = np.array([[2.0]]), np.array([[1.0]])
    model.fit(x, y, verbose=0)  # Compiles a step that keeps no norm.
    assert np.isnan(float(model.optimizer.gradient_norm))
    weight = model.get_weights()[0].item()
    history = model.fit(x, y, verbose=0, callbacks=[HyperparameterMonitor(norms=True)])
    assert history.history["gradient_norm"] == [pytest.approx(4 * (2 * weight - 1), rel=1e-6)]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_norms_in_other_dtypes(dtype):
    """Also of variables whose dtype is not Keras' floatx."""
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, dtype=dtype), keras.layers.Dense(1)]
    )
    model.compile(NAGD(0.01), "mse")
    history = fit(model, HyperparameterMonitor(norms=True)).history
    for name in ("gradient_norm", "displacement_norm"):
        assert np.all(np.isfinite(history[name]))
        assert np.all(np.array(history[name]) > 0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: [AdaptiveRestart("loss"), AdaptiveRestart("val_loss")],
        lambda: [StopAtTolerance(1e-3), StopAtTolerance(relative_loss_change=1e-3)],
    ],
)
def test_two_of_a_kind_would_share_their_numbers(make):
    model = network(NAGD())
    before = snapshot(model)
    with pytest.raises(ValueError, match=r"one .* only\. Received: more than one"):
        fit(model, *make())
    assert_identical(snapshot(model), before)
    fit(model, make()[0])  # One after the other is fine.
    fit(model, make()[0])


def test_stop_counts_calm_epochs_in_a_row(capsys):
    """Losses by hand: two calm epochs in a row end it, one does not."""
    stop = StopAtTolerance(relative_loss_change=0.1, patience=2, verbose=1)
    model = network(keras.optimizers.SGD())  # whose callback keeps the numbers itself
    stop.set_model(model)
    model.stop_training = False
    stop.on_train_begin()
    stopped = []
    for epoch, loss in enumerate([1.0, 0.95, 0.5, 0.49, float("nan"), 0.48, -0.48, -0.47, -0.46]):
        stop.on_epoch_begin(epoch)
        stop.on_epoch_end(epoch, {"loss": loss})
        stopped.append(model.stop_training)
    assert stopped == [False] * 8 + [True]
    assert "Epoch 9: StopAtTolerance stops, as the loss went from -0.47" in capsys.readouterr().out


@pytest.mark.parametrize(
    "make",
    [
        lambda: AdaptiveRestart(monitor="val_loss"),
        lambda: AdaptiveRestart(monitor="val_loss", every_n_batches=2),
    ],
)
def test_an_unknown_monitor_warns_once(make):
    model = network(NAGD())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(model, make())
    said = [str(each.message) for each in caught if "conditioned on" in str(each.message)]
    assert len(said) == 1
    assert "metric `val_loss` which is not available. Available metrics are: " in said[0]
    assert "loss" in said[0].split("are: ")[1]
    assert int(model.optimizer.restarts) == 0


@pytest.mark.parametrize(
    "make", [AdaptiveRestart, lambda: StopAtTolerance(relative_loss_change=0.0)]
)
def test_a_backup_before_the_work_of_the_epoch_is_noticed(make, tmp_path):
    """The callback that saves stands in front, so what follows it is not in the backup."""

    class Interruption(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise InterruptedError

    backup = keras.callbacks.BackupAndRestore(tmp_path)
    with pytest.raises(InterruptedError):
        fit(network(NAGD()), backup, make(), Interruption())
    with pytest.raises(UserWarning, match="BackupAndRestore, behind"):  # Warnings are errors here.
        fit(network(NAGD()), backup, make())


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
    for name in ("learning_rate", "momentum", "weight_decay", "restarts", "gradient_norm"):
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


# The iterate


def test_checkpoints_predictions_and_best_weights_are_those_of_the_iterate(tmp_path):
    class Predict(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen["predict"] = self.model.predict(data()[0], verbose=0)
            seen["best"] = self.model.get_weights()
            seen["look-ahead"] = [w.numpy() for w in self.model.weights]

    seen = {}
    model = network(NAGD(0.05))
    paths = tmp_path / "model.keras", tmp_path / "model.weights.h5"
    checkpoints = [
        keras.callbacks.ModelCheckpoint(path, save_weights_only="weights" in path.name)
        for path in paths
    ]
    fit(model, *checkpoints, Predict(), EvaluateAtIterate(), epochs=1)
    assert not model.optimizer.at_iterate
    assert_identical(snapshot(model), [w.astype(float) for w in seen["look-ahead"]])
    with at_iterate(model):
        iterate = snapshot(model)
        assert_identical([seen["predict"]], [model.predict(data()[0], verbose=0)])
    assert_identical([w.astype(float) for w in seen["best"]], iterate)
    loaded, other = keras.saving.load_model(paths[0]), network(NAGD(0.05))
    other.optimizer.build(other.trainable_variables)
    other.load_weights(paths[1])
    for each in (loaded, other):
        assert_identical(snapshot(each), iterate)
        assert each.optimizer.at_iterate
        each.optimizer.swap_to_lookahead()
        assert_identical(snapshot(each, each.optimizer), snapshot(model, model.optimizer))


@pytest.mark.parametrize("first", [False, True])
def test_early_stopping_restores_the_best_iterate(first):
    """Both points are then the weights whose loss was the best; in either order of callbacks."""
    model = network(NAGD(0.2, 0.97))
    callbacks = [keras.callbacks.EarlyStopping(patience=9, restore_best_weights=True)]
    callbacks.insert(0 if first else 1, EvaluateAtIterate())
    history = fit(model, *callbacks, epochs=4, validation_data=data())
    best = min(history.history["val_loss"])
    assert best != history.history["val_loss"][-1]
    assert model.evaluate(*data(), BATCH, verbose=0)[0] == pytest.approx(best, rel=1e-6)
    with at_iterate(model):
        assert model.evaluate(*data(), BATCH, verbose=0)[0] == pytest.approx(best, rel=1e-6)
    assert not [name for name in vars(model) if name in ("evaluate", "save", "get_weights")]


def test_weights_that_a_callback_sets_and_sets_back_train_on():
    class There(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            weights = self.model.get_weights()
            self.model.set_weights(weights)

    models = []
    for callbacks in ([], [There(), EvaluateAtIterate()]):
        model = network(NAGD(0.05))
        fit(model, *callbacks)
        models.append(snapshot(model, model.optimizer))
    assert_identical(*models)


def test_a_fit_that_failed_does_not_look_at_the_iterate_in_the_next():
    validated = []
    for callbacks in ([EvaluateAtIterate()], []):
        model = network(NAGD(0.05))
        with pytest.raises(OSError, match="disk"):
            fit(model, *callbacks, Failing("on_epoch_end", OSError("disk")))
        validated.append(fit(model, validation_data=data()).history["val_loss"])
    assert validated[0] == validated[1]


def test_a_method_of_the_model_alone_comes_back():
    model = network(NAGD(0.05))
    model.evaluate = evaluate = lambda *args, **kwargs: {"loss": 0.0}
    fit(model, EvaluateAtIterate(), validation_data=data())
    assert model.evaluate is evaluate


class Failing(keras.callbacks.Callback):
    """Raises in one of the hooks, once."""

    def __init__(self, hook, error):
        super().__init__()

        def fail(*args, **kwargs):
            raise error

        setattr(self, hook, fail)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError], ids=lambda error: error.__name__)
@pytest.mark.parametrize(
    "hook",
    [
        "on_test_begin",
        "on_test_batch_end",
        "on_test_end",
        "on_epoch_end",
        "on_train_batch_end",
        "on_epoch_begin",
    ],
)
def test_an_exception_leaves_the_look_ahead_point(hook, error, tmp_path):
    """As in the same run without the callback, to the bit; and the model's methods are its own."""
    results = []
    for callbacks in ([EvaluateAtIterate()], []):
        model = network(NAGD(0.05))
        fit(model)
        with pytest.raises(error):
            fit(model, *callbacks, Failing(hook, error), epochs=1, validation_data=data())
        results.append(snapshot(model, model.optimizer))
        look_ahead = model.evaluate(*data(), verbose=0)
        assert "evaluate" not in vars(model), "it still looks at the iterate"
        results[-1].append(np.array(look_ahead))
    assert_identical(*results)


def test_a_checkpoint_that_fails_leaves_the_look_ahead_point(tmp_path):
    model = network(NAGD(0.05))
    fit(model)
    (tmp_path / "model.keras").mkdir()  # so that no file can be written there
    before = None

    class Before(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            nonlocal before
            before = snapshot(model)

    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "model.keras")
    with pytest.raises(Exception):  # noqa: B017, PT011  Whatever Keras makes of it.
        fit(model, EvaluateAtIterate(), Before(), checkpoint)
    assert_identical(snapshot(model), before)
    assert not model.optimizer.at_iterate


@pytest.mark.parametrize("method", ["evaluate", "predict"])
def test_outside_fit_there_is_a_context_for_it(method):
    model = network(NAGD())
    fit(model)
    before = snapshot(model)
    with pytest.raises(
        ValueError, match=rf"callback of `fit`.*at_iterate\(model\): model.{method}"
    ):
        getattr(model, method)(data()[0], callbacks=[EvaluateAtIterate()], verbose=0)
    assert_identical(snapshot(model), before)
    with at_iterate(model), at_iterate(model):
        assert model.optimizer.at_iterate
    with pytest.raises(KeyError), at_iterate(model):
        raise KeyError
    assert_identical(snapshot(model), before)


# What is refused


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: MomentumScheduler(0.9), TypeError, "function of the epoch.*schedule=0.9"),
        (lambda: OneCycle(0), ValueError, r"`max_learning_rate`.*max_learning_rate=0"),
        (lambda: OneCycle(float("nan")), ValueError, "max_learning_rate=nan"),
        (lambda: OneCycle("1"), TypeError, "max_learning_rate='1'"),
        (lambda: OneCycle(0.1, initial_divisor=0.5), ValueError, "initial_divisor=0.5"),
        (lambda: OneCycle(0.1, final_divisor=0), ValueError, "final_divisor=0"),
        (lambda: OneCycle(0.1, momentum=0.9), TypeError, "momentum=0.9"),
        (lambda: OneCycle(0.1, momentum=(0.9, 1.0)), ValueError, r"momentum=\(0.9, 1.0\)"),
        (lambda: OneCycle(0.1, momentum=(0.8, 0.9)), ValueError, "largest first"),
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


@pytest.mark.parametrize(
    ("optimizer", "callback", "error", "says"),
    [
        (
            lambda: SGD(0.1, 0.9),
            lambda: MomentumScheduler(lambda e, m: 0.5),
            TypeError,
            r"SGD has none that can be set.*ignored.*NAGD",
        ),
        (
            lambda: keras.optimizers.Adam(),
            lambda: MomentumScheduler(lambda e, m: 0.5),
            TypeError,
            r"Adam has none that can be set",
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
        (NAGD, lambda: MomentumScheduler(lambda e, m: m + 0.04), ValueError, "in epoch 2"),
        (NAGD, lambda: MomentumScheduler(lambda e, m: None), TypeError, "None from"),
        (
            lambda: SGD(0.1, 0.9),
            lambda: OneCycle(0.1),
            TypeError,
            "none that can be set.*or pass momentum=None",
        ),
        (lambda: NAGD(SCHEDULE), lambda: OneCycle(0.1), TypeError, "number as learning rate"),
        (lambda: SGD(SCHEDULE), lambda: OneCycle(0.1, momentum=None), TypeError, "as learning"),
        (lambda: NAGD(momentum=SCHEDULE), lambda: OneCycle(0.1), TypeError, "number as momentum"),
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
