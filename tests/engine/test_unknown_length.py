"""Data whose end shows only when a step asks for more: of that step, nothing happens."""

from typing import Any

import keras
import numpy as np
import pytest

from nagd_keras import NAGD, callbacks, schedules
from tests.family import BRIEF, settings_of
from tests.support.drivers import assert_identical, snapshot
from tests.support.training import BATCH, STEPS, data

if keras.backend.backend() != "tensorflow":
    pytest.skip("a step begins when its data are there", allow_module_level=True)

import tensorflow as tf

from nagd_keras.engine.kernels import tensorflow as kernels
from nagd_keras.engine.kernels.tensorflow import Way
from tests.support.ways import only

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*ran out of data"),
    pytest.mark.filterwarnings("ignore:Gradients do not exist"),
]
EPOCHS = 3
# The data of a batch wait for nothing, so that a step of several is one of them.
ALL = {**settings_of("all"), "ema_overwrite_frequency": 2}


def known(x: np.ndarray | None = None) -> Any:
    """Data that tell their length."""
    x = data()[0] if x is None else x
    return tf.data.Dataset.from_tensor_slices((x, data()[1])).batch(BATCH)


def ends_late(dataset: Any) -> Any:
    """The same data. When they end, all that does not wait for them has happened."""

    @tf.autograph.experimental.do_not_convert
    def is_there(i: Any, _: Any) -> Any:
        turns = tf.where(i < STEPS, 0, 200)  # of the one behind the last, for some time
        x, _ = tf.while_loop(lambda x, n: n < turns, lambda x, n: (x @ x, n + 1), (tf.eye(200), 0))
        return tf.logical_and(i < STEPS, x[0, 0] > 0)

    more = dataset.concatenate(dataset.take(1)).enumerate().filter(is_there)
    return more.map(tf.autograph.experimental.do_not_convert(lambda _, batch: batch))


def network(optimizer: Any, **compile_settings: Any) -> Any:
    """With a constraint, and a layer that has no gradients."""
    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense
    x = keras.Input((4,))
    h = dense(5, "tanh", kernel_constraint="unit_norm", name="x0")(x)
    h = h + keras.ops.stop_gradient(dense(5, kernel_constraint="non_neg", name="x1")(x))
    model = keras.Model(x, dense(1, name="out")(h))
    model.compile(optimizer=optimizer, loss="mse", **compile_settings)
    return model


def table(optimizer: Any) -> Any:
    keras.utils.set_random_seed(0)
    inner = [keras.layers.Embedding(9, 2), keras.layers.Flatten(), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *inner])
    model.compile(optimizer=optimizer, loss="mse")
    return model


def check(make: Any, dataset: Any = None, calls: Any = list, **fit: Any) -> None:
    """Trains a new model with data of known and of unknown length."""
    dataset = known() if dataset is None else dataset
    states, logs = [], []
    for each in (dataset, ends_late(dataset)):
        model = make()
        history = model.fit(each, epochs=EPOCHS, verbose=0, shuffle=False, callbacks=calls(), **fit)
        states.append(snapshot(model, model.optimizer))
        logs.append(history.history)
    assert_identical(*states)
    np.testing.assert_equal(*logs)


@pytest.mark.keep(1)
@pytest.mark.parametrize("member", BRIEF, ids=str)
def test_every_setting(member):
    check(lambda: network(NAGD(**member.settings)))


@pytest.mark.long
@pytest.mark.parametrize(
    "settings",
    [
        {"jit_compile": True},
        {"jit_compile": "auto"},
        {"run_eagerly": True},
        {"steps_per_execution": 2},
        {"steps_per_execution": 4},  # the last of an epoch has half of them
    ],
    ids=str,
)
def test_every_way_of_a_step(settings):
    check(lambda: network(NAGD(**ALL), **settings))


@pytest.mark.keep(1)
@pytest.mark.parametrize("way", Way)
@pytest.mark.parametrize("settings", [{}, {"restart": "speed"}, {"skip_nonfinite": True}], ids=str)
def test_every_way_of_an_update(way, settings):
    with only(way):
        check(lambda: network(NAGD(0.125, 0.875, weight_decay=0.125, **settings)))


@pytest.mark.long
@pytest.mark.parametrize("sparse_updates", ["dense", "lazy"])
@pytest.mark.parametrize("large", [False, True])
def test_rows(monkeypatch, sparse_updates, large):
    if large:  # which a function that XLA compiles updates
        monkeypatch.setattr(kernels, "LARGE", 1)
    ids = np.random.default_rng(0).integers(0, 9, size=(STEPS * BATCH, 4))
    make = lambda: table(NAGD(weight_decay=0.125, sparse_updates=sparse_updates))  # noqa: E731
    check(make, known(ids))


@pytest.mark.long
@pytest.mark.parametrize("spoiled", [False, True])
def test_loss_scaling(spoiled):
    keras.config.set_dtype_policy("mixed_float16")
    x = np.array(data()[0])
    x[BATCH] = np.inf if spoiled else x[BATCH]
    check(lambda: network(NAGD(**{**settings_of("averages"), "weight_decay": 0.125})), known(x))


CALLBACKS = {
    "cycle": lambda: [callbacks.OneCycle(0.1, total_steps=EPOCHS * STEPS + 1)],
    "momentum": lambda: [callbacks.MomentumScheduler(schedules.SutskeverMomentum(0.9, 2))],
    "restart": lambda: [callbacks.AdaptiveRestart(every_n_batches=2)],
    "guard": lambda: [callbacks.DivergenceGuard()],
    "iterate": lambda: [callbacks.EvaluateAtIterate()],
    "monitor": lambda: [callbacks.HyperparameterMonitor(norms=True, every_n_batches=2)],
    "tolerance": lambda: [callbacks.StopAtTolerance(gradient_norm=0)],
    "averages": lambda: [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)],
}


@pytest.mark.keep(1)
@pytest.mark.parametrize("name", CALLBACKS)
def test_callbacks(name):
    settings = {"use_ema": True} if name == "averages" else {}
    momentum = schedules.NesterovMomentum() if name in ("guard", "iterate") else 0.9
    make = lambda: network(NAGD(0.1, momentum, weight_decay=0.01, **settings))  # noqa: E731
    check(make, calls=CALLBACKS[name], validation_data=ends_late(known()))


@pytest.mark.long
def test_other_sources():
    """Those in Python, one of which several epochs share."""

    def generator():
        for _ in range(EPOCHS):
            yield from known().as_numpy_iterator()

    found = list(known())
    signature = known().element_spec
    states = []
    for source, fit in (
        (known(), {}),
        (tf.data.Dataset.from_generator(lambda: found, output_signature=signature), {}),
        (generator(), {"steps_per_epoch": STEPS}),
    ):
        model = network(NAGD(**ALL))
        model.fit(source, epochs=EPOCHS, verbose=0, shuffle=False, **fit)
        states.append(snapshot(model, model.optimizer))
    for state in states[1:]:
        assert_identical(state, states[0])


@pytest.mark.long
def test_a_generator_that_ends():
    model = network(NAGD(**settings_of("averages")))
    batches = (batch for batch in known().as_numpy_iterator())
    model.fit(batches, verbose=0, shuffle=False)
    assert int(model.optimizer.age) == STEPS
