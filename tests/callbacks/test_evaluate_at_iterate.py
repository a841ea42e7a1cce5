"""Evaluating and saving at the iterate, training at the look-ahead point."""

import keras
import numpy as np
import pytest

from nagd_keras import NAGD
from nagd_keras.callbacks import AdaptiveRestart, Backup, EvaluateAtIterate, at_iterate
from nagd_keras.callbacks.optimizers import synchronize
from tests.support.drivers import assert_identical, snapshot, to_float64
from tests.support.limits import needs
from tests.support.training import BATCH, data, fit, nagd, network


class Call(keras.callbacks.Callback):
    """Calls a function in one of the hooks."""

    def __init__(self, hook, function):
        super().__init__()
        setattr(self, hook, lambda *args, **kwargs: function(self.model))


def failing(hook, error):
    def fail(model):
        raise error

    return Call(hook, fail)


def loss(model, **settings):
    return model.evaluate(*data(), BATCH, verbose=0, **settings)[0]


def iterate(model):
    with at_iterate(model):
        return snapshot(model)


# What is evaluated, saved and remembered


def test_training_is_as_without_it_and_validation_is_that_of_the_iterate():
    histories, models, points = [], [], []
    see = Call("on_epoch_begin", lambda model: points.append(model.optimizer.at_iterate))
    for callbacks in ([], [EvaluateAtIterate()]):
        model = network(NAGD(0.05))
        histories.append(fit(model, *callbacks, see, validation_data=data()).history)
        models.append(model)
    assert not any(points)
    plain, model = models
    assert_identical(snapshot(model, model.optimizer), snapshot(plain, plain.optimizer))
    assert histories[0]["loss"] == histories[1]["loss"]
    assert histories[0]["val_loss"][-1] == loss(model)
    with at_iterate(model):
        assert histories[1]["val_loss"][-1] == loss(model) != histories[0]["val_loss"][-1]


@pytest.mark.keep(1)
@pytest.mark.parametrize("validation_freq", [1, 2])
def test_what_is_saved_and_predicted_at_the_end_of_an_epoch_is_the_iterate(
    validation_freq, tmp_path
):
    """Whether it was evaluated in that epoch or not; and it trains on to the bit."""
    paths = tmp_path / "model.keras", tmp_path / "model.weights.h5"
    seen, x = {}, data()[0]

    def look(model):
        seen["prediction"] = model.predict(x, verbose=0)
        seen["weights"] = model.get_weights()

    model = network(NAGD(0.05))
    fit(
        model,
        EvaluateAtIterate(),
        *[
            keras.callbacks.ModelCheckpoint(path, save_weights_only="weights" in path.name)
            for path in paths
        ],
        Call("on_epoch_end", look),
        validation_data=data(),
        validation_freq=validation_freq,
    )
    assert not model.optimizer.at_iterate
    with at_iterate(model):
        assert_identical([seen["prediction"]], [model.predict(x, verbose=0)])
        assert_identical([w.astype(float) for w in seen["weights"]], snapshot(model))
    loaded, other = keras.saving.load_model(paths[0]), network(NAGD(0.05))
    other.optimizer.build(other.trainable_variables)
    other.load_weights(paths[1])
    for each in (loaded, other):
        assert each.optimizer.at_iterate
        assert_identical(snapshot(each), iterate(model))
    loaded.optimizer.swap_to_lookahead()
    assert_identical(snapshot(loaded, loaded.optimizer), snapshot(model, model.optimizer))
    for each in (model, other):
        fit(each, EvaluateAtIterate())
    assert_identical(snapshot(other, other.optimizer), snapshot(model, model.optimizer))


@pytest.mark.long
def test_what_is_saved_within_an_epoch_is_the_look_ahead_point(tmp_path):
    """That is the point whose loss the batch has."""
    path, seen = tmp_path / "model.keras", []
    model = network(NAGD(0.05))
    checkpoint = keras.callbacks.ModelCheckpoint(path, save_freq=4)
    load = Call("on_train_batch_begin", lambda model: seen.append(path.exists()))
    fit(model, EvaluateAtIterate(), checkpoint, load, epochs=1)
    assert seen == [False] * 4 + [True] * 2
    loaded, plain = keras.saving.load_model(path), network(NAGD(0.05))
    plain.fit(*(a[: 4 * BATCH] for a in data()), batch_size=BATCH, shuffle=False, verbose=0)
    assert not loaded.optimizer.at_iterate
    assert_identical(snapshot(loaded, loaded.optimizer), snapshot(plain, plain.optimizer))


@pytest.mark.keep(1)
@pytest.mark.parametrize("rate", [0.2, 0.001], ids=["best in between", "best at the end"])
def test_early_stopping_after_it_gives_the_best_iterate(rate):
    model = network(NAGD(rate, 0.97))
    stopping = keras.callbacks.EarlyStopping(patience=9, restore_best_weights=True)
    found = fit(model, EvaluateAtIterate(), stopping, epochs=4, validation_data=data())
    values = found.history["val_loss"]
    assert (values[-1] == min(values)) == (rate == 0.001)
    assert loss(model) == min(values)
    assert not model.optimizer.at_iterate
    model.optimizer.reset_momentum()
    assert_identical(iterate(model), snapshot(model))


@pytest.mark.long
def test_early_stopping_before_it_gives_what_it_saw():
    """The look-ahead point, and it is said."""
    seen = []
    model = network(NAGD(0.2, 0.97))
    stopping = keras.callbacks.EarlyStopping(patience=9, restore_best_weights=True)
    look = Call("on_epoch_end", lambda model: seen.append(snapshot(model)))
    with pytest.warns(UserWarning, match="EarlyStopping stands before EvaluateAtIterate"):
        history = fit(model, look, stopping, EvaluateAtIterate(), epochs=4, validation_data=data())
    best = np.argmin(history.history["val_loss"])
    assert best != 3
    assert_identical(snapshot(model), seen[best])
    assert not model.optimizer.at_iterate


@pytest.mark.long
def test_the_averages_are_what_the_model_holds_when_fit_ends():
    states = []
    for callbacks in ([], [EvaluateAtIterate()]):
        model = network(NAGD(0.05, use_ema=True, ema_momentum=0.9))
        fit(model, *callbacks)
        states.append(snapshot(model, model.optimizer))
        fit(model, *callbacks, validation_data=data())
        states[-1] += snapshot(model, model.optimizer)
    assert_identical(*states)


# Beside other callbacks


@pytest.mark.long
def test_a_restart_after_it_goes_on_from_the_iterate_that_was_saved(tmp_path):
    """Before it, from the look-ahead point, as without it."""
    path, ends, saved = tmp_path / "model.keras", [], {}

    def look(model):
        saved["last"] = snapshot(model)

    for first, second in ((False, False), (False, True), (True, False)):
        model, restart = network(NAGD(0.05)), AdaptiveRestart("loss", "max")
        before, after = ([EvaluateAtIterate()] * each for each in (first, second))
        checkpoint = keras.callbacks.ModelCheckpoint(path)
        fit(model, *before, restart, *after, checkpoint, Call("on_epoch_end", look), epochs=2)
        assert int(model.optimizer.restarts) == 1
        assert_identical(saved["last"], snapshot(model))
        loaded = keras.saving.load_model(path)
        loaded.optimizer.swap_to_lookahead()
        assert_identical(snapshot(loaded, loaded.optimizer), snapshot(model, model.optimizer))
        ends.append(snapshot(model, model.optimizer))
    plain, after, before = ends
    assert_identical(after, plain)
    assert any(np.any(x != y) for x, y in zip(before, plain, strict=True))


def test_weights_that_are_not_finite_are_no_reason_to_warn():
    model = network(NAGD(0.05))
    spoil = Call("on_epoch_begin", lambda model: model.weights[0].assign(model.weights[0] * np.nan))
    fit(model, EvaluateAtIterate(), spoil, epochs=1)
    assert not model.optimizer.at_iterate


@pytest.mark.long
@pytest.mark.parametrize("position", [0, 1])
def test_a_backup_goes_on_to_the_bit(position, tmp_path):
    ends = []
    for error in (None, InterruptedError):
        model = network(NAGD(0.05))
        callbacks = [EvaluateAtIterate()]
        callbacks.insert(position, Backup(tmp_path))
        if error is not None:
            with pytest.raises(error):
                fit(model, *callbacks, failing("on_epoch_end", error))
            model = network(NAGD(0.05))
        fit(model, *callbacks, epochs=2)
        ends.append(snapshot(model, model.optimizer))
    assert_identical(*ends)


@pytest.mark.long
def test_weights_that_a_callback_sets_and_sets_back_train_on():
    models = []
    for callbacks in ([], [EvaluateAtIterate()]):
        model = network(NAGD(0.05))
        there = Call("on_epoch_end", lambda model: model.set_weights(model.get_weights()))
        fit(model, *callbacks, there)
        models.append(snapshot(model, model.optimizer))
    assert_identical(*models)


@pytest.mark.keep(1)
@pytest.mark.parametrize("hook", ["on_epoch_begin", "on_epoch_end"])
def test_a_checkpoint_that_a_callback_loads_trains_on(hook, tmp_path):
    """Here the last one, so that nothing changes."""
    path = tmp_path / "model.weights.h5"
    models = []

    def load(model):
        if path.exists():
            model.load_weights(path)

    for callbacks in (
        [],
        [keras.callbacks.ModelCheckpoint(path, save_weights_only=True), Call(hook, load)],
    ):
        model = network(NAGD(0.05))
        fit(model, EvaluateAtIterate(), *callbacks)
        models.append(snapshot(model, model.optimizer))
    assert_identical(*models)


@pytest.mark.keep(1)
@pytest.mark.parametrize("hook", ["on_epoch_begin", "on_train_batch_end", "on_epoch_end"])
@pytest.mark.parametrize("method", ["evaluate", "predict"])
def test_an_evaluation_within_a_hook(hook, method):
    """Given the callback, it sees the iterate, and leaves the point that it found."""
    seen, models = [], []
    sees = "on_test_begin" if method == "evaluate" else "on_predict_begin"
    arguments = data() if method == "evaluate" else data()[:1]

    def look(model):
        synchronize(model)
        seen.append(model.optimizer.at_iterate)
        inner = [EvaluateAtIterate(), Call(sees, lambda _: seen.append(nagd(model).at_iterate))]
        getattr(model, method)(*arguments, batch_size=BATCH, verbose=0, callbacks=inner)
        seen.append(model.optimizer.at_iterate)

    for callbacks in ([], [Call(hook, look)]):
        model = network(NAGD(0.05))
        fit(model, EvaluateAtIterate(), *callbacks, epochs=1)
        models.append(snapshot(model, model.optimizer))
    assert_identical(*models)
    there = hook == "on_epoch_end"
    assert seen[:3] == [there, True, there]
    assert seen == seen[:3] * (len(seen) // 3)


@pytest.mark.long
def test_an_evaluation_within_a_hook_that_fails_loses_nothing():
    """Here within an epoch, where a callback catches the error, and training goes on."""
    states = []
    for ours in ([], [EvaluateAtIterate()]):

        def look(model, ours=ours):
            if ours:
                error = failing("on_test_batch_end", OSError("disk"))
                with pytest.raises(OSError, match="disk"):
                    loss(model, callbacks=[*ours, error])

        model = network(NAGD(0.05))
        fit(model, *ours, Call("on_train_batch_end", look), epochs=1)
        states.append(snapshot(model.trainable_variables, nagd(model).displacements))
    assert_identical(*states)


# Interruptions


@pytest.mark.keep(1)
@pytest.mark.parametrize(
    ("hook", "error", "by"),
    [
        # Both kinds of exception while validating and while training, and each hook with one.
        ("on_test_begin", KeyboardInterrupt, "the optimizer"),
        ("on_test_batch_end", OSError, "fit"),
        ("on_test_end", KeyboardInterrupt, "fit"),
        ("on_epoch_end", OSError, "fit"),
        ("on_epoch_end", KeyboardInterrupt, "the optimizer"),
        ("on_train_batch_end", KeyboardInterrupt, "the optimizer"),
        ("on_epoch_begin", OSError, "fit"),
    ],
)
def test_after_an_exception_training_goes_on_from_the_same_bits(hook, error, by):
    results = []
    for callbacks in ([EvaluateAtIterate()], []):
        model = network(NAGD(0.05))
        fit(model, epochs=1)
        with pytest.raises(error):
            fit(model, *callbacks, failing(hook, error), epochs=1, validation_data=data())
        if by == "fit":
            validated = fit(model, EvaluateAtIterate(), epochs=1, validation_data=data()).history
            results.append([np.array(validated["val_loss"])])
        else:
            model.optimizer.swap_to_lookahead()
            results.append([np.array(loss(model))])
        results[-1] += snapshot(model, model.optimizer)
    assert_identical(*results)


def test_a_checkpoint_that_fails_loses_nothing(tmp_path):
    (tmp_path / "model.keras").mkdir()  # so that no file can be written there
    model, before = network(NAGD(0.05)), []
    see = Call("on_epoch_end", lambda model: before.extend(snapshot(model)))
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "model.keras")
    with pytest.raises(Exception):  # noqa: B017, PT011  Whatever Keras makes of it.
        fit(model, see, EvaluateAtIterate(), checkpoint)
    model.optimizer.swap_to_lookahead()
    assert_identical(snapshot(model), before)


def test_an_interruption_on_the_way_to_the_iterate(monkeypatch):
    model = network(NAGD(0.05))
    fit(model, epochs=1)
    before, assign, once = snapshot(model), keras.Variable.assign, [True]

    def interrupted(self, value):
        if self is model.trainable_variables[1] and once:
            once.clear()
            raise KeyboardInterrupt
        return assign(self, value)

    with monkeypatch.context() as patch:
        patch.setattr(keras.Variable, "assign", interrupted)
        with pytest.raises(KeyboardInterrupt), at_iterate(model):
            pass
    assert not model.optimizer.at_iterate
    assert_identical(snapshot(model), before)


# Outside of `fit`


@pytest.mark.keep(1)
@pytest.mark.parametrize("method", ["evaluate", "predict"])
def test_outside_fit(method):
    """As a callback of one evaluation, or as a context for several."""
    model = network(NAGD())
    fit(model)
    before = snapshot(model, model.optimizer)
    arguments = {"verbose": 0, "batch_size": BATCH}
    of = data() if method == "evaluate" else data()[:1]
    found = getattr(model, method)(*of, callbacks=[EvaluateAtIterate()], **arguments)
    assert_identical(snapshot(model, model.optimizer), before)
    with at_iterate(model), at_iterate(model):
        assert model.optimizer.at_iterate
        np.testing.assert_array_equal(getattr(model, method)(*of, **arguments), found)
        getattr(model, method)(*of, callbacks=[EvaluateAtIterate()], **arguments)
        assert model.optimizer.at_iterate
    assert np.any(getattr(model, method)(*of, **arguments) != np.array(found))
    with pytest.raises(KeyError), at_iterate(model):
        raise KeyError
    assert_identical(snapshot(model, model.optimizer), before)


@pytest.mark.long
def test_an_evaluation_that_fails_is_left_by_the_next_fit():
    models = []
    for callbacks in ([EvaluateAtIterate()], []):
        model = network(NAGD(0.05))
        fit(model, epochs=1)
        with pytest.raises(OSError, match="disk"):
            loss(model, callbacks=[*callbacks, failing("on_test_batch_end", OSError("disk"))])
        fit(model, EvaluateAtIterate())
        models.append(snapshot(model, model.optimizer))
    assert_identical(*models)


@pytest.mark.long
def test_a_model_that_was_not_trained():
    model = network(NAGD())
    assert loss(model, callbacks=[EvaluateAtIterate()]) == loss(model)
    assert not model.optimizer.at_iterate
    fit(model, EvaluateAtIterate(), validation_data=data())


@pytest.mark.long
@needs("frozen after it was built")
def test_frozen_layers_stay_where_they_are():
    """Their displacements are from before, and the function that is trained knows nothing of it."""
    model = network(NAGD(0.05))
    fit(model)
    model.layers[0].trainable = False
    model.compile(optimizer=model.optimizer, loss="mse")
    frozen, seen = snapshot(model.layers[0]), []
    assert np.any(to_float64(nagd(model).displacements[0]))
    see = Call("on_test_batch_end", lambda model: seen.append(snapshot(model.layers[0])))
    fit(model, EvaluateAtIterate(), see, validation_data=data())
    for each in [*seen, snapshot(model.layers[0])]:
        assert_identical(each, frozen)
