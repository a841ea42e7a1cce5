"""State that does not fit is named in a warning, and what is no state is refused."""

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


def network(optimizer=None, names=("a", "b", "c"), units=(4, 4, 1), seed=0, **layer):
    keras.utils.set_random_seed(seed)
    layers = [
        keras.layers.Dense(n, name=name, **layer) for n, name in zip(units, names, strict=True)
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
# What was saved, and what the warning says of it; or the error, where the weights do not fit.
OTHERS = {
    "SGD's without momentum": (lambda: network(SGD()), "another optimizer.*adopt"),
    "SGD's": (lambda: network(SGD(momentum=0.9, nesterov=True)), "another optimizer.*adopt"),
    "Adam's": (lambda: network("adam"), r"another optimizer \(14 arrays"),
}
OTHER_WEIGHTS = {
    "more": (lambda: network(names="abcd", units=(4, 4, 4, 1)), "a total of|Layer count|layer"),
    "fewer": (lambda: network(names="ab", units=(4, 1)), "a total of|Layer count|layer"),
    "fewer variables": (lambda: network(use_bias=False), "bias|variables"),
}


@pytest.mark.keep(2)
@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("built", [True, False])
def test_state_of_others(name, built, tmp_path):
    """The weights are loaded, one warning says why the state is not, and training begins anew."""
    path = tmp_path / "other.weights.h5"
    make, message = OTHERS[name]
    other = train(make())
    other.save_weights(path)
    model = train(network()) if built else network()
    optimizer = model.optimizer
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        saving.load_weights(model, path)
        optimizer.build(model.trainable_variables)
    (said,) = (str(each.message) for each in caught if each.category is UserWarning)
    assert re.search(message, said)
    for one, two in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    if built and "another optimizer" in message:  # As Keras leaves one that it has no state for.
        assert int(optimizer.age) == int(optimizer.iterations) == 2
    else:
        assert int(optimizer.age) == int(optimizer.iterations) == 0
        assert not any(s.numpy().any() for s in optimizer.displacements)
    train(train(model, 1), 1)


@pytest.mark.parametrize("name", OTHER_WEIGHTS)
def test_weights_of_others(name, tmp_path):
    path = tmp_path / "other.weights.h5"
    make, message = OTHER_WEIGHTS[name]
    train(make()).save_weights(path)
    model = train(network())
    before = state(model)
    with pytest.raises(ValueError, match=f"(?is){path}.*({message})"):
        saving.load_weights(model, path)
    assert state(model) == before
    train(model, 1)


@pytest.mark.keep(2)
@pytest.mark.parametrize("names", ["abc", "abz"])
@pytest.mark.parametrize("built", [True, False])
def test_a_new_head(names, built, tmp_path):
    """The rest keeps its state: the displacements of what has its weights, and the counters."""
    path = tmp_path / "model.weights.h5"
    original = train(network())
    original.save_weights(path)
    model = network(names=names, units=(4, 4, 2))
    if built:
        model.optimizer.build(model.trainable_variables)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.load_weights(path, skip_mismatch=True)
        model.optimizer.build(model.trainable_variables)
    said = [str(each.message) for each in caught if "does not fit as a whole" in str(each.message)]
    assert len(said) == 1
    assert re.search(f"{names[-1]}/kernel.*{names[-1]}/bias", said[0])
    found, wanted = model.optimizer.displacements, original.optimizer.displacements
    for one, two in zip(found[:4], wanted[:4], strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())
    assert not any(s.numpy().any() for s in found[4:])
    assert int(model.optimizer.age) == 2
    model.train_on_batch(np.ones((8, 4)), np.ones((8, 2)))


def test_layers_of_other_names_keep_their_state(tmp_path):
    """Their weights tell which they are; a single number does not."""
    path = tmp_path / "model.weights.h5"
    original, model = train(network(names="xyz")), train(network())
    original.save_weights(path)
    with pytest.warns(UserWarning, match="c/bias have no saved state"):
        model.load_weights(path)
    pairs = zip(model.optimizer.displacements, original.optimizer.displacements, strict=True)
    for one, two in [*pairs][:-1]:
        np.testing.assert_array_equal(one.numpy(), two.numpy())


def test_weights_that_were_changed_get_no_displacement(tmp_path):
    """As those of LoRA, which Keras merges into the kernel when it saves."""
    model = network(units=(4, 4, 1))
    model.layers[0].enable_lora(2)
    model.compile(NAGD(0.1, 0.9), "mse", run_eagerly=True)
    train(model).save(tmp_path / "model.keras")
    with pytest.warns(UserWarning, match="lora_kernel_a.*do not hold the values"):
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    pairs = zip(loaded.trainable_variables, loaded.optimizer.displacements, strict=True)
    for variable, displacement in pairs:
        assert bool(displacement.numpy().any()) != ("lora" in variable.path)
    train(loaded, 1)


def test_settings_in_code_win_over_those_of_a_file(tmp_path):
    """Where both began with the same number, what callbacks made of it is loaded."""
    path = tmp_path / "model.weights.h5"
    saver = network(NAGD(0.1, 0.9, weight_decay=0.01))
    saver.optimizer.learning_rate = 0.05
    train(saver).save_weights(path)
    model = network(NAGD(0.1, 0.5, weight_decay=0.01))
    model.optimizer.weight_decay = 0.0
    with pytest.warns(UserWarning, match="what was set here") as caught:
        model.load_weights(path)
    (said,) = (str(each.message) for each in caught if each.category is UserWarning)
    assert "momentum is 0.5 here, and was 0.9; weight_decay is 0.0 here, and was 0.01." in said
    read = [float(getattr(model.optimizer, name)) for name in ("learning_rate", "momentum")]
    assert read == [np.float32(0.05), 0.5]
    assert float(model.optimizer.weight_decay) == 0
    saver.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert float(loaded.optimizer.learning_rate) == np.float32(0.05)
    again = network(NAGD(0.1, 0.9, weight_decay=0.01))
    loaded.save_weights(path)  # It began with 0.1, before it was saved for the first time.
    again.load_weights(path)
    assert state(train(again)) == state(train(saver))


def test_another_optimizer_does_not_take_it_for_its_own(tmp_path):
    """Keras' optimizers take whatever has as many numbered keys as they have variables."""
    path = tmp_path / "model.weights.h5"
    for layers, frozen in [(1, 0), (2, 0), (4, 0), (5, 1), (11, 1)]:
        names = "abcdefghijk"[:layers]
        model = network(names=names, units=(1,) * layers, use_bias=False)
        train(model).save_weights(path)
        for make in (SGD, lambda: SGD(momentum=0.9), keras.optimizers.Adam):
            other = network(make(), names=names, units=(1,) * layers, use_bias=False)
            for layer in other.layers[:frozen]:
                layer.trainable = False
            other.optimizer.build(other.trainable_variables)
            before = [v.numpy().tolist() for v in other.optimizer.variables]
            with pytest.warns(UserWarning, match="Skipping variable loading"):
                other.load_weights(path)
            assert [v.numpy().tolist() for v in other.optimizer.variables] == before


class Two(keras.Model):
    """Two optimizers, of which one is loaded before the layers."""

    def __init__(self):
        super().__init__()
        self.discriminator = keras.layers.Dense(2, name="discriminator")
        self.d_optimizer = NAGD(0.1)

    def call(self, x):
        return self.discriminator(x)

    def descend(self):
        variables = self.discriminator.trainable_variables
        self.d_optimizer.apply([np.full(v.shape, 0.5, "float32") for v in variables], variables)


@pytest.mark.parametrize("same", [True, False])
def test_an_optimizer_that_is_loaded_before_its_weights(same, tmp_path):
    path = tmp_path / "model.weights.h5"
    model = Two()
    model(np.ones((1, 3)))
    model.descend()
    model.save_weights(path)
    wanted = [s.numpy() for s in model.d_optimizer.displacements]
    model.descend()
    again = model if same else Two()
    if not same:
        again(np.ones((1, 3)))
        again.d_optimizer.build(again.trainable_variables)
    again.load_weights(path)
    for one, two in zip(again.d_optimizer.displacements, wanted, strict=True):
        np.testing.assert_array_equal(one.numpy(), two)
    again.descend()
    assert int(again.d_optimizer.age) == 2


def test_weights_that_never_came(tmp_path):
    """The state is loaded by its names, and given up where the first update finds other weights."""
    store: dict = {}
    model = train(network())
    model.optimizer.save_own_variables(store)
    model.set_weights([w + 1 for w in model.get_weights()])
    model.optimizer.load_own_variables(store)
    gradients = [np.ones(v.shape, "float32") for v in model.trainable_variables]
    with pytest.warns(UserWarning, match="that of other variables"):
        model.optimizer.apply(gradients, model.trainable_variables)
    assert int(model.optimizer.age) == 1


# What was saved, what it is loaded into, what a warning names, and what begins as in a new one.
SETTINGS = {
    "averages lost": ({"use_ema": True}, {}, "no place for the average of .*a/kernel"),
    "averages new": ({}, {"use_ema": True}, ""),
    "accumulation lost": ({"gradient_accumulation_steps": 2}, {}, "no place for the gradient_acc"),
    "accumulation new": ({}, {"gradient_accumulation_steps": 2}, ""),
    "a number, now a schedule": (
        {},
        {"momentum": schedules.NesterovMomentum()},
        "momentum is .*Nesterov.* here, and was 0.9",
    ),
    "a schedule, now a number": ({"momentum": schedules.NesterovMomentum()}, {"momentum": 0.5}, ""),
    "decay lost": ({"weight_decay": 0.1}, {}, "weight_decay is None here, and was 0.1"),
    "decay new": ({}, {"weight_decay": 0.1}, ""),
    "decisions new": ({}, {"restart": "speed", "skip_nonfinite": True}, ""),
    "decisions lost": ({"restart": "speed", "skip_nonfinite": True}, {}, ""),
}


@pytest.mark.keep(2)
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
    said = [str(each.message) for each in caught if each.category is UserWarning]
    assert len(said) == bool(warned)
    assert all(re.search(warned, each) for each in said)
    for one, other in zip(
        model.optimizer.displacements, saver.optimizer.displacements, strict=True
    ):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    assert int(model.optimizer.age) == int(saver.optimizer.age)
    named = model.optimizer._state.named()
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


def test_reordered_layers_keep_their_state(tmp_path):
    """Keras gives the weights by position, and the state goes where its weights are."""
    path = tmp_path / "model.weights.h5"
    original = train(network())
    original.save_weights(path)
    model = train(network(names="bac"))
    model.load_weights(path)
    assert state(train(model, 1)) == state(train(original, 1))


def test_reordered_variables_of_the_same_names(tmp_path):
    """Each gets its own state: that of the values that it holds."""
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
    loaded.load_own_variables(store)
    for found, wanted in zip(loaded.displacements, optimizer.displacements, strict=True):
        np.testing.assert_array_equal(found.numpy(), wanted.numpy())


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
        variables = [keras.Variable(np.arange(2.0) + 7, name=name) for name in others]
        optimizer.build(variables)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            optimizer.load_own_variables(store)
            optimizer.apply([np.ones(2, "float32") for _ in others], variables)
        said = [str(each.message) for each in caught if each.category is UserWarning]
        assert len(said) == 1
        assert "of other variables" in said[0]


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


@needs("TensorFlow's checkpoints")
@pytest.mark.parametrize("built", [True, False])
def test_a_checkpoint_of_a_model_that_is_made_again(built, tmp_path):
    """As a cell of a notebook makes it, with other numbers in its names."""
    import tensorflow as tf

    def make():
        inputs = keras.Input((4,))
        x = keras.layers.Dense(4, name="out")(keras.layers.Dense(4)(keras.layers.Dense(4)(inputs)))
        model = keras.Model(inputs, x)
        model.compile(NAGD(0.1), "mse", run_eagerly=True)
        return model

    def fit(model):
        model.train_on_batch(np.eye(4), np.ones((4, 4)))
        return model

    original = fit(make())
    path = tf.train.Checkpoint(model=original, optimizer=original.optimizer).save(tmp_path / "c")
    for _ in range(2):  # The second shares one of its names with what was saved.
        again = make()
        if built:
            again.optimizer.build(again.trainable_variables)
        tf.train.Checkpoint(model=again, optimizer=again.optimizer).restore(path)
        assert state(fit(again)) == state(fit(original))
        tf.train.Checkpoint(model=original, optimizer=original.optimizer).restore(path)


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
    with pytest.raises(TypeError, match="must be a Keras model"):
        use("model.keras", tmp_path / "model.weights.h5")
    assert not list(tmp_path.iterdir())
