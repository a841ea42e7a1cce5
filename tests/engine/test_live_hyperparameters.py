"""A hyperparameter that is set while training is used in the next update, with no new trace."""

import copy

import keras
import numpy as np
import pytest

from nagd_keras import NAGD
from nagd_keras.tensors import number
from tests.support.drivers import DRIVERS, Run, to_float64
from tests.support.problems import Table, random_quadratic
from tests.support.tolerances import TRAJECTORY, assert_close

BACKEND = keras.backend.backend()
SEQUENCES = {
    "learning_rate": [0.5, 0.25, 0.0, 0.125, 0.75, 0.5],
    "momentum": [0.5, 0.0, 0.875, 0.96875, 0.0, 0.25],
    "weight_decay": [0.0, 0.25, 0.125, 0.0, 0.5, 0.0],
}


class Set(keras.callbacks.Callback):
    """Sets a hyperparameter before every epoch."""

    def __init__(self, name, values):
        super().__init__()
        self.name, self.values = name, values

    def on_epoch_begin(self, epoch, logs=None):
        setattr(self.model.optimizer, self.name, self.values[epoch])


class CountedLoss:
    """Mean squared error that counts how often Keras traces it."""

    def __init__(self):
        self.traces = 0

    def __call__(self, y, prediction):
        self.traces += 1
        return keras.ops.mean(keras.ops.square(y - prediction))


def scheduled(name, epochs_of):
    """The optimizer that follows by schedule what the callback sets."""
    settings = {"learning_rate": 0.5, "momentum": 0.5, "weight_decay": 0.125}
    values = np.repeat(SEQUENCES[name], epochs_of)
    # Momentum is read at age + 1; the learning rate and weight decay at iterations.
    settings[name] = Table(np.concatenate([[0.0], values]) if name == "momentum" else values)
    return NAGD(**settings)


@pytest.mark.keep(1)
@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("jit_compile", ["auto", True, False] if BACKEND != "torch" else ["auto"])
def test_set_by_a_callback_in_fit(rng, float64, name, jit_compile):
    x, y = rng.normal(size=(32, 4)), rng.normal(size=(32, 1))
    epochs = len(SEQUENCES[name])
    found = []
    for optimizer, callbacks in [
        (NAGD(0.5, 0.5, weight_decay=0.125), [Set(name, SEQUENCES[name])]),
        (scheduled(name, epochs_of=2), []),
    ]:
        keras.utils.set_random_seed(3)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        loss = CountedLoss()
        model.compile(optimizer=optimizer, loss=loss, jit_compile=jit_compile)
        traces = []
        callbacks.append(
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs, loss=loss, traces=traces: traces.append(
                    loss.traces
                )
            )
        )
        model.fit(x, y, batch_size=16, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks)
        if BACKEND == "tensorflow" or (BACKEND == "jax" and jit_compile):  # else it is eager
            assert len(set(traces)) == 1, f"traced again: {traces}"
        found.append([to_float64(v) for v in model.trainable_variables])
    for a, b in zip(*found, strict=True):
        assert_close(a, b, TRAJECTORY["float64"], name)


@pytest.mark.keep(3)
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("name", SEQUENCES)
def test_set_between_steps(rng, float64, name, driver):
    problem, x = random_quadratic(rng, 6), rng.normal(size=6)
    live = Run(NAGD(0.5, 0.5, weight_decay=0.125), [x], "float64", driver)
    expected = Run(scheduled(name, epochs_of=1), [x], "float64")
    for value in SEQUENCES[name]:
        setattr(live.optimizer, name, value)
        assert float(getattr(live.optimizer, name)) == value
        for run in (live, expected):
            run.step([problem.gradient(run.look_ahead[0])])
        assert_close(live.look_ahead[0], expected.look_ahead[0], TRAJECTORY["float64"])


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.function is TensorFlow's")
@pytest.mark.parametrize("jit_compile", [False, True])
def test_no_trace_on_the_second_call_or_after_any_change(rng, jit_compile):
    import tensorflow as tf

    optimizer = NAGD(0.5, 0.5, weight_decay=0.125)
    variable = keras.Variable(rng.normal(size=3).astype("float32"))
    optimizer.build([variable])
    traces = []

    @tf.function(jit_compile=jit_compile)
    def step(gradient):
        traces.append(1)
        optimizer.apply([gradient])

    gradient = tf.ones(3)
    for _ in range(3):
        step(gradient)
    for name, values in SEQUENCES.items():
        for value in values:
            setattr(optimizer, name, value)
            step(gradient)
    optimizer.reset_momentum()
    step(gradient)
    assert len(traces) == 1
    assert step.experimental_get_tracing_count() == 1


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.function is TensorFlow's")
def test_set_inside_a_compiled_step():
    """The value is known only when the step runs; that is soon enough."""
    import tensorflow as tf

    optimizer = NAGD(0.5, 0.5)
    variable = keras.Variable([1.0])
    optimizer.build([variable])

    @tf.function
    def step(momentum):
        optimizer.momentum = momentum
        optimizer.apply([tf.ones(1)])

    s, w = 0.0, 1.0
    for momentum in (0.25, 0.75):
        step(tf.constant(momentum))
        assert float(optimizer.momentum) == momentum
        s = momentum * (s - 0.5)
        w = w - 0.5 + s
        np.testing.assert_array_equal(to_float64(variable), [w])


VARIABLES = keras.Variable, lambda x: keras.Variable(x).value


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("make", VARIABLES, ids=["variable", "native variable"])
def test_a_variable_that_a_callable_returns_is_followed(make, driver):
    if BACKEND == "jax" and (driver != "eager" or make is not keras.Variable):
        pytest.skip("JAX holds it for a constant, and its arrays do not change")
    source, other = make(0.5), make(0.25)
    optimizer = NAGD(lambda: source, lambda: other, weight_decay=lambda: other)
    run = Run(optimizer, [np.ones(2)], "float32", driver)
    w, s = np.ones(2), np.zeros(2)
    for eps in (0.5, 0.125, 0.75):
        if hasattr(source, "assign"):
            source.assign(eps)
        else:  # PyTorch's
            source.data.fill_(eps)
        run.step([np.ones(2)])
        s = 0.25 * (s - eps)
        w = w - eps * 0.25 * w - eps + s
        assert_close(run.look_ahead[0], w, TRAJECTORY["float32"])


@pytest.mark.keep(7)
@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize(
    "make",
    [
        lambda x: x,
        np.float32,
        np.float64,
        lambda x: np.array(x),
        keras.ops.convert_to_tensor,
        *VARIABLES,
    ],
    ids=["float", "np.float32", "np.float64", "np.array", "tensor", "variable", "native variable"],
)
def test_what_a_number_may_be(name, make):
    settings = {"learning_rate": 0.5, "momentum": 0.5, "weight_decay": 0.5}
    variable = make in VARIABLES  # which is refused where it would have to be followed
    optimizer = NAGD(**{**settings, name: 0.25 if variable else make(0.25)})
    assert float(getattr(optimizer, name)) == 0.25
    state = len(optimizer.variables)
    setattr(optimizer, name, make(0.75))
    assert float(getattr(optimizer, name)) == 0.75
    setattr(optimizer, name, 0)
    assert float(getattr(optimizer, name)) == 0.0
    setattr(optimizer, name, np.int64(0))
    # Another's variable gives its value; it does not become part of this optimizer.
    theirs = make(0.125)
    setattr(optimizer, name, theirs)
    setattr(optimizer, name, 0.25)
    assert number(theirs) == 0.125
    assert len(optimizer.variables) == state
    if BACKEND == "tensorflow":
        assert all(child is not theirs for child in optimizer._trackable_children().values())


@pytest.mark.parametrize("floatx", ["float16", "bfloat16"])
def test_hyperparameters_are_never_of_sixteen_bits(floatx):
    keras.config.set_floatx(floatx)
    optimizer = NAGD(0.003, 0.999, weight_decay=1e-8)
    assert float(optimizer.learning_rate) == np.float32(0.003)
    assert float(optimizer.momentum) == np.float32(0.999)
    assert float(optimizer.weight_decay) == np.float32(1e-8)
    optimizer.learning_rate = 1e6  # more than float16 has
    assert NAGD.from_config(optimizer.get_config()).get_config() == optimizer.get_config()
    assert optimizer.get_config()["learning_rate"] == 1e6


def test_schedules_count_as_documented():
    """Momentum is read at age + 1; learning rate and weight decay at the batches, as in Keras."""
    steps = {}

    class Recorded(keras.optimizers.schedules.LearningRateSchedule):
        def __init__(self, name):
            self.name = name

        def __call__(self, step):
            steps.setdefault(self.name, []).append(int(step))
            return 0.5

    optimizer = NAGD(
        Recorded("learning_rate"),
        Recorded("momentum"),
        weight_decay=Recorded("weight_decay"),
        gradient_accumulation_steps=3,
    )
    x = keras.Variable([1.0])
    steps.clear()  # each was tried at step 1
    for batch in range(1, 13):
        optimizer.apply([keras.ops.ones(1, x.dtype)], [x])
        if batch == 6:
            optimizer.reset_momentum()
    if BACKEND == "tensorflow":  # where only applied updates read anything
        assert steps["learning_rate"] == [2, 5, 8, 11]
        assert steps["weight_decay"] == [2, 5, 8, 11]
        assert steps["momentum"] == [1, 2, 1, 2]
    assert set(steps["weight_decay"]) >= {2, 5, 8, 11}
    assert int(optimizer.age) == 2
    assert int(optimizer.iterations) == 4


def test_keras_callbacks_set_the_learning_rate(rng):
    """LearningRateScheduler and ReduceLROnPlateau work as with a built-in."""
    x, y = rng.normal(size=(16, 4)), rng.normal(size=(16, 1))
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(optimizer=NAGD(0.5), loss="mse")
    plateau = keras.callbacks.ReduceLROnPlateau(
        monitor="loss", factor=0.5, patience=1, min_delta=1e9, verbose=0
    )
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch, lr: 2.0**-6)
    model.fit(x, y, epochs=1, verbose=0, callbacks=[scheduler])
    assert float(model.optimizer.learning_rate) == 2.0**-6
    model.fit(x, y, epochs=3, verbose=0, callbacks=[plateau])
    assert float(model.optimizer.learning_rate) == 2.0**-8


def test_a_schedule_may_replace_the_learning_rate_before_the_first_step(rng):
    """As Keras allows it; afterwards a compiled step would not see it."""
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 10, 0.5)
    optimizer = NAGD(0.25)
    optimizer.learning_rate = schedule
    assert optimizer.get_config()["learning_rate"]["class_name"] == "ExponentialDecay"
    assert all(v.name != "learning_rate" for v in optimizer.variables)

    optimizer = NAGD(0.25)
    optimizer.build([keras.Variable([1.0])])
    with pytest.raises(TypeError, match="new optimizer with learning_rate"):
        optimizer.learning_rate = schedule
    assert float(optimizer.learning_rate) == 0.25


def test_a_copy_follows_its_own_clock():
    """Its schedules are read at its own age and batches, not at those of the original."""
    made = NAGD(Table(np.linspace(0.1, 0.9, 9)), Table(np.linspace(0.0, 0.9, 10)))
    x = keras.Variable([1.0])
    made.build([x])
    other = copy.deepcopy(made)
    for _ in range(4):
        made.apply([keras.ops.ones(1)])
    for name, start in (("learning_rate", 0.1), ("momentum", 0.1)):
        assert float(getattr(other, name)) == pytest.approx(start)
        assert float(getattr(made, name)) > 0.4


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.function is TensorFlow's")
def test_numbers_are_set_in_a_function_that_autograph_converts():
    import tensorflow as tf

    optimizer = NAGD(0.5, 0.5)
    x = keras.Variable([1.0])
    optimizer.build([x])

    @tf.function
    def change(rate):
        optimizer.learning_rate.assign(rate)
        optimizer.momentum.assign_add(0.25)
        optimizer.apply([tf.ones(1)])

    change(tf.constant(0.25))
    assert (float(optimizer.learning_rate), float(optimizer.momentum)) == (0.25, 0.75)
    np.testing.assert_array_equal(to_float64(x), [1 - 0.25 * 1.75])
