"""Every way in which Keras drives an optimizer ends at the same weights."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest

from nagd_keras import NAGD
from tests.reference.nesterov import textbook
from tests.support.drivers import assert_identical, snapshot, to_float64
from tests.support.limits import needs
from tests.support.problems import Table
from tests.support.tolerances import TRAJECTORY, UNIT, assert_close

EPOCHS, BATCH, BATCHES = 3, 8, 6
STEPS = EPOCHS * BATCHES
BACKEND = keras.backend.backend()


@pytest.fixture
def data(rng):
    x = rng.normal(size=(BATCH * BATCHES, 6)).astype("float32")
    return x, np.sin(x.sum(axis=1, keepdims=True)).astype("float32")


def make_model(seed=1):
    def dense(units, activation=None):
        initializer = keras.initializers.GlorotUniform(seed=seed + units)
        return keras.layers.Dense(units, activation, kernel_initializer=initializer)

    return keras.Sequential([keras.Input((6,)), dense(8, "tanh"), dense(1)])


LEARNING_RATE = 0.05
MOMENTA = np.linspace(0.5, 0.95, STEPS + 1)


def make_optimizer():
    return NAGD(LEARNING_RATE, Table(MOMENTA, "float32"))


def weights(model):
    return np.concatenate([np.ravel(to_float64(v)) for v in model.trainable_variables])


def fit(model, x, y=None, *, optimizer=None, steps_per_execution=1, **settings):
    """Keras' own loop, in the order of the data."""
    batch_size = {"batch_size": BATCH} if y is not None else {}
    compiled = {key: settings.pop(key) for key in list(settings) if key != "callbacks"}
    model.compile(
        optimizer=optimizer or make_optimizer(),
        loss="mse",
        steps_per_execution=steps_per_execution,
        **compiled,
    )
    model.fit(x, y, epochs=EPOCHS, shuffle=False, verbose=0, **batch_size, **settings)


def with_tf_data(model, x, y):
    import tensorflow as tf

    fit(model, tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH))


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return BATCHES

    def __getitem__(self, i):
        rows = slice(i * BATCH, (i + 1) * BATCH)
        return self.x[rows], self.y[rows]


def with_train_on_batch(model, x, y):
    model.compile(optimizer=make_optimizer(), loss="mse")
    batches = Batches(x, y)
    for i in list(range(BATCHES)) * EPOCHS:
        model.train_on_batch(*batches[i])


def with_gradient_tape(update: Callable[[Any, Any, Any], None], compiled: bool) -> Callable:
    def train(model, x, y):
        import tensorflow as tf

        optimizer, loss_fn = make_optimizer(), keras.losses.MeanSquaredError()
        optimizer.build(model.trainable_variables)

        def step(x, y):
            with tf.GradientTape() as tape:
                loss = loss_fn(y, model(x, training=True))
            variables = model.trainable_variables
            update(optimizer, tape.gradient(loss, variables), variables)

        step = tf.function(step) if compiled else step
        batches = Batches(x, y)
        for i in list(range(BATCHES)) * EPOCHS:
            step(*map(tf.convert_to_tensor, batches[i]))

    return train


def apply_gradients(optimizer, gradients, variables):
    optimizer.apply_gradients(zip(gradients, variables, strict=True))


def apply(optimizer, gradients, variables):
    optimizer.apply(gradients, variables)


def apply_to_built(optimizer, gradients, variables):
    optimizer.apply(gradients)


def in_multi_optimizer(model, x, y):
    optimizers = keras.optimizers
    default = make_optimizer()
    # Two optimizers that follow the same schedules are one.
    by_path = optimizers.OptimizerMap(default, {".*bias": make_optimizer()})
    fit(model, x, y, optimizer=optimizers.MultiOptimizer(by_path))


@dataclass(frozen=True)
class Way:
    name: str
    train: Callable[[Any, Any, Any], None]
    backends: tuple[str, ...] = ("tensorflow", "jax", "torch")
    needs: str = ""  # a name in keras.optimizers that older versions of Keras lack
    marks: tuple[Any, ...] = ()


WAYS = [
    Way("numpy", fit),
    Way("tf_data", with_tf_data, ("tensorflow", "jax")),
    Way("py_dataset", lambda m, x, y: fit(m, Batches(x, y))),
    # On PyTorch see `test_compiled_torch`.
    Way("jit", lambda m, x, y: fit(m, x, y, jit_compile=True), ("tensorflow", "jax")),
    Way("no_jit", lambda m, x, y: fit(m, x, y, jit_compile=False)),
    Way("eager", lambda m, x, y: fit(m, x, y, run_eagerly=True)),
    Way(
        "steps_per_execution",
        lambda m, x, y: fit(m, x, y, steps_per_execution=4),
        marks=(needs("steps per execution"),),
    ),
    Way(
        "steps_per_execution_jit",
        lambda m, x, y: fit(m, x, y, steps_per_execution=4, jit_compile=True),
        ("tensorflow", "jax"),
    ),
    Way("train_on_batch", with_train_on_batch),
    Way("tape_apply_gradients", with_gradient_tape(apply_gradients, False), ("tensorflow",)),
    Way("tape_apply", with_gradient_tape(apply, False), ("tensorflow",)),
    Way("tape_apply_gradients_graph", with_gradient_tape(apply_gradients, True), ("tensorflow",)),
    Way("tape_apply_graph", with_gradient_tape(apply_to_built, True), ("tensorflow",)),
    Way(
        "cloned_optimizer",
        lambda m, x, y: fit(m, x, y, optimizer=NAGD.from_config(make_optimizer().get_config())),
    ),
    Way("multi_optimizer", in_multi_optimizer, ("tensorflow", "torch"), "MultiOptimizer"),
]


def marked(way):
    marks = [
        *way.marks,
        pytest.mark.skipif(BACKEND not in way.backends, reason=f"not a way of {BACKEND}"),
        pytest.mark.skipif(
            bool(way.needs) and not hasattr(keras.optimizers, way.needs),
            reason=f"this Keras has no {way.needs}",
        ),
    ]
    return pytest.param(way, id=way.name, marks=marks)


WAYS = [marked(way) for way in WAYS]


@pytest.fixture
def expected(data):
    """The weights that the textbook recursion ends at, with gradients made by hand in float64."""
    x, y = (np.asarray(each, np.float64) for each in data)
    model = make_model()
    shapes = [v.shape for v in model.trainable_variables]
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    batches = itertools.cycle(range(BATCHES))

    def gradient(parameters):
        rows = slice(BATCH * (i := next(batches)), BATCH * (i + 1))
        kernel, bias, kernel_2, bias_2 = (
            part.reshape(shape)
            for part, shape in zip(np.split(parameters, ends[:-1]), shapes, strict=True)
        )
        hidden = np.tanh(x[rows] @ kernel + bias)
        error = 2 / BATCH * (hidden @ kernel_2 + bias_2 - y[rows])  # of the mean squared error
        before_tanh = error @ kernel_2.T * (1 - hidden**2)
        parts = x[rows].T @ before_tanh, before_tanh.sum(0), hidden.T @ error, error.sum(0)
        return np.concatenate([np.ravel(part) for part in parts])

    points = textbook(gradient, weights(model), MOMENTA, [LEARNING_RATE] * STEPS)
    return points[-1].look_ahead


@pytest.mark.keep(1)
@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_the_same_weights(data, expected, way):
    model = make_model()
    before = weights(model)
    way.train(model, *data)
    assert np.max(np.abs(weights(model) - before)) > 0.01
    assert_close(weights(model), expected, TRAJECTORY["float32"], way.name)


def test_the_momentum_schedule_matters_to_those_weights(data, expected):
    model = make_model()
    fit(model, *data, optimizer=NAGD(LEARNING_RATE, 0.9))
    assert np.max(np.abs(weights(model) - expected)) > 1000 * TRAJECTORY["float32"]


@pytest.mark.long
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_is_keras_sgd_in_mixed_precision(data, policy):
    keras.config.set_dtype_policy(policy)

    def trained(optimizer):
        model = make_model()
        fit(model, *data, optimizer=optimizer)
        wrapped = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        assert wrapped == (policy == "mixed_float16")
        assert int(optimizer.iterations) == STEPS
        return weights(model)

    def sgd(momentum, nesterov):
        return trained(keras.optimizers.SGD(LEARNING_RATE, momentum, nesterov=nesterov))

    # The weights are float32; where they differ by a rounding, what the layers compute from
    # them may differ by one in 16 bits.
    one = UNIT[policy.removeprefix("mixed_")]
    found = trained(NAGD(LEARNING_RATE, 0.875))
    assert_close(found, sgd(0.875, True), one)
    for momentum, nesterov in [(0.875, False), (0.75, True)]:
        assert np.max(np.abs(found - sgd(momentum, nesterov))) > 4 * one


def test_a_batch_that_overflows_in_float16_is_skipped(data):
    x, y = data
    keras.config.set_dtype_policy("mixed_float16")
    model = make_model()
    model.compile(optimizer=NAGD(0.05), loss="mse")
    model.train_on_batch(x[:BATCH], y[:BATCH])
    nagd, before = model.optimizer.inner_optimizer, weights(model)
    slots = snapshot(nagd.displacements)
    model.train_on_batch(x[:BATCH], np.full((BATCH, 1), np.inf, "float32"))
    np.testing.assert_array_equal(weights(model), before)
    assert_identical(snapshot(nagd.displacements), slots)
    assert int(nagd.age) == 1


def test_compile_by_registered_name(data):
    model = make_model()
    fit(model, *data, optimizer="nagd_keras>NAGD")
    assert type(model.optimizer) is NAGD
    assert int(model.optimizer.age) == STEPS


def test_a_cloned_model_brings_its_own_nagd(data):
    model = make_model()
    model.compile(optimizer=make_optimizer(), loss="mse")
    clone = keras.models.clone_model(model)
    if not clone.compiled:  # as in older versions of Keras
        clone.compile_from_config(model.get_compile_config())
    clone.set_weights(model.get_weights())
    assert type(clone.optimizer) is NAGD
    assert clone.optimizer is not model.optimizer
    assert clone.optimizer.get_config() == model.optimizer.get_config()
    for each in (model, clone):
        each.fit(*data, BATCH, EPOCHS, shuffle=False, verbose=0)
    assert_identical(snapshot(clone, clone.optimizer), snapshot(model, model.optimizer))


def test_fit_again_goes_on(data):
    once, twice = make_model(), make_model()
    fit(once, *data)
    x, y = data
    twice.compile(optimizer=make_optimizer(), loss="mse")
    for epoch in range(EPOCHS):
        twice.fit(x, y, BATCH, initial_epoch=epoch, epochs=epoch + 1, shuffle=False, verbose=0)
    np.testing.assert_array_equal(weights(once), weights(twice))
