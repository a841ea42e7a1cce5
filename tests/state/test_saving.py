"""A saved model is loaded and trained on as if nothing had happened."""

import copy
import pickle

import keras
import numpy as np
import pytest

from nagd_keras import NAGD
from tests.support.drivers import assert_identical, snapshot
from tests.support.problems import Table

SCHEDULE = keras.optimizers.schedules.PolynomialDecay(0.5, 20, 0.95)
SETTINGS = {
    "defaults": {},
    "schedules": {"learning_rate": SCHEDULE, "momentum": SCHEDULE, "weight_decay": SCHEDULE},
    "everything": {
        "momentum": Table(np.linspace(0.1, 0.9, 50), "float32"),
        "weight_decay": 0.01,
        "global_clipnorm": 0.1,
        "use_ema": True,
        "ema_momentum": 0.9,
        "ema_overwrite_frequency": 3,
        "gradient_accumulation_steps": 2,
        "loss_scale_factor": 4.0,
    },
}


@pytest.fixture
def data(rng):
    x = rng.normal(size=(28, 3)).astype("float32")
    return x, np.sin(x.sum(axis=1, keepdims=True))


def compiled(settings):
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)]
    )
    model.compile(optimizer=NAGD(**settings), loss="mse")
    return model


def train(model, data, batches):
    for i in batches:
        rows = slice(4 * i, 4 * i + 4)
        model.train_on_batch(data[0][rows], data[1][rows])


def everything(model):
    return snapshot(model, model.optimizer)


def by_file(model, folder):
    model.save(folder / "model.keras")
    return keras.saving.load_model(folder / "model.keras")


def by_pickle(model, folder):
    return pickle.loads(pickle.dumps(model))


# In compiled steps; `test_formats.py` has all formats, in eager ones.
@pytest.mark.keep(1)
@pytest.mark.parametrize("copied", [by_file, by_pickle])
@pytest.mark.parametrize("settings", list(SETTINGS.values())[1:], ids=list(SETTINGS)[1:])
def test_a_loaded_model_goes_on_to_the_bit(data, tmp_path, settings, copied):
    model = compiled(settings)
    train(model, data, range(3))  # with accumulation: half-way through a window
    loaded = copied(model, tmp_path)
    assert type(loaded.optimizer) is NAGD
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    assert_identical(everything(loaded), everything(model))
    train(model, data, range(3, 7))
    train(loaded, data, range(3, 7))
    assert_identical(everything(loaded), everything(model))
    assert int(loaded.optimizer.age) == 7 // settings.get("gradient_accumulation_steps", 1)


def test_live_hyperparameters_are_saved(data, tmp_path):
    model = compiled({"weight_decay": 0.0})
    train(model, data, range(2))
    model.optimizer.momentum = 0.3
    model.optimizer.learning_rate = 0.4
    model.optimizer.weight_decay = 0.2
    loaded = by_file(model, tmp_path).optimizer
    assert float(loaded.momentum) == np.float32(0.3)
    assert float(loaded.learning_rate) == np.float32(0.4)
    assert float(loaded.weight_decay) == np.float32(0.2)
    config = loaded.get_config()
    assert [config[name] for name in ("momentum", "learning_rate", "weight_decay")] == [
        0.3,
        0.4,
        0.2,
    ]


@pytest.mark.keep(1)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_a_copied_optimizer_has_its_state_for_the_same_variables(data, copied):
    """It does not know them until it is built; fit builds it while the step is compiled."""
    model, again = compiled(SETTINGS["everything"]), compiled({})
    train(model, data, range(3))
    optimizer = copied(copied(model.optimizer))
    assert not optimizer.built
    assert int(optimizer.iterations) == int(model.optimizer.iterations)
    again.set_weights(model.get_weights())
    again.compile(optimizer, loss="mse")
    train(model, data, range(3, 7))
    train(again, data, range(3, 7))
    assert_identical(everything(again), everything(model))


def test_what_is_set_after_loading_stays(data):
    model, again = compiled({}), compiled({})
    train(model, data, range(3))
    optimizer = copy.deepcopy(model.optimizer)
    optimizer.learning_rate = 0.25
    again.set_weights(model.get_weights())
    again.compile(optimizer, loss="mse")
    train(again, data, range(1))
    assert float(optimizer.learning_rate) == 0.25
    assert int(optimizer.iterations) == 4


def test_a_copied_optimizer_begins_anew_for_other_variables(data):
    model = compiled({})
    train(model, data, range(3))
    optimizer = copy.deepcopy(model.optimizer)
    other = keras.Variable(np.ones(3, "float32"), name="other")
    with pytest.warns(UserWarning, match="that of other variables"):
        optimizer.apply([np.ones(3, "float32")], [other])
    assert int(optimizer.age) == int(optimizer.iterations) == 1
    again = NAGD.from_config(optimizer.get_config())
    same = keras.Variable(np.ones(3, "float32"), name="other")
    again.apply([np.ones(3, "float32")], [same])
    np.testing.assert_array_equal(other.numpy(), same.numpy())


@pytest.mark.parametrize("weights", [[], [np.zeros(3)], None])
def test_set_weights_is_all_or_nothing(data, weights):
    """Keras' own stops half-way."""
    model = compiled({})
    train(model, data, range(3))
    before = everything(model)
    if weights is None:
        weights = [np.zeros(v.shape) for v in model.optimizer.variables]
        weights[-1] = np.zeros(7)
    with pytest.raises(ValueError, match="do not fit the optimizer"):
        model.optimizer.set_weights(weights)
    assert_identical(everything(model), before)


def test_copy_of_an_optimizer_that_is_not_built():
    optimizer = NAGD(0.1, 0.5)
    optimizer.momentum = 0.75
    assert copy.deepcopy(optimizer).get_config() == optimizer.get_config()


def test_a_registered_callable_is_saved():
    optimizer = NAGD(momentum=half)
    again = NAGD.from_config(optimizer.get_config())
    assert float(again.momentum) == 0.5


@keras.saving.register_keras_serializable(package="nagd_keras_tests")
def half():
    return 0.5


def test_config_is_what_was_given():
    config = NAGD(0.1, 0.95, weight_decay=0.004, name="mine").get_config()
    assert config["learning_rate"] == 0.1
    assert config["momentum"] == 0.95
    assert config["weight_decay"] == 0.004
    assert config["name"] == "mine"
    assert NAGD().get_config()["weight_decay"] is None
    untouched = NAGD(SCHEDULE, SCHEDULE).get_config()
    before = copy.deepcopy(untouched)
    NAGD.from_config(untouched)
    assert untouched == before


def test_a_float64_config_is_exact(float64):
    config = NAGD(0.1, 1 / 3, weight_decay=1e-5 / 7).get_config()
    assert config["learning_rate"] == 0.1
    assert config["momentum"] == 1 / 3
    assert config["weight_decay"] == 1e-5 / 7
    assert float(NAGD.from_config(config).momentum) == 1 / 3
    rounded = float(np.float32(0.9))  # a number of its own in float64, though 0.9 in float32
    assert NAGD(0.1, rounded).get_config()["momentum"] == rounded


def test_a_subclass_and_custom_objects():
    class Mine(NAGD):
        pass

    class Half(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.5

        def get_config(self):
            return {}

    with keras.saving.custom_object_scope({"Half": Half}):
        config = Mine(0.1, Half()).get_config()
    again = Mine.from_config(config, custom_objects={"Half": Half})
    assert type(again) is Mine
    assert float(again.momentum) == 0.5


def test_keras_serialization_by_name():
    optimizer = NAGD(0.1, SCHEDULE)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(again) is NAGD
    assert again.get_config() == optimizer.get_config()
