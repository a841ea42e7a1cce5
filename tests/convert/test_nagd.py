"""A model that has changed goes on with the state of the layers that stayed."""

import keras
import numpy as np
import pytest

from nagd_keras import NAGD, convert, schedules
from nagd_keras.state.matching import paths_of
from tests.support.drivers import to_float64
from tests.support.limits import needs

X = np.sin(np.arange(32.0).reshape(8, 4)).astype("float32")
SETTINGS = {
    "plain": {},
    "averages": {"use_ema": True, "ema_momentum": 0.5},
    "accumulation": {"gradient_accumulation_steps": 2},
    "decay": {"weight_decay": 0.1},
    "schedule": {"momentum": schedules.NesterovMomentum()},
}


def model_of(*layers, optimizer=None):
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(optimizer or NAGD(), "mse", run_eagerly=True)
    return model


def train(model, steps=3):
    for _ in range(steps):
        model.train_on_batch(X, np.ones((8, model.output_shape[-1])))
    return model


def dense(units, name):
    return keras.layers.Dense(units, name=name)


def slots(optimizer):
    """All values, by the slot and the variable that it belongs to."""
    objects = dict(zip(paths_of(optimizer._state.trained), optimizer._state.trained, strict=True))
    return {
        (name.slot, id(objects[name.path]) if name.path else None): to_float64(variable)
        for name, variable in optimizer._state.named().items()
    }


@pytest.mark.keep(2)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
@pytest.mark.parametrize("loaded", [False, True])
def test_a_new_head_keeps_the_state_of_the_body(settings, loaded, tmp_path):
    optimizer = NAGD(0.05, **settings)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    body = [dense(4, "one"), dense(4, "two")]
    model = train(model_of(*body, dense(1, "head"), optimizer=optimizer))
    if loaded:
        model.save(tmp_path / "model.keras")
        model = keras.saving.load_model(tmp_path / "model.keras")
        body = model.layers[:2]
    before = slots(model.optimizer)
    tuned = model_of(*body, dense(3, "new"))
    optimizer = convert.from_nagd(model.optimizer, tuned.trainable_variables)
    tuned.compile(optimizer, "mse", run_eagerly=True)
    found, stayed = slots(optimizer), {id(v) for layer in body for v in layer.variables}
    for (slot, variable), value in slots(model.optimizer).items():
        np.testing.assert_array_equal(value, before[slot, variable])
        if variable in {None, *stayed}:
            np.testing.assert_array_equal(found[slot, variable], value)
    for variable in tuned.layers[-1].variables:
        assert not found["displacement", id(variable)].any()
        assert not found.get(("gradient_accumulator", id(variable)), np.zeros(1)).any()
        if optimizer.use_ema:
            np.testing.assert_array_equal(found["average", id(variable)], to_float64(variable))
    paths = dict(zip(paths_of(optimizer._state.trained), optimizer._state.trained, strict=True))
    assert {id(paths[path]) for path in optimizer._state.not_decayed()} == {
        id(layer.bias) for layer in body
    }
    train(tuned)


@pytest.mark.parametrize(
    "order", [1, pytest.param(-1, marks=needs("another order of the variables"))]
)
def test_the_same_model_goes_on_as_before(order):
    """Bit for bit; also with its layers in another order among the variables."""
    one, two = (train(model_of(dense(4, "one"), dense(1, "two"))) for _ in range(2))
    two.set_weights(one.get_weights())
    one.optimizer.learning_rate = 0.05
    variables = two.trainable_variables[::order]
    two.compile(convert.from_nagd(one.optimizer, variables), "mse", run_eagerly=True)
    train(one)
    train(two)
    for a, b in zip(one.variables, two.variables, strict=True):
        np.testing.assert_array_equal(to_float64(a), to_float64(b))


def test_changed_settings():
    model = train(model_of(dense(1, "one")))
    momentum = schedules.NesterovMomentum()
    changed = convert.from_nagd(
        model.optimizer, model.trainable_variables, momentum=momentum, learning_rate=0.5
    )
    assert float(changed.learning_rate) == 0.5
    assert changed.get_config()["momentum"]["class_name"] == "NesterovMomentum"
    assert int(changed.age) == 3
    averaged = convert.from_nagd(model.optimizer, model.trainable_variables, use_ema=True)
    assert float(averaged.learning_rate) == float(model.optimizer.learning_rate)
    average = next(v for n, v in averaged._state.named().items() if n.slot == "average")
    np.testing.assert_array_equal(to_float64(average), to_float64(model.trainable_variables[0]))


def test_a_scaled_schedule_stays_scaled():
    warm = schedules.LinearWarmup(0.1, steps=100)
    model = train(model_of(dense(1, "one"), optimizer=NAGD(warm)))
    model.optimizer.scale_learning_rate(500)
    new = convert.from_nagd(model.optimizer, model.trainable_variables)
    assert float(new.learning_rate) == float(model.optimizer.learning_rate)
    other = convert.from_nagd(model.optimizer, model.trainable_variables, learning_rate=warm)
    assert float(other.learning_rate) < 0.5


def test_bad_input():
    model = train(model_of(dense(2, "one"), dense(1, "two")))
    variables = model.trainable_variables
    with pytest.raises(TypeError, match="from_keras_sgd"):
        convert.from_nagd(keras.optimizers.SGD(), variables)
    with pytest.raises(ValueError, match="not built"):
        convert.from_nagd(NAGD(), variables)
    with pytest.raises(TypeError, match="momentun"):
        convert.from_nagd(model.optimizer, variables, momentun=0.5)
    with pytest.raises(ValueError, match="None of the variables"):
        convert.from_nagd(model.optimizer, [keras.Variable([1.0], name="other")])
    wider = model_of(dense(3, "one"), dense(1, "two"))
    path = variables[0].path
    wider_first = wider.trainable_variables[0]
    same = keras.Variable(wider_first.value, name=path.split("/")[-1])
    same._path = path
    with pytest.raises(ValueError, match="another shape"):
        convert.from_nagd(model.optimizer, [same])
    model.optimizer.swap_to_iterate()
    with pytest.raises(ValueError, match="swap_to_lookahead"):
        convert.from_nagd(model.optimizer, variables)
