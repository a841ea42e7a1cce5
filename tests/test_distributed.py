"""NAGD under a distribution strategy; in a process of its own, since devices are set up once."""

import subprocess
import sys

import keras
import pytest

SCRIPT = """
import sys
import keras, numpy as np, tensorflow as tf
from nagd_keras import NAGD
from nagd_keras.tensors import number

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
x = np.random.default_rng(0).normal(size=(32, 3)).astype("float32")
y = np.sin(x.sum(axis=1, keepdims=True))


def train(make_optimizer, **changes):
    keras.utils.set_random_seed(0)
    layers = [keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(optimizer=make_optimizer(), loss="mse")
    model.fit(x, y, batch_size=8, epochs=1, shuffle=False, verbose=0)
    for name, value in changes.items():
        setattr(model.optimizer, name, value)
    model.fit(x, y, batch_size=8, epochs=1, shuffle=False, verbose=0)
    return model


def close(a, b):
    pairs = zip(a.get_weights(), b.get_weights(), strict=True)
    return all(np.allclose(u, v, rtol=0, atol=32 * 2.0**-24 * np.max(np.abs(v))) for u, v in pairs)


def descent():
    return keras.optimizers.SGD(0.125)


def nesterov():
    return keras.optimizers.SGD(0.125, 0.875, nesterov=True)


def scheduled():
    return NAGD(0.125, keras.optimizers.schedules.PolynomialDecay(0.5, 8, 0.9))


def clipped():
    return NAGD(0.125, 0.875, clipnorm=0.05)


def clipped_by_keras():
    return keras.optimizers.SGD(0.125, 0.875, nesterov=True, clipnorm=0.05)


def live():
    return NAGD(0.125, 0.875, weight_decay=0.0)


with strategy.scope():
    print("as Keras:", close(train(live), train(nesterov)))
    print("clips as Keras:", close(train(clipped), train(clipped_by_keras)))
    assert not close(train(clipped), train(nesterov))

live_changes = {"momentum": 0.5, "weight_decay": 0.125, "learning_rate": 0.0625}
for make_optimizer, changes in [(descent, {}), (scheduled, {}), (live, live_changes)]:
    with strategy.scope():
        two = train(make_optimizer, **changes)
    print(make_optimizer.__name__, "agrees:", close(two, train(make_optimizer, **changes)))
assert int(two.optimizer.age.numpy()) == 8, two.optimizer.age
assert float(two.optimizer.momentum.numpy()) == 0.5

# Decisions of all replicas, by gradients that are summed: a NaN that one of them has counts.
poisoned = x.copy()
poisoned[8] = np.nan
decisive = [{"restart": "speed"}, {"skip_nonfinite": True, "restart": "gradient"}]
decisive += [{"skip_nonfinite": True, "global_clipnorm": 0.5}]


def decide(settings):
    keras.utils.set_random_seed(0)
    layers = [keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(optimizer=NAGD(0.125, 0.96875, use_ema=True, **settings), loss="mse")
    inputs = poisoned if "skip_nonfinite" in settings else x
    model.fit(inputs, y, batch_size=8, epochs=6, shuffle=False, verbose=0)
    return model


for settings in decisive:
    with strategy.scope():
        both = decide(settings)
    one = decide(settings)
    names = "age", "restarts", "skipped_updates"
    counts = [[int(number(getattr(m.optimizer, name))) for name in names] for m in (one, both)]
    exact = "global_clipnorm" not in settings  # which replicas apply to their shares
    alike = close(both, one) and counts[0] == counts[1] if exact else counts[1][2] == 6
    print(settings, counts, "decide alike:", alike)

two.save(sys.argv[1])
again = keras.saving.load_model(sys.argv[1])
for a, b in zip(again.optimizer.variables, two.optimizer.variables, strict=True):
    np.testing.assert_array_equal(a.numpy(), b.numpy())
print("saved")

# Rows that either replica looked up, or both.
ids = np.random.default_rng(1).integers(0, 6, size=(32, 3))


def recommend(**settings):
    keras.utils.set_random_seed(0)
    layers = [keras.Input((3,)), keras.layers.Embedding(8, 4), keras.layers.Flatten()]
    model = keras.Sequential([*layers, keras.layers.Dense(1)])
    model.compile(optimizer=NAGD(0.125, 0.875, **settings), loss="mse")
    model.fit(ids, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    return model


for settings in ({"sparse_updates": "lazy"}, {}, {"slot_dtype": "float64"}, {"clipvalue": 9.0}):
    with strategy.scope():
        two_tables = recommend(**settings)
    print(settings, "rows agree:", close(two_tables, recommend(**settings)))

# A model is adopted, outside the scope, by one that goes on in both replicas.
from nagd_keras import convert

with strategy.scope():
    adopted, kept = train(nesterov), train(nesterov)
convert.adopt(adopted)
for model in (adopted, kept):
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
print("adopted:", close(adopted, kept), int(adopted.optimizer.age.numpy()))

# A range test of a model that nothing has built yet, outside the scope.
from nagd_keras import callbacks

with strategy.scope():
    model = keras.Sequential([keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
    model.compile(optimizer=NAGD(), loss="mse")
sweep = callbacks.find_learning_rate(model, x, y, max=0.1, steps=20, batch_size=8, verbose=0)
model.fit(x, y, epochs=1, verbose=0)
print("range test:", len(sweep.losses))
for callback in callbacks.HyperparameterMonitor(norms=True), callbacks.StopAtTolerance(0.1):
    try:
        model.fit(x, y, epochs=1, verbose=0, callbacks=[callback])
    except ValueError as error:
        print(error)
"""


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.distribute is TensorFlow's")
def test_two_replicas(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "model.keras")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "as Keras: True" in result.stdout
    assert "clips as Keras: True" in result.stdout
    assert result.stdout.count("decide alike: True") == 3, result.stdout
    assert "saved" in result.stdout
    assert result.stdout.count("rows agree: True") == 4
    assert "adopted: True 16" in result.stdout
    assert "range test: 20" in result.stdout
    for name in ("HyperparameterMonitor", "StopAtTolerance"):
        assert f"{name} cannot tell the norm" in result.stdout
    for name in ("descent", "scheduled", "live"):
        assert f"{name} agrees: True" in result.stdout
