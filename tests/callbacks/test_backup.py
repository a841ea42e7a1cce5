"""Fits that are interrupted and resumed: they end with the bits of one that was not."""

import re

import keras
import numpy as np
import pytest

from nagd_keras import NAGD, schedules
from nagd_keras.callbacks import Backup, EvaluateAtIterate, HyperparameterMonitor
from nagd_keras.callbacks.plain import is_plain, packed, unpacked
from nagd_keras.callbacks.resumption import all_attributes, attributes
from tests.support.drivers import assert_identical, snapshot
from tests.support.training import BATCH, data

EPOCHS, KILLED = 5, 3
ON_TENSORFLOW = keras.backend.backend() == "tensorflow"


class Killed(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == KILLED:
            raise InterruptedError


def dense():
    return [keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(1)]


def plain():
    return keras.Sequential([keras.Input((4,)), *dense()])


def with_dropout():
    hidden, out = dense()
    return keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dropout(0.5), out])


def run(make, listed, optimizer=None, x=None, y=None, seed=0, **settings):
    """Trains a new model, as a new process does."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    model = make()
    model.compile(optimizer or NAGD(0.05), "mse", run_eagerly=True, jit_compile=False)
    x, y = data() if x is None else (x, y)
    if not isinstance(x, keras.utils.PyDataset):
        settings["batch_size"] = BATCH
    model.fit(x, y, epochs=EPOCHS, verbose=0, callbacks=listed, **settings)
    return model


def resumed(make, listed, folder, **settings):
    """Trains, is interrupted and resumes; `listed` makes the other callbacks of each run."""
    with pytest.raises(InterruptedError):
        run(make, [*listed(), Backup(folder), Killed()], **settings)
    return run(make, [*listed(), Backup(folder)], **settings)


def assert_same_end(found, wanted):
    assert_identical(
        snapshot(found, found.optimizer),
        snapshot(wanted, wanted.optimizer),
    )


@pytest.mark.long
@pytest.mark.parametrize("make", [plain, with_dropout])
def test_arrays_are_shuffled_and_units_dropped_as_they_would_have_been(make, tmp_path):
    found = resumed(make, list, tmp_path / "backup")
    assert_same_end(found, run(make, []))


class Drawing(keras.callbacks.Callback):
    """Draws from every generator, and keeps what it got."""

    def on_train_begin(self, logs=None):
        self.drawn = [1]

    def on_epoch_begin(self, epoch, logs=None):
        rng = np.random  # That of Keras.
        drawn = keras.random.uniform((2,)), rng.random(), rng.standard_normal()
        self.drawn += [float(np.sum(keras.ops.convert_to_numpy(each))) for each in drawn]


@pytest.mark.long
@pytest.mark.parametrize("place", [0, 1])
def test_what_callbacks_know_comes_back(place, tmp_path):
    """Also to one that stands behind, and so begins after the backup was loaded."""

    def trained(folder, *more, seed=0):
        drawing, backup = Drawing(), Backup(folder)
        listed = [drawing, backup] if place == 0 else [backup, drawing]
        run(plain, [*listed, *more], seed=seed)
        return drawing.drawn

    wanted = trained(tmp_path / "whole")
    with pytest.raises(InterruptedError):
        trained(tmp_path / "backup", Killed())
    assert trained(tmp_path / "backup", seed=1) == wanted


def stateful():
    return [
        keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=0.02),
        keras.callbacks.EarlyStopping("loss", patience=3, restore_best_weights=True),
    ]


@pytest.mark.long
@pytest.mark.parametrize(
    "rate", [0.05, schedules.LinearWarmup(0.05, 10, start=0.04)], ids=["number", "schedule"]
)
def test_plateaus_and_the_best_epoch_are_remembered(rate, tmp_path):
    """The weights are spoiled from the third epoch on, so that the best one is before."""

    class Spoil(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch >= 2:
                for variable in self.model.trainable_variables:
                    variable.assign(variable * 3)

    def trained(*more):
        listed = [Spoil(), *stateful(), *more]
        return listed, run(plain, listed, NAGD(rate))

    known, wanted = trained()
    with pytest.raises(InterruptedError):
        trained(Backup(tmp_path), Killed())
    again, found = trained(Backup(tmp_path))
    assert_same_end(found, wanted)
    plateau, stopping = known[1:3]
    assert stopping.best_epoch < KILLED
    for one, other in zip((plateau, stopping), again[1:3], strict=True):
        assert str(attributes(other)) == str(attributes(one))


@pytest.mark.long
def test_settings_are_those_of_the_code(tmp_path):
    """What an argument of the constructor names is not taken from the backup."""

    def listed():
        return [keras.callbacks.EarlyStopping("loss", patience=patience, min_delta=0.25)]

    patience = 3
    with pytest.raises(InterruptedError):
        run(plain, [*listed(), Backup(tmp_path), Killed()])
    patience = 9
    (stopping,) = listed()
    run(plain, [stopping, Backup(tmp_path)])
    assert (stopping.patience, stopping.min_delta) == (9, -0.25)


@pytest.mark.long
def test_callbacks_are_told_apart_by_class_and_order(tmp_path):
    class Counts(keras.callbacks.Callback):
        def __init__(self, step):
            super().__init__()
            self._step, self.total = step, 0

        def on_epoch_end(self, epoch, logs=None):
            self.total += self._step

    with pytest.raises(InterruptedError):
        run(plain, [Counts(1), stateful()[0], Counts(10), Backup(tmp_path), Killed()])
    one, ten, new = Counts(1), Counts(10), Counts(100)
    run(plain, [one, ten, new, Backup(tmp_path)])
    assert (one.total, ten.total, new.total) == (5, 50, 200)


@pytest.mark.long
def test_it_says_where_it_resumes(tmp_path, capsys):
    for verbose in (1, 0):
        folder = tmp_path / str(verbose)
        with pytest.raises(InterruptedError):
            run(plain, [Backup(folder, verbose=verbose), Killed()])
        assert "Backup" not in capsys.readouterr().out
        backup = Backup(folder, verbose=verbose)
        run(plain, [backup])
        said = re.findall(r"Backup: resuming from epoch 4, with .*000003", capsys.readouterr().out)
        assert len(said) == verbose
        assert backup.epochs_done == 3


def test_numbers_of_the_optimizer_are_those_of_the_backup(tmp_path):
    """Whatever the code, called again, sets first."""

    def lower():
        def halve(epoch, logs):
            model.optimizer.learning_rate = float(model.optimizer.learning_rate) / 2

        return keras.callbacks.LambdaCallback(on_epoch_end=halve)

    for listed in ([Killed()], []):
        keras.utils.set_random_seed(0)
        model = plain()
        model.compile(NAGD(0.25, momentum=0.5), "mse", run_eagerly=True, jit_compile=False)
        callbacks = [lower(), Backup(tmp_path), *listed]
        try:
            model.fit(*data(), epochs=EPOCHS, verbose=0, callbacks=callbacks)
        except InterruptedError:
            assert listed
    assert float(model.optimizer.learning_rate) == 0.25 / 2**EPOCHS


# Data with an order of their own


class Shuffled(keras.utils.PyDataset):
    """As the documentation shows."""

    epoch = 0

    def __len__(self):
        return 4

    def __getitem__(self, batch):
        x, y = data()
        order = np.random.default_rng(self.epoch).permutation(len(x)).reshape(4, -1)
        return x[order[batch]], y[order[batch]]


@pytest.mark.long
def test_an_order_that_depends_on_the_epoch(tmp_path):
    def begin(shuffled):
        return keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: setattr(shuffled, "epoch", epoch)
        )

    def trained(*more):
        shuffled = Shuffled()
        return run(plain, [begin(shuffled), *more], x=shuffled, shuffle=False)

    wanted = trained()
    with pytest.raises(InterruptedError):
        trained(Backup(tmp_path), Killed())
    assert_same_end(trained(Backup(tmp_path)), wanted)


# Models that are built by their first batch


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden, self.out = dense()

    def call(self, inputs, training=False):
        return self.out(self.hidden(inputs["a"]) + self.hidden(inputs["b"]))


class Untraceable(keras.Model):
    """Looks at the values of its inputs, as eager models may."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = dense()

    def call(self, inputs):
        float(keras.ops.sum(keras.ops.stop_gradient(inputs)))
        return self.out(self.hidden(inputs))


@pytest.mark.long
@pytest.mark.parametrize("make", [lambda: keras.Sequential(dense()), Subclassed])
def test_a_model_that_is_built_by_its_first_batch(make, tmp_path):
    x, y = data()
    x = {"a": x, "b": 2 * x} if make is Subclassed else x
    found = resumed(make, list, tmp_path / "backup", x=x, y=y)
    assert_same_end(found, run(make, [], x=x, y=y))


@pytest.mark.skipif(not ON_TENSORFLOW, reason="elsewhere Keras builds it before training, or fails")
def test_a_model_that_cannot_be_built_again_is_told_at_the_first_backup(tmp_path):
    """It trains on, as its backups are all that is lost."""
    backup = Backup(tmp_path)
    with pytest.warns(UserWarning, match=r"cannot build this model again.*keras\.Input"):
        run(Untraceable, [backup])


@pytest.mark.long
def test_a_backup_of_another_model_changes_nothing(tmp_path):
    with pytest.raises(InterruptedError):
        run(plain, [Backup(tmp_path), Killed()])
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
    model.compile(NAGD(0.125), "mse")
    model.optimizer.build(model.trainable_variables)
    before = snapshot(model, model.optimizer)
    with pytest.raises(ValueError, match="could not be loaded"):
        model.fit(*data(), verbose=0, callbacks=[Backup(tmp_path)])
    assert_identical(snapshot(model, model.optimizer), before)


@pytest.mark.long
def test_it_goes_with_our_own(tmp_path):
    def listed():
        return [EvaluateAtIterate(), HyperparameterMonitor()]

    found = resumed(with_dropout, listed, tmp_path / "backup", validation_data=data())
    assert_same_end(found, run(with_dropout, listed(), validation_data=data()))


@pytest.mark.long
def test_a_backup_of_which_bytes_have_changed_is_left_out(tmp_path):
    with pytest.raises(InterruptedError):
        run(plain, [Backup(tmp_path), Killed()])
    newest = max(tmp_path.iterdir())
    newest.write_bytes(newest.read_bytes().replace(b'"randomness"', b'"randomnexx"'))
    backup = Backup(tmp_path)
    with pytest.warns(UserWarning, match="000003.* is damaged"):
        run(plain, [backup])
    assert backup.epochs_done == KILLED - 1


# Values that are kept


def test_plain_values_come_back_as_they_were():
    values = {
        "numbers": [1, 2.5, True, None, "text", float("inf"), -(2**70), {"x": []}],
        "array": np.arange(6, dtype="int16").reshape(2, 3),
        "scalar": np.float32(0.1),
        "empty": np.zeros((0, 2)),
        "lists": [[np.array(3.0)], []],
    }
    assert is_plain(values)
    found = unpacked(packed(values))
    assert repr(found) == repr({**values, "lists": [[np.float64(3.0)], []]})
    assert np.isnan(unpacked(packed({"x": float("nan")}))["x"])
    bfloat16 = keras.ops.convert_to_numpy(keras.ops.ones((2,), "bfloat16"))
    assert unpacked(packed({"x": bfloat16}))["x"].dtype == bfloat16.dtype


@pytest.mark.parametrize("value", [(1, 2), {1: 2}, object(), len, np.array(["text"]), {"x": [()]}])
def test_other_values_are_left_out(value):
    assert not is_plain(value)
    callback = keras.callbacks.Callback()
    callback.value, callback.other, callback._hidden = value, 3, 4
    assert attributes(callback) == {"other": 3}


def test_what_has_not_changed_since_the_fit_began_is_not_kept():
    """Data, and the end of a time limit that the next process sets anew."""
    callback = keras.callbacks.Callback()
    callback.data, callback.best, callback.end = [np.ones(3)], np.ones(2), 12.5
    begun = attributes(callback)
    callback.best = np.zeros(2)
    (kept,) = all_attributes([callback], [begun])["Callback"]
    assert [*kept] == ["best"]
