"""The average of a variable is its own, also where other variables were frozen meanwhile."""

import keras
import numpy as np
import pytest

from nagd_keras import NAGD
from tests.support.drivers import assert_identical, snapshot
from tests.support.limits import needs

X, Y = np.eye(4, dtype="float32"), np.arange(8, dtype="float32").reshape(4, 2)
pytestmark = needs("frozen after it was built")


def network(**settings):
    """Two layers whose variables have the same shapes."""
    layers = [keras.layers.Dense(2, name=name) for name in ("first", "second")]
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="zeroth"), *layers])
    optimizer = NAGD(0.05, 0.5, use_ema=True, ema_momentum=0.5, **settings)
    model.compile(optimizer=optimizer, loss="mse", run_eagerly=True)
    return model


def freeze(model, name):
    """Freezes a layer, and goes on with the same optimizer; returns the variables of all layers."""
    model.get_layer(name).trainable = False
    model.compile(optimizer=model.optimizer, loss="mse", run_eagerly=True)
    return [layer.weights for layer in model.layers]


def averages(model):
    """Those of the variables of each layer."""
    flat = [np.array(a) for a in snapshot(model.optimizer._state.slots["average"])]
    return [flat[:2], flat[2:4], flat[4:]]


@pytest.mark.keep(1)
@pytest.mark.parametrize("loaded", [False, True])
def test_the_end_of_a_fit(tmp_path, loaded):
    model = network()
    model.fit(X, Y, batch_size=2, epochs=2, verbose=0)
    if loaded:
        model.save(tmp_path / "model.keras")
        model = keras.saving.load_model(tmp_path / "model.keras")
    zeroth, first, second = freeze(model, "first")
    before = snapshot(first)
    model.fit(X, Y, batch_size=2, epochs=2, verbose=0)
    assert_identical(snapshot(first), before)
    for found, wanted in zip((zeroth, second), averages(model)[::2], strict=True):
        assert_identical(snapshot(found), wanted)


def test_overwriting():
    """A frozen layer stays where it is, and not where its average has it."""
    model = network(ema_overwrite_frequency=3)
    for _ in range(2):
        model.train_on_batch(X, Y)
    zeroth, first, second = freeze(model, "first")
    before = snapshot(first)
    assert np.any(before[0] != averages(model)[1][0])
    model.train_on_batch(X, Y)
    assert_identical(snapshot(first), before)
    for found, wanted in zip((zeroth, second), averages(model)[::2], strict=True):
        assert_identical(snapshot(found), wanted)


@pytest.mark.skipif(
    tuple(map(int, keras.__version__.split(".")[:2])) < (3, 15),
    reason="an earlier SwapEMAWeights takes the first averages for those of the trainable layers",
)
def test_keras_swap():
    model = network()
    for _ in range(2):
        model.train_on_batch(X, Y)
    layers = freeze(model, "first")
    model.train_on_batch(X, Y)
    wanted, seen = averages(model), []
    look = keras.callbacks.LambdaCallback(
        on_test_batch_end=lambda *_, **__: seen.append([snapshot(layer) for layer in layers])
    )
    model.evaluate(X, Y, verbose=0, callbacks=[keras.callbacks.SwapEMAWeights(), look])
    for found, average in zip(seen[0], wanted, strict=True):
        for a, b in zip(found, average, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
