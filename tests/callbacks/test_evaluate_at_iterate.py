"""Evaluating and saving at the iterate, training at the look-ahead point."""

import threading

import keras
import numpy as np
import pytest

from nagd_keras import NAGD
from nagd_keras.callbacks import (
    EvaluateAtIterate,
    at_iterate,
)
from tests.support.drivers import assert_identical, snapshot, to_float64
from tests.support.limits import needs
from tests.support.training import BATCH, data, fit, nagd, network


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


@pytest.mark.parametrize(
    ("hook", "error"),
    [
        # Both kinds of exception while validating and while training, and each hook with one.
        ("on_test_begin", KeyboardInterrupt),
        ("on_test_batch_end", OSError),
        ("on_test_end", KeyboardInterrupt),
        ("on_epoch_end", OSError),
        ("on_train_batch_end", KeyboardInterrupt),
        ("on_epoch_begin", OSError),
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


def test_the_iterate_is_looked_at_after_a_fit_that_failed():
    validated = []
    for callbacks in ([EvaluateAtIterate()], []):
        model = network(NAGD(0.05))
        with pytest.raises(OSError, match="disk"):
            fit(model, *callbacks, Failing("on_epoch_end", OSError("disk")))
        history = fit(model, EvaluateAtIterate(), validation_data=data())
        validated.append(history.history["val_loss"])
        assert "evaluate" not in vars(model)
    assert validated[0] == validated[1]


def test_a_fit_of_another_model_with_the_same_callback():
    class Evaluate(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            found.append(failed.evaluate(*data(), BATCH, verbose=0)[0])

    found, callback, failed = [], EvaluateAtIterate(), network(NAGD(0.05))
    with pytest.raises(OSError, match="disk"):
        fit(failed, callback, Failing("on_epoch_end", OSError("disk")))
    fit(network(NAGD(0.05)), callback, Evaluate(), epochs=1)
    assert found == [failed.evaluate(*data(), BATCH, verbose=0)[0]]


@needs("frozen after it was built")
def test_frozen_layers_stay_where_they_are():
    """Their displacements are from before, and the function that is trained knows nothing of it."""
    model = network(NAGD(0.05))
    fit(model)
    model.layers[0].trainable = False
    model.compile(optimizer=model.optimizer, loss="mse")
    frozen, seen = snapshot(model.layers[0]), []
    assert np.any(to_float64(nagd(model).displacements[0]))

    class See(keras.callbacks.Callback):
        def on_test_batch_end(self, batch, logs=None):
            seen.append(snapshot(self.model.layers[0]))

    fit(model, EvaluateAtIterate(), See(), validation_data=data())
    for each in [*seen, snapshot(model.layers[0])]:
        assert_identical(each, frozen)


def test_another_thread_sees_the_variables_as_they_are():
    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            found = []
            thread = threading.Thread(target=lambda: found.extend(self.model.get_weights()))
            thread.start()
            thread.join()
            assert_identical(found, snapshot(self.model))

    model = network(NAGD(0.05))
    history = fit(model, EvaluateAtIterate(), Look(), validation_data=data())
    with at_iterate(model):
        assert model.evaluate(*data(), BATCH, verbose=0)[0] == history.history["val_loss"][-1]
