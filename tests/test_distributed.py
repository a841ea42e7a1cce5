"""NAGD under a distribution strategy; in a process of its own, since devices are set up once."""

import subprocess
import sys

import keras
import pytest

SCRIPT = """
import sys
import keras, numpy as np, tensorflow as tf
from nagd_keras import NAGD

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
x = np.random.default_rng(0).normal(size=(32, 3)).astype("float32")
y = np.sin(x.sum(axis=1, keepdims=True))


def train():
    keras.utils.set_random_seed(0)
    rising = keras.optimizers.schedules.PolynomialDecay(0.5, 8, 0.9)
    layers = [keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(optimizer=NAGD(0.1, rising, weight_decay=0.0), loss="mse")
    model.fit(x, y, batch_size=8, epochs=1, shuffle=False, verbose=0)
    model.optimizer.weight_decay = 0.125
    model.fit(x, y, batch_size=8, epochs=1, shuffle=False, verbose=0)
    return model


one = train()
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    two = train()
assert strategy.num_replicas_in_sync == 2
assert int(two.optimizer.age.numpy()) == 8, two.optimizer.age
for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
    np.testing.assert_allclose(b, a, atol=32 * 2.0**-24 * np.max(np.abs(a)))
two.save(sys.argv[1])
again = keras.saving.load_model(sys.argv[1])
for a, b in zip(again.optimizer.variables, two.optimizer.variables, strict=True):
    np.testing.assert_array_equal(a.numpy(), b.numpy())
print("two replicas are one")
"""


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.distribute is TensorFlow's")
def test_two_replicas_train_as_one_device(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "model.keras")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "two replicas are one" in result.stdout, result.stderr
