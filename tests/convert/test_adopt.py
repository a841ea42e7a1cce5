"""A compiled model goes on training with NAGD as if it had kept Keras' SGD."""

import keras
import numpy as np
import pytest

from nagd_keras import NAGD, convert
from tests.support.drivers import assert_identical, snapshot, to_float64
from tests.support.limits import needs
from tests.support.tolerances import TRAJECTORY, assert_close
from tests.support.training import data, fit, nagd, network

SCHEDULE = keras.optimizers.schedules.ExponentialDecay(0.125, 20, 0.8)


def sgd(**settings):
    return keras.optimizers.SGD(
        **{"learning_rate": 0.125, "momentum": 0.875, "nesterov": True, **settings}
    )


def trained(optimizer=None, **settings):
    model = network(sgd() if optimizer is None else optimizer, **settings)
    fit(model, epochs=2)
    return model


def assert_same_training(adopted, twin, dtype="float32", epochs=2):
    """The losses of the following epochs, and the weights at their end.

    Both runs round, so each may be as far from the exact one as the table says.
    """
    room = 2 * TRAJECTORY[dtype]
    ours, theirs = (fit(model, epochs=epochs).history for model in (adopted, twin))
    assert ours.keys() == theirs.keys()
    for name in theirs:
        assert_close(ours[name], theirs[name], room, name)
    for a, b in zip(snapshot(adopted), snapshot(twin), strict=True):
        assert_close(a, b, room)


# Settings of the SGD, of `compile`, and a dtype policy.
WAYS = {
    "plain": ({}, {}, "float32"),
    "eager": ({}, {"run_eagerly": True, "jit_compile": False}, "float32"),
    "steps per execution": ({}, {"steps_per_execution": 3}, "float32"),
    "xla": ({"learning_rate": SCHEDULE}, {"jit_compile": True}, "float32"),
    "accumulation, average": (
        {"gradient_accumulation_steps": 4, "use_ema": True, "weight_decay": 0.01},
        {},
        "float32",
    ),
    "gradient descent": ({"momentum": 0.0, "nesterov": False}, {}, "float32"),
    "mixed float16": ({}, {}, "mixed_float16"),
}


# Ways in which Keras' own SGD does not train for a second time either.
CANNOT = {
    ("jax", "accumulation, average"): "Keras' averages share memory with the variables after fit",
    ("torch", "steps per execution"): "Keras has none for PyTorch",
    ("torch", "xla"): "it takes a compiler",
}


@pytest.mark.keep(1)
@pytest.mark.parametrize("way", WAYS)
def test_training_goes_on(way):
    if reason := CANNOT.get((keras.backend.backend(), way)):
        pytest.skip(reason)
    settings, compile, policy = WAYS[way]
    keras.config.set_dtype_policy(policy)
    model, twin = (trained(sgd(**settings), **compile) for _ in range(2))
    assert convert.adopt(model) is model
    assert type(nagd(model)) is NAGD
    for name in ("run_eagerly", "steps_per_execution", "jit_compile"):
        assert getattr(model, name) == getattr(twin, name)
    assert_same_training(model, twin, "float16" if policy == "mixed_float16" else "float32")
    assert type(nagd(model)) is NAGD
    batches = int(nagd(twin)._iterations)  # Loss scaling has left one out in float16.
    assert int(nagd(model)._iterations) == batches >= 4 * 6 - 1
    assert int(nagd(model).age) == batches // settings.get("gradient_accumulation_steps", 1)


def test_a_saved_model_is_adopted_in_two_lines_and_saved_as_nagd(tmp_path):
    twin = trained()
    twin.save(tmp_path / "sgd.keras")
    model = keras.saving.load_model(tmp_path / "sgd.keras")
    convert.adopt(model)
    fit(model, epochs=1)
    fit(twin, epochs=1)
    model.save(tmp_path / "nagd.keras")
    again = keras.saving.load_model(tmp_path / "nagd.keras")
    assert type(again.optimizer) is NAGD
    assert_identical(snapshot(again, again.optimizer), snapshot(model, model.optimizer))
    assert np.any(to_float64(again.optimizer.displacements[0]))
    assert_same_training(again, twin)


def test_the_old_optimizer_stays_as_it_is():
    """On JAX, `fit` gives away the memory of what it trains."""
    model = trained()
    old = model.optimizer
    before = snapshot(old)
    fit(convert.adopt(model), epochs=1)
    assert_identical(snapshot(old), before)


@pytest.mark.long
def test_the_loss_scale_is_kept(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    scaled = keras.optimizers.LossScaleOptimizer(
        sgd(weight_decay=0.01), initial_scale=64.0, dynamic_growth_steps=5, name="mine"
    )
    model = trained(scaled)
    convert.adopt(model)
    new = model.optimizer
    assert type(new) is keras.optimizers.LossScaleOptimizer
    assert new is not scaled
    assert (new.name, new.initial_scale, new.dynamic_growth_steps) == ("mine", 64.0, 5)
    assert float(new.dynamic_scale) == float(scaled.dynamic_scale) > 64.0
    assert int(new.step_counter) == int(scaled.step_counter) == 12 % 5
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again.optimizer.inner_optimizer) is NAGD
    assert_identical(snapshot(again.optimizer), snapshot(new))


@pytest.mark.long
def test_without_loss_scaling_there_is_none_afterwards():
    keras.config.set_dtype_policy("mixed_float16")
    model = network(sgd(), auto_scale_loss=False)
    fit(convert.adopt(model), epochs=1)
    assert type(model.optimizer) is NAGD


def doubled(y_true, y_pred):
    return 2 * keras.ops.mean((y_true - y_pred) ** 2, axis=-1)


def test_all_that_was_compiled_is_kept():
    metric, weighted = keras.metrics.MeanAbsoluteError(), keras.metrics.RootMeanSquaredError()
    settings = {"loss": [doubled], "loss_weights": [0.5], "metrics": [metric]}
    model = trained(**settings, weighted_metrics=[weighted])
    before = {**vars(model), **model._compile_config.config}
    metrics = model.get_metrics_result()
    convert.adopt(model)
    if hasattr(model, "_trackable_children"):  # of which TensorFlow makes its checkpoints
        assert model._trackable_children()["optimizer"] is model.optimizer
    after = {**vars(model), **model._compile_config.config}
    changed = {name for name in after if after[name] is not before[name]}
    assert changed == {"optimizer", "train_function"}
    assert after.keys() == before.keys()
    assert model.get_metrics_result() == metrics


def test_what_was_set_after_compile_is_kept():
    model = trained()
    model.run_eagerly, model.steps_per_execution = True, 2
    convert.adopt(model)
    assert model.run_eagerly
    assert model.steps_per_execution == 2


@pytest.mark.long
def test_a_model_with_a_compile_of_its_own():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, x):
            return self.dense(x)

        def compile(self, rate, extra):
            super().compile(optimizer=sgd(learning_rate=rate), loss="mse")
            self.extra = extra

    model = Own()
    model.compile(0.25, extra=3)
    fit(model, epochs=1)
    fit(convert.adopt(model), epochs=1)
    assert model.extra == 3
    assert int(model.optimizer.age) == 2 * 6


def test_a_model_that_has_not_trained_yet():
    model, twin = network(sgd()), network(sgd())
    assert not convert.adopt(model).optimizer.built
    assert_same_training(model, twin)


@pytest.mark.long
def test_train_on_batch_goes_on():
    model, twin = network(sgd()), network(sgd())
    x, y = data()
    for i in range(6):
        rows = slice(8 * i, 8 * i + 8)
        for each in (model, twin):
            each.train_on_batch(x[rows], y[rows])
        if i == 2:
            convert.adopt(model)
    for a, b in zip(snapshot(model), snapshot(twin), strict=True):
        assert_close(a, b, TRAJECTORY["float32"])


# What Keras itself has lost, or has not restored yet.


def test_the_older_format_has_no_velocities(tmp_path):
    """Keras builds the SGD for no variables, and cannot train on with it."""
    model = network(sgd(), loss="mean_squared_error", metrics=[], run_eagerly=True)
    fit(model, epochs=1)
    weights = snapshot(model)
    model.save(tmp_path / "model.h5")
    again = keras.saving.load_model(tmp_path / "model.h5")
    with pytest.warns(UserWarning, match=r"begins at rest.*made 6 updates.*\(\.h5\).*as \.keras"):
        convert.adopt(again)
    assert_identical(snapshot(again), weights)
    assert (int(again.optimizer.age), int(again.optimizer.iterations)) == (0, 6)
    fit(again, epochs=1)
    assert int(again.optimizer.age) == 6


@needs("TensorFlow's checkpoints")
def test_a_checkpoint_of_tensorflows(tmp_path):
    """Its velocities wait until the SGD is built."""
    import tensorflow as tf

    twin = trained(run_eagerly=True)
    path = tf.train.Checkpoint(model=twin, optimizer=twin.optimizer).save(tmp_path / "model")
    model = network(sgd(), run_eagerly=True)
    tf.train.Checkpoint(model=model, optimizer=model.optimizer).restore(path)
    convert.adopt(model)
    assert_same_training(model, twin, epochs=1)


def test_weights_with_the_state_of_the_optimizer(tmp_path):
    twin = trained(run_eagerly=True)
    twin.save_weights(tmp_path / "model.weights.h5")
    model = network(sgd(), run_eagerly=True)
    model.optimizer.build(model.trainable_variables)
    model.load_weights(tmp_path / "model.weights.h5")
    assert_same_training(convert.adopt(model), twin, epochs=1)
