"""Restarting and stopping by what the logs and the gradients say."""

import warnings

import keras
import numpy as np
import pytest

from nagd_keras import NAGD
from nagd_keras.callbacks import (
    AdaptiveRestart,
    HyperparameterMonitor,
    StopAtTolerance,
)
from nagd_keras.callbacks.monitored import is_rising
from tests.support.drivers import assert_identical, snapshot, to_float64
from tests.support.limits import dtypes
from tests.support.training import BATCH, STEPS, data, fit, network


@pytest.mark.keep(1)
@pytest.mark.parametrize(("mode", "restarts"), [("min", 0), ("max", 4)])
def test_restart_follows_the_mode(mode, restarts):
    """A loss that falls in every epoch is a good objective to minimize, and a bad one to raise."""
    model = network(NAGD(0.001))
    history = fit(model, AdaptiveRestart(mode=mode), epochs=5)
    assert np.all(np.diff(history.history["loss"]) < 0)
    assert int(model.optimizer.restarts) == restarts
    assert int(model.optimizer.age) == (0 if restarts else 5 * STEPS)


@pytest.mark.long
def test_restart_leaves_small_rises_alone(capsys):
    losses = fit(network(NAGD(0.2, 0.97)), epochs=3).history["loss"]
    rise = losses[2] - losses[1]
    assert rise > 0
    for min_delta, restarts in [(0.99 * rise, 1), (1.01 * rise, 0)]:
        model = network(NAGD(0.2, 0.97))
        fit(model, AdaptiveRestart(min_delta=min_delta, verbose=1))
        assert int(model.optimizer.restarts) == restarts
    assert "momentum reset" in capsys.readouterr().out


@pytest.mark.long
@pytest.mark.parametrize("n", [1, 2, 4])
def test_restart_on_batches_compares_their_own_means(n):
    """Against the losses of single batches, in a run that is not disturbed by restarts."""

    class Losses(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            rows = slice(batch * BATCH, (batch + 1) * BATCH)
            x, y = data()
            error = to_float64(self.model(x[rows])) - y[rows]
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


@pytest.mark.long
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
        history = model.fit(x, y, 64, 40, verbose=0, callbacks=callbacks, shuffle=False)
        losses.append(history.history["loss"][-1])
    assert losses[1] < losses[0] / 10


@pytest.mark.long
def test_stop_at_a_small_gradient():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 3)).astype("float32")
    y = x.sum(axis=1, keepdims=True)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(NAGD(0.3), "mse")
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


@pytest.mark.long
@pytest.mark.parametrize("dtype", dtypes("float16", "bfloat16", "float64"))
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


@pytest.mark.long
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
    with pytest.raises(
        ValueError, match=r"Only one callback of a fit can .* Received: (\w+) and \1\."
    ):
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


@pytest.mark.keep(1)
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


@pytest.mark.long
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
    # When training begins, and when what was lost is noticed.
    with (
        pytest.warns(UserWarning, match="Put BackupAndRestore after"),
        pytest.raises(InterruptedError),
    ):
        fit(network(NAGD()), backup, make(), Interruption())
    with (
        pytest.warns(UserWarning, match="Put BackupAndRestore after"),
        pytest.warns(UserWarning, match="BackupAndRestore, after"),
    ):
        fit(network(NAGD()), backup, make())


def by_hand(callback, losses, optimizer=None):
    """Shows a callback the losses of epochs; returns the model, and the epoch in which it stops."""
    model = network(optimizer or NAGD())
    model.optimizer.build(model.trainable_variables)
    return model, go_on(callback, losses, model)


def go_on(callback, losses, model):
    callback.set_model(model)
    model.stop_training = False
    callback.on_train_begin()
    for epoch, loss in enumerate(losses):
        callback.on_epoch_begin(epoch)
        callback.on_epoch_end(epoch, {"loss": loss})
        if model.stop_training:
            return epoch
    return None


@pytest.mark.parametrize(
    ("losses", "min_delta", "restarts"),
    [
        ([0.5, 0.5, 0.5], 0.0, 0),  # The same is not worse,
        ([0.7, 0.7, 0.7], 0.0, 0),  # also where the state keeps a rounded 0.7,
        ([0.5, 0.75, 1.0], 0.25, 0),  # nor is what is worse by no more than min_delta.
        ([0.5, float("nan"), 0.6], 0.0, 1),  # NaN is skipped,
        ([0.5, float("inf"), 0.6, 0.7], 0.0, 2),  # infinity is not.
    ],
)
def test_restart_by_hand(losses, min_delta, restarts):
    model, _ = by_hand(AdaptiveRestart(min_delta=min_delta), losses)
    assert int(model.optimizer.restarts) == restarts


def test_restart_begins_epoch_0_without_an_objective():
    model, _ = by_hand(AdaptiveRestart(), [0.5, 0.4])
    go_on(AdaptiveRestart(), [0.5, 0.4], model)
    assert int(model.optimizer.restarts) == 0


def test_restart_every_n_batches_between_executions():
    model = network(NAGD())
    model.optimizer.build(model.trainable_variables)
    restart = AdaptiveRestart(every_n_batches=2)
    restart.set_model(model)
    restart.on_train_begin()
    restart.on_epoch_begin(0)
    restart.on_train_batch_end(2, {"loss": 1.0})
    restart.on_train_batch_end(5, {"loss": 2.0})
    assert int(model.optimizer.restarts) == 1


@pytest.mark.long
@pytest.mark.parametrize(
    ("settings", "then"),
    [
        ({"every_n_batches": 2}, {"epochs": 3}),
        ({"every_n_batches": 2}, {"initial_epoch": 1, "epochs": 4}),
        ({}, {"initial_epoch": 5, "epochs": 6}),
    ],
    ids=str,
)
def test_no_state_is_missed_where_none_was_lost(settings, then):
    """Warnings are errors here."""
    model = network(NAGD())
    fit(model, AdaptiveRestart(), epochs=1)
    fit(model, AdaptiveRestart(**settings), **then)


def test_names_that_tell_their_direction():
    for name in ("loss", "val_accuracy_loss", "recall_error"):
        assert not is_rising(name, "auto")
    for name in ("acc", "val_accuracy", "auc", "precision", "recall", "f1_score", "mean_iou"):
        assert is_rising(name, "auto")


def test_a_gradient_of_zero_is_small_enough():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, None, True, "zeros")])
    model.compile(NAGD(0.1), "mse")
    stop = StopAtTolerance(gradient_norm=0)
    history = model.fit(np.ones((8, 4)), np.zeros((8, 1)), epochs=3, verbose=0, callbacks=[stop])
    assert len(history.epoch) == 1


@pytest.mark.parametrize(
    ("losses", "stopped"),
    [
        ([1.0, 1.15], None),  # relative to the larger of the two losses
        ([1.0, 1.105], 1),
        ([1.0, 0.905], 1),
        ([1.0, 0.89], None),
        ([1.0, float("inf"), float("inf"), 1.0], None),
    ],
)
def test_the_relative_change_of_the_loss(losses, stopped):
    stop = StopAtTolerance(relative_loss_change=0.1)
    assert by_hand(stop, losses, keras.optimizers.SGD())[1] == stopped


@pytest.mark.long
def test_stop_begins_to_count_anew_in_epoch_0():
    model, stop = network(NAGD()), StopAtTolerance(gradient_norm=1e9, patience=2)
    fit(model, stop, epochs=1)  # one calm epoch
    assert len(fit(model, stop, epochs=3).epoch) == 2


@pytest.mark.long
def test_rounding_of_means_is_no_rise():
    """Keras' means are float32, so the losses of single batches come out of them with noise."""
    model = network(NAGD(1e-12))
    x = np.ones((1000, 4), "float32")
    y = np.full((1000, 1), 0.7, "float32")
    model.fit(x, y, batch_size=1, verbose=0, callbacks=[AdaptiveRestart(every_n_batches=1)])
    assert int(model.optimizer.restarts) == 0


def test_a_stopped_fit_that_goes_on_has_its_patience_again():
    model, stop = network(NAGD()), StopAtTolerance(relative_loss_change=10.0, patience=2)
    assert len(fit(model, stop, epochs=20).epoch) == 3
    assert len(fit(model, stop, epochs=20, initial_epoch=3).epoch) == 2


def test_windows_longer_than_an_epoch_warn():
    with pytest.raises(UserWarning, match="never compares anything: an epoch has 6 batches"):
        fit(network(NAGD()), AdaptiveRestart(every_n_batches=7), epochs=1)


@pytest.mark.parametrize(
    ("monitor", "rising"),
    [
        ("val_error_type_accuracy", True),
        ("loss_head_accuracy", True),
        ("accuracy_head_loss", False),
        ("val_mean_squared_error", False),
    ],
)
def test_the_last_word_of_a_name_tells_its_direction(monitor, rising):
    assert is_rising(monitor, "auto") is rising


def test_calm_epochs_are_counted_on_when_a_state_is_loaded():
    """A backup is loaded when training begins, after this callback has looked."""
    model = network(NAGD(0.01))
    fit(model, StopAtTolerance(relative_loss_change=1e6, patience=99), epochs=3)
    store = {}
    model.optimizer.save_own_variables(store)
    load = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: model.optimizer.load_own_variables(store)
    )
    stopping = StopAtTolerance(relative_loss_change=1e6, patience=4)
    history = fit(model, stopping, load, initial_epoch=3, epochs=9)
    assert history.epoch == [3, 4]  # Two were calm before.
    assert model.optimizer._state.notes.of("StopAtTolerance")["epoch"] == 4
