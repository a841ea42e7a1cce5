"""A model that was trained with any optimizer goes on along a direction, from rest."""

import keras
import numpy as np
import pytest

from nagd_keras import NAGD, convert, directions
from tests.support.drivers import assert_identical, snapshot, to_float64

OPTIMIZERS = {
    "Adam": lambda: keras.optimizers.Adam(0.01, clipnorm=1.0),
    "AdamW": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
    "SGD": lambda: keras.optimizers.SGD(0.01, momentum=0.5, nesterov=True),
    "NAGD": lambda: NAGD(0.01, weight_decay=0.2),
    "average": lambda: keras.optimizers.RMSprop(0.01, use_ema=True),
}


def trained(optimizer, **settings):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(6), keras.layers.Dense(2)])
    model.compile(optimizer, "mse", **settings)
    model.fit(*data(), epochs=2, verbose=0)
    return model


def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(32, 4)), rng.normal(size=(32, 2))


@pytest.mark.keep(3)
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("direction", ["adaptive", directions.Orthogonal(0.5)], ids=str)
def test_it_trains_on_from_rest(name, direction):
    old = OPTIMIZERS[name]()
    model = trained(old)
    before = snapshot(model)
    with pytest.warns(UserWarning, match=f"begins anew: what {type(old).__name__} remembered"):
        assert convert.adopt(model, direction) is model
    new = model.optimizer
    assert_identical(before, snapshot(model))
    assert isinstance(new, NAGD)
    assert not any(to_float64(s).any() for s in new.displacements)
    assert int(new.age) == 0
    assert float(new.learning_rate) == pytest.approx(new.direction.learning_rate)
    assert new.clipnorm == old.clipnorm
    assert new.use_ema == old.use_ema
    if old.weight_decay is not None:
        assert float(new.weight_decay) == pytest.approx(float(old.weight_decay))
    model.fit(*data(), epochs=1, verbose=0)
    assert int(new.age) > 0


def test_the_loss_scale_is_kept():
    if keras.backend.backend() == "torch":
        pytest.skip("mixed_float16 does not train on the CPU")
    keras.config.set_dtype_policy("mixed_float16")
    model = trained(keras.optimizers.Adam(0.001))
    scale = float(model.optimizer.dynamic_scale)
    with pytest.warns(UserWarning, match="begins anew"):
        convert.adopt(model, "orthogonal")
    assert isinstance(model.optimizer.inner_optimizer, NAGD)
    assert float(model.optimizer.dynamic_scale) == scale


def test_an_unknown_direction_leaves_the_model_as_it_was():
    model = trained(keras.optimizers.Adam(0.01))
    old = model.optimizer
    with pytest.raises(ValueError, match="`direction` must be one of"):
        convert.adopt(model, "muon")
    assert model.optimizer is old


def test_without_one_only_sgd_goes_on():
    model = trained(keras.optimizers.Adam(0.01))
    with pytest.raises(TypeError, match="SGD"):
        convert.adopt(model)


def test_a_nagd_keeps_its_settings():
    settings = {
        "skip_nonfinite": True,
        "restart": "gradient",
        "learning_rate_multipliers": {"kernel": 0.5},
        "weight_decay": keras.optimizers.schedules.PolynomialDecay(0.1, 10),
    }
    old = NAGD(0.02, 0.5, **settings)
    model = trained(old)
    with pytest.warns(UserWarning, match="begins anew"):
        convert.adopt(model, "orthogonal")
    config, before = model.optimizer.get_config(), old.get_config()
    changed = {"direction", "learning_rate", "momentum"}
    assert {k: v for k, v in config.items() if k not in changed} == {
        k: v for k, v in before.items() if k not in changed
    }
