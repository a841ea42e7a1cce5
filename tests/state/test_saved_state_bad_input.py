"""State that does not fit is refused by name, and the model stays as it was."""

import contextlib
import errno
import os
import re
import shutil
import subprocess
import warnings
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from nagd_keras import NAGD, saving, schedules
from tests.support.limits import needs
from tests.support.saving_cases import CASES, state


def network(optimizer=None, names=("a", "b", "c"), units=(4, 4, 1), dtype=None, **layer):
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Dense(n, name=name, dtype=dtype, **layer)
        for n, name in zip(units, names, strict=True)
    ]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(optimizer or NAGD(0.1, 0.9), "mse", run_eagerly=True)
    return model


def train(model, steps=2):
    rng = np.random.default_rng(0)
    for _ in range(steps):
        model.train_on_batch(rng.normal(size=(8, 4)), np.ones((8, 1)))
    return model


SGD = keras.optimizers.SGD
OTHERS = {
    "another model's": (lambda: network(names="xyz"), "Only in the saved state: .*x/kernel"),
    "one renamed": (lambda: network(names="abz"), "z/kernel.*Only in the model: .*c/kernel"),
    "more": (lambda: network(names="abcd", units=(4, 4, 4, 1)), "a total of|Layer count|layer"),
    "fewer": (lambda: network(names="ab", units=(4, 1)), "a total of|Layer count|layer"),
    "fewer variables": (lambda: network(use_bias=False), "bias|variables"),
    "another dtype's": (
        lambda: network(dtype="bfloat16"),
        r"displacement of .*a/kernel is \(4, 4\) bfloat16 in .* \(4, 4\) float32 here",
    ),
    "SGD's without momentum": (lambda: network(SGD()), "not written by NAGD.*adopt"),
    "SGD's": (lambda: network(SGD(momentum=0.9, nesterov=True)), "not written by NAGD.*adopt"),
    "Adam's": (lambda: network("adam"), "not written by NAGD"),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("built", [True, False])
def test_state_of_others(name, built, tmp_path):
    path = tmp_path / "other.weights.h5"
    make, message = OTHERS[name]
    train(make()).save_weights(path)
    model = train(network()) if built else network()
    before = state(model)
    config = model.optimizer.get_config()
    if not built and name in ("another model's", "one renamed", "another dtype's"):
        # Seen when the optimizer learns of the variables; nothing is updated.
        saving.load_weights(model, path)
        loaded = state(model)
        for _ in range(2):
            with pytest.raises(ValueError, match=f"(?is){message}"):
                train(model, 1)
        assert state(model) == loaded
        return
    with pytest.raises(ValueError, match=f"(?is){path}.*({message})"):
        saving.load_weights(model, path)
    assert state(model) == before
    assert model.optimizer.get_config() == config
    train(model, 1)


# What was saved, what it is loaded into, what a warning names, and what begins as in a new one.
SETTINGS = {
    "averages lost": ({"use_ema": True}, {}, "average of .*a/kernel"),
    "averages new": ({}, {"use_ema": True}, ""),
    "accumulation lost": ({"gradient_accumulation_steps": 2}, {}, "gradient_accumulator of .*a/"),
    "accumulation new": ({}, {"gradient_accumulation_steps": 2}, ""),
    "a number, now a schedule": ({}, {"momentum": schedules.NesterovMomentum()}, "momentum"),
    "a schedule, now a number": ({"momentum": schedules.NesterovMomentum()}, {"momentum": 0.5}, ""),
    "decay lost": ({"weight_decay": 0.1}, {}, "weight_decay"),
    "decay new": ({}, {"weight_decay": 0.1}, ""),
    "decisions new": ({}, {"restart": "speed", "skip_nonfinite": True}, ""),
    "decisions lost": ({"restart": "speed", "skip_nonfinite": True}, {}, ""),
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("built", [True, False])
def test_settings_that_are_others_now(name, built, tmp_path):
    """What the file lacks begins anew; what only the file has is named in a warning."""
    before, after, warned = SETTINGS[name]
    path = tmp_path / "model.weights.h5"
    saver = train(network(NAGD(0.1, **before)))
    saver.save_weights(path)
    model = network(NAGD(0.1, **after))
    if built:
        train(model, 4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.load_weights(path)
        model.optimizer.build(model.trainable_variables)
    said = [str(each.message) for each in caught if "has no place for" in str(each.message)]
    assert bool(said) == bool(warned)
    assert all(re.search(rf"left out: .*{warned}", each) for each in said)
    for one, other in zip(
        model.optimizer.displacements, saver.optimizer.displacements, strict=True
    ):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    assert int(model.optimizer.age) == int(saver.optimizer.age)
    named = model.optimizer.state.named()
    for n, target in named.items():
        if n.slot == "average" and "use_ema" not in before:
            (variable,) = (v for v in model.trainable_variables if v.path.endswith(n.path))
            np.testing.assert_array_equal(target.numpy(), variable.numpy())
        if n.slot == "gradient_accumulator":
            assert not target.numpy().any()
    if "momentum" in before:
        assert float(model.optimizer.momentum) == 0.5
    if after.get("weight_decay"):
        assert float(model.optimizer.weight_decay) == np.float32(0.1)
    train(model, 1)


def test_reordered_layers_do_not_get_the_state_of_others(tmp_path):
    """Keras gives the weights by position; the state would go to the names."""
    path = tmp_path / "model.weights.h5"
    train(network()).save_weights(path)
    model = train(network(names="bac"))
    before = state(model)
    with pytest.raises(ValueError, match="in another order"):
        saving.load_weights(model, path)
    assert state(model) == before
    with pytest.raises(ValueError, match="in another order"):
        model.load_weights(path)


def test_reordered_variables_of_the_same_names(tmp_path):
    """By name each gets its own state, if the values are its own; else it is refused."""
    values = {"a": [1.0, 2.0], "b": [3.0, 5.0]}

    def variables(names):
        return {name: keras.Variable(values[name], name=name) for name in names}

    def trained(variables, steps):
        optimizer = NAGD(0.1, 0.9)
        for i in range(steps):
            grads = [np.float32([i, len(name) + ord(name)]) for name in variables]
            optimizer.apply(grads, list(variables.values()))
        return optimizer

    original = variables("ab")
    store: dict = {}
    optimizer = trained(original, 3)
    optimizer.save_own_variables(store)
    again = variables("ba")
    for name, variable in again.items():
        variable.assign(original[name])
    loaded = NAGD(0.1, 0.9)
    loaded.build(list(again.values()))
    loaded.load_own_variables(store)
    for found, wanted in zip(loaded.displacements, optimizer.displacements[::-1], strict=True):
        np.testing.assert_array_equal(found.numpy(), wanted.numpy())
    again["a"].assign(original["b"])
    again["b"].assign(original["a"])
    with pytest.raises(ValueError, match="in another order"):
        loaded.load_own_variables(store)


def test_names_that_only_look_like_those_that_keras_made_up():
    """The second stage of two is not the first of two others."""

    def built(*names):
        optimizer = NAGD()
        optimizer.build([keras.Variable(np.arange(2.0) + len(names), name=n) for n in names])
        return optimizer

    store: dict = {}
    built("stage_1", "stage_2").save_own_variables(store)
    for others in (("stage_2", "stage_3"), ("stage_1", "other"), ("stage_1",)):
        optimizer = NAGD()
        optimizer.build([keras.Variable(np.arange(2.0) + 7, name=name) for name in others])
        with pytest.raises(ValueError, match="of other variables"):
            optimizer.load_own_variables(store)


@needs("TensorFlow's checkpoints")
def test_a_checkpoint_of_others(tmp_path):
    import tensorflow as tf

    path = tf.train.Checkpoint(model=train(network())).save(tmp_path / "checkpoint")
    for model in (network(names="bac"), network(NAGD(use_ema=True)), network(names="abz")):
        train(model)
        before = state(model)
        with pytest.raises(ValueError, match=r"other variables|another order"):
            tf.train.Checkpoint(model=model).restore(path)
        assert state(model) == before


def test_names_that_keras_made_up(tmp_path):
    """A model that is made twice has layers of other numbers."""

    def unnamed():
        model = keras.Sequential([keras.Input((4,)), *(keras.layers.Dense(4) for _ in range(3))])
        model.compile(NAGD(), "mse", run_eagerly=True)
        return model

    def fit(model):
        model.train_on_batch(np.eye(4), np.ones((4, 4)))
        return model

    path = tmp_path / "model.weights.h5"
    original = fit(unnamed())
    original.save_weights(path)
    keras.layers.Dense(1)  # so that the numbers are not just shifted by three
    again = unnamed()
    again.load_weights(path)
    assert state(fit(again)) == state(fit(original))


def test_weights_alone(tmp_path):
    """A file without an optimizer gives the weights, and says so."""
    path = tmp_path / "model.weights.h5"
    bare = keras.Sequential([keras.Input((4,)), *network().layers])
    bare.save_weights(path)
    model = train(network())
    before = state(model)[len(model.weights) :]
    with pytest.warns(UserWarning, match="holds no state for the optimizer"):
        model.load_weights(path)
    assert state(model)[len(model.weights) :] == before


def test_state_of_an_optimizer_that_had_made_no_update(tmp_path):
    path = tmp_path / "model.weights.h5"
    network().save_weights(path)
    model = train(network())
    model.load_weights(path)
    fresh = network()
    fresh.optimizer.build(fresh.trainable_variables)
    assert state(model) == state(fresh)


@pytest.mark.parametrize("settings", [{"learning_rate": lambda: 0.1}, {"momentum": lambda: 0.9}])
def test_a_lambda_is_refused_when_saving(settings, tmp_path):
    model = train(network(NAGD(**settings)))
    path = tmp_path / "model.keras"
    path.write_text("before")
    with pytest.raises(ValueError, match="register_keras_serializable"):
        saving.save_model(model, path)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == [path.name]
    saving.save_weights(model, tmp_path / "model.weights.h5")  # which holds no configuration


class Unregistered(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.5

    def get_config(self):
        return {}


class Callable:
    def __call__(self):
        return 0.5


def unregistered():
    return 0.5


def relu():
    """Has the name of one of Keras' own functions."""
    return 0.5


@pytest.mark.parametrize(
    "momentum",
    [Unregistered(), Callable(), Callable().__call__, unregistered, relu],
    ids=["schedule", "object", "method", "function", "namesake"],
)
def test_what_could_not_be_loaded_is_refused_when_saving(momentum):
    if keras.__version__ < "3.9" and isinstance(momentum, Unregistered):
        pytest.skip("this Keras loads a class from any module that it can import")
    with pytest.raises(ValueError, match="momentum could not be loaded again"):
        NAGD(momentum=momentum).get_config()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_all_that_can_be_saved_is_safe_to_load(case, tmp_path):
    config = keras.saving.serialize_keras_object(NAGD(**case.settings))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = keras.saving.deserialize_keras_object(config, safe_mode=True)
    assert again.get_config() == NAGD(**case.settings).get_config()


# Places where nothing can be written


@contextlib.contextmanager
def mounted(folder, *options):
    """A small disk, where the tests may make one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "none", str(folder)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("no permission to mount a disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


SAVE = {
    "model.keras": saving.save_model,
    "model.weights.h5": saving.save_weights,
}


@pytest.mark.parametrize("name", SAVE)
def test_a_full_disk(name, tmp_path):
    model = train(network(units=(64, 64, 1)))
    before = state(model)
    with mounted(tmp_path / "disk", "size=48k") as disk:
        path = disk / name
        path.write_text("before")
        with pytest.raises(OSError, match=f"could not be saved at {path}.*space"):
            SAVE[name](model, path)
        assert path.read_text() == "before"
        assert os.listdir(disk) == [name]
    assert state(model) == before


@pytest.mark.parametrize("name", SAVE)
def test_a_disk_that_will_be_full(name, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    path = tmp_path / name
    path.write_text("before")
    with pytest.raises(OSError, match=f"could not be saved at {path}.*space") as raised:
        SAVE[name](train(network()), path)
    assert raised.value.errno == errno.ENOSPC
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", SAVE)
def test_a_read_only_folder(name, tmp_path):
    model = train(network())
    with (
        mounted(tmp_path / "disk", "ro") as disk,
        pytest.raises(OSError, match=f"at {disk / name}"),
    ):
        SAVE[name](model, disk / name)


@pytest.mark.parametrize("name", SAVE)
def test_places_that_are_none(name, tmp_path):
    model = train(network())
    (tmp_path / "file").touch()
    (tmp_path / name).mkdir()
    for place in (tmp_path / "absent" / name, tmp_path / "file" / name, tmp_path / name):
        with pytest.raises(OSError, match=f"could not be saved at {place}"):
            SAVE[name](model, place)
    with pytest.raises(ValueError, match="must end in"):
        SAVE[name](model, tmp_path / "model.h5")
    for place in (tmp_path / "absent.keras", tmp_path / name):
        with pytest.raises(FileNotFoundError, match=f"no file to load at {place}"):
            saving.load_model(place)
        with pytest.raises(FileNotFoundError, match=f"no file to load at {place}"):
            saving.load_weights(model, place)


@pytest.mark.parametrize("use", [saving.save_model, saving.save_weights, saving.load_weights])
def test_what_is_no_model(use, tmp_path):
    with pytest.raises(TypeError, match="A Keras model is wanted"):
        use("model.keras", tmp_path / "model.weights.h5")
    assert not list(tmp_path.iterdir())
