"""Schedules as they are called, saved and trained with."""

import json
from itertools import islice
from typing import Any

import keras
import numpy as np
import pytest

from nagd_keras import NAGD
from nagd_keras.schedules import (
    LinearWarmup,
    NesterovMomentum,
    OneCycle,
    StronglyConvexMomentum,
    SutskeverMomentum,
)
from tests.reference import schedules as reference
from tests.reference.nesterov import textbook
from tests.support.drivers import LONG_RUNS, Run
from tests.support.problems import random_quadratic, worst_case_quadratic
from tests.support.schedule_cases import (
    CASES,
    COMPILED,
    EVERY,
    LARGE,
    LAST,
    NESTED,
    NESTEROV,
    WIDE,
    array,
    at,
    label,
    needs_64_bits,
)
from tests.support.tolerances import TRAJECTORY, UNIT, assert_close

STEPS = [0, 30, 99, 120]
MAKERS: dict[str, Any] = {
    "int": int,
    "float": float,
    "np.int64": np.int64,
    "np.int16": np.int16,
    "np.int8": np.int8,
    "np.uint8": np.uint8,
    "np.uint32": np.uint32,
    "np.float32": np.float32,
    "np.float64": np.float64,
    "array": np.array,
    "int32 tensor": lambda step: keras.ops.convert_to_tensor(step, "int32"),
    "int64 tensor": lambda step: keras.ops.convert_to_tensor(step, "int64"),
    "float32 tensor": lambda step: keras.ops.convert_to_tensor(step, "float32"),
    "int32 variable": lambda step: keras.Variable(step, dtype="int32", trainable=False),
    "int64 variable": lambda step: keras.Variable(step, dtype="int64", trainable=False),
}


@pytest.mark.keep(30)
@pytest.mark.parametrize("schedule", EVERY, ids=label)
@pytest.mark.parametrize("make", MAKERS)
def test_any_kind_of_step(schedule, make):
    if not WIDE and "int64 " in make:
        pytest.skip("JAX has no int64")
    for step in STEPS:
        found = schedule(MAKERS[make](step))
        assert tuple(found.shape) == ()
        assert keras.backend.standardize_dtype(found.dtype) == "float32"
        wanted = float(schedule(keras.ops.convert_to_tensor(step, "int32")))
        # The distance to a mark is exact in integers and rounded once in float32.
        tolerance = 8 * UNIT["float32"] if "float" in make else 0.0
        assert abs(float(found) - wanted) <= tolerance * wanted


@pytest.mark.keep(11)
@needs_64_bits
@pytest.mark.parametrize("make", ["np.int64", "int64 tensor", "int64 variable"])
@pytest.mark.parametrize("case", [c for c in CASES if c.marks and max(c.marks) > 2**24], ids=str)
def test_large_steps_of_64_bits_are_exact(case, make):
    for step in (2**24 + 1, LARGE - 1, LARGE):
        assert float(case.schedule(MAKERS[make](step))) == float(case.schedule(step))


@pytest.mark.parametrize("schedule", EVERY, ids=label)
def test_many_steps_keep_their_shape(schedule):
    steps = np.arange(120, dtype="int32").reshape(3, 5, 8)
    found = array(schedule(steps))
    assert found.shape == steps.shape
    one_by_one = [float(schedule(int(step))) for step in steps.flat[::7]]
    # Vector instructions may round differently.
    np.testing.assert_allclose(found.flat[::7], one_by_one, rtol=40 * UNIT["float32"])
    assert array(schedule(steps[:0])).shape == (0, 5, 8)


@pytest.mark.parametrize("floatx", ["float16", "bfloat16"])
@pytest.mark.parametrize("schedule", EVERY, ids=label)
def test_values_are_never_of_sixteen_bits(schedule, floatx):
    steps = np.array([0, 1, 50, 99, 5000, LAST], "int32")
    wanted = array(schedule(steps))
    keras.config.set_floatx(floatx)
    found = array(schedule(steps))
    assert found.dtype == "float32"
    if "InverseTimeDecay" not in repr(schedule):  # which computes in floatx
        # JAX divides by constants in other ways for other defaults.
        np.testing.assert_allclose(found, wanted, rtol=4 * UNIT["float32"])


@pytest.mark.keep(5)
@pytest.mark.parametrize("schedule", EVERY, ids=label)
def test_same_step_same_value_in_any_order(schedule, rng):
    steps = [0, 1, 7, 30, 99, 100, 101, 10**6, LARGE]
    found = {step: float(schedule(step)) for step in steps}
    for step in rng.permutation(steps * 2):
        assert float(schedule(int(step))) == found[step]


@pytest.mark.keep(4)
@pytest.mark.skipif(not COMPILED, reason="nothing is compiled")
@pytest.mark.parametrize("how", COMPILED)
@pytest.mark.parametrize("schedule", EVERY, ids=label)
def test_one_trace_serves_all_steps(schedule, how):
    traces = []

    def counted(step):
        traces.append(step)
        return schedule(step)

    call = COMPILED[how](counted)
    for step in (0, 1, 99, 100, 10**8, 1):
        found = float(call(keras.ops.convert_to_tensor(step, "int32")))
        # Both are within 20 roundings of the oracle.
        assert found == pytest.approx(float(schedule(step)), rel=40 * UNIT["float32"])
    assert len(traces) == 1


# Saving


def assert_same(found, wanted):
    assert type(found) is type(wanted)
    assert found.get_config() == wanted.get_config()
    if " object at " not in repr(wanted):  # as Keras' own have it
        assert repr(found) == repr(wanted)
    steps = [*range(200), 2**24 + 1, LARGE, LAST]
    np.testing.assert_array_equal(at(found, steps), at(wanted, steps))


@pytest.mark.parametrize("schedule", [case.schedule for case in CASES] + NESTEROV, ids=label)
def test_serialized_and_back(schedule):
    config = keras.saving.serialize_keras_object(schedule)
    assert_same(keras.saving.deserialize_keras_object(json.loads(json.dumps(config))), schedule)
    untouched = schedule.get_config()
    assert_same(type(schedule).from_config(untouched), schedule)
    assert untouched == schedule.get_config()


OPTIMIZERS = {
    "NAGD": lambda s: NAGD(learning_rate=s, momentum=s, weight_decay=s),
    "SGD": lambda s: keras.optimizers.SGD(learning_rate=s, momentum=0.9),
    "Adam": lambda s: keras.optimizers.Adam(learning_rate=s),
}


def compiled_model(optimizer, **settings):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(optimizer=optimizer, loss="mse", **settings)
    return model


@pytest.mark.keep(2)
@pytest.mark.parametrize(
    ("optimizer", "schedule"),
    [
        *((optimizer, NESTED) for optimizer in OPTIMIZERS),
        ("NAGD", NesterovMomentum(3)),
        ("NAGD", SutskeverMomentum(0.95, 40)),
        ("NAGD", OneCycle(0.95, 0.85, 0.9, 60, 0.4, "linear", three_phase=True)),
    ],
    ids=lambda x: x if isinstance(x, str) else type(x).__name__,
)
def test_in_a_saved_model(optimizer, schedule, tmp_path):
    model = compiled_model(OPTIMIZERS[optimizer](schedule), run_eagerly=True)
    model.train_on_batch(np.ones((2, 3)), np.ones((2, 1)))  # Keras saves what has been trained.
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").optimizer
    config = loaded.get_config()
    for name in ["learning_rate", "momentum", "weight_decay"][: 3 if optimizer == "NAGD" else 1]:
        assert_same(keras.saving.deserialize_keras_object(config[name]), schedule)
    for step in (0, 19, 20, 45):
        loaded.iterations.assign(step)
        # A property of NAGD and of Keras' optimizers: the schedule's value at this step.
        assert float(loaded.learning_rate) == pytest.approx(float(schedule(step)), rel=1e-7)


# Training


@pytest.mark.keep(1)
@needs_64_bits
@pytest.mark.parametrize("schedule", [NESTEROV[0], NESTED], ids=["Nesterov", "nested"])
def test_as_momentum_and_learning_rate_it_makes_the_textbooks_steps(rng, float64, schedule):
    problem, x, steps = random_quadratic(rng, 6), rng.normal(size=6), 60
    rate = OneCycle(0.1, 1.0, 1e-3, 50)
    run = Run(NAGD(rate, schedule), [x], "float64")
    mu = [float(schedule(t)) for t in range(steps + 1)]
    eps = [float(rate(t)) for t in range(steps)]
    for t, point in enumerate(textbook(problem.gradient, x, mu, eps)):
        assert_close(run.look_ahead[0], point.look_ahead, TRAJECTORY["float64"], f"{t}")
        assert_close(run.iterate[0], point.iterate, TRAJECTORY["float64"], f"{t}")
        if t < steps:
            run.step([problem.gradient(run.look_ahead[0])])


@pytest.mark.keep(1)
@pytest.mark.parametrize(
    ("make", "momentum"),
    [
        (lambda rate: keras.optimizers.SGD(rate), lambda t: 0.0),
        (lambda rate: NAGD(rate, NesterovMomentum()), None),
    ],
    ids=["SGD", "NAGD"],
)
def test_in_fit(rng, make, momentum):
    x, y = (rng.normal(size=(8, n)).astype("float32") for n in (3, 1))
    epochs, rate = 30, LinearWarmup(OneCycle(0.05, 0.2, 1e-3, 20), 8, start=0.01)
    model = compiled_model(make(rate))
    model.layers[0].set_weights([np.ones((3, 1), "float32")])
    model.fit(x, y, batch_size=8, epochs=epochs, shuffle=False, verbose=0)

    def gradient(w):
        return 2 / 8 * (x.T.astype("float64") @ (x @ w - y))

    eps = [0.0] * epochs
    for t in range(epochs):
        cycle = reference.one_cycle(0.05, 0.2, 1e-3, 20, 0.3, "cosine", False)
        eps[t] = reference.linear_warmup(cycle, 8, 0.01)(t)
    exact = [*islice(reference.nesterov_momentum(), epochs + 1)]
    mu = exact if momentum is None else [momentum(t) for t in range(epochs + 1)]
    wanted = textbook(gradient, np.ones((3, 1)), mu, eps)[-1].look_ahead
    assert_close(model.layers[0].get_weights()[0], wanted, TRAJECTORY["float32"])


# Theory


def gaps(problem, x, momentum, steps):
    """f(theta_T) - f* for T = 0 ... steps, with the learning rate 1 / L."""
    run = Run(NAGD(1 / problem.smoothness, momentum), [x], "float64", LONG_RUNS)
    best = problem.value(problem.minimizer)
    found = [problem.value(run.iterate[0]) - best]
    for _ in range(steps):
        run.step([problem.gradient(run.look_ahead[0])])
        found.append(problem.value(run.iterate[0]) - best)
    return np.array(found)


@needs_64_bits
def test_nesterovs_1983_bound_with_delay_1(float64):
    """The bound of `test_theory`, for the schedule in the place of the recursion's table."""
    steps, problem, x = 200, worst_case_quadratic(100), np.zeros(100)
    distance = np.sum((x - problem.minimizer) ** 2)
    bounds = 2 * problem.smoothness * distance / (np.arange(steps + 1) + 1.0) ** 2
    found = gaps(problem, x, NesterovMomentum(delay=1), steps)
    assert np.all(found <= bounds)
    # A bound that is far above what the method does would prove little.
    assert found[-1] > bounds[-1] / 100


@needs_64_bits
def test_rate_for_strongly_convex_functions(rng, float64):
    """f(theta_T) - f* <= (1 - 1 / sqrt(k))^T (f(x) - f* + m / 2 |x - theta*|^2) (Nesterov 2004)."""
    steps, condition = 300, 1000.0
    problem, x = random_quadratic(rng, 30, condition), 10 * rng.normal(size=30)
    smallest = problem.smoothness / condition
    start = problem.value(x) - problem.value(problem.minimizer)
    start += smallest / 2 * np.sum((x - problem.minimizer) ** 2)
    bounds = (1 - condition**-0.5) ** np.arange(steps + 1) * start
    assert np.all(gaps(problem, x, StronglyConvexMomentum(condition), steps) <= bounds)
    # The momentum for another condition number does not keep to it.
    assert np.any(gaps(problem, x, StronglyConvexMomentum(2.0), steps) > bounds)
