"""Every schedule is what its source says: at every step, in every kind of call, after loading."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nagd_keras import NAGD
from nagd_keras.schedules import (
    LinearWarmup,
    NesterovMomentum,
    OneCycle,
    Piecewise,
    Schedule,
    StronglyConvexMomentum,
    SutskeverMomentum,
)
from tests.drivers import Run
from tests.problems import random_quadratic, worst_case_quadratic
from tests.reference import schedules as reference
from tests.reference.nesterov import nesterov_1983_momentum, textbook
from tests.tolerances import TRAJECTORY, UNIT, assert_close

BACKEND = keras.backend.backend()
if BACKEND == "tensorflow":
    import tensorflow as tf

    COMPILED = {"graph": tf.function, "xla": lambda f: tf.function(f, jit_compile=True)}
elif BACKEND == "jax":
    import jax

    COMPILED = {"jit": jax.jit}
else:
    COMPILED = {}
CALLS: dict[str, Callable[[Any], Any]] = {"eager": lambda f: f, **COMPILED}
WIDE = BACKEND != "jax" or jax.config.jax_enable_x64  # whether 64 bits are to be had
needs_64_bits = pytest.mark.skipif(not WIDE, reason="JAX computes in 32 bits")
# How a schedule is called, and `floatx`. Compiled code has the same arithmetic in 64 bits.
MODES = [
    *(pytest.param(how, "float32", id=how) for how in CALLS),
    pytest.param("eager", "float64", id="float64", marks=needs_64_bits),
]
LAST = 2**31 - 1


@dataclass(frozen=True)
class Case:
    """A schedule and its oracle.

    Attributes:
        marks: the steps around which something happens.
        roundings: the largest relative error, in units of rounding. XLA multiplies by the inverse
            of a constant divisor, which is one rounding more; a sine or logarithm is good to two.
    """

    name: str
    schedule: Any
    oracle: reference.Oracle
    marks: tuple[int, ...]
    roundings: int

    @property
    def unit(self) -> str:
        """Keras' own schedules compute in float32 whatever `floatx` is, on TensorFlow."""
        keras_own = "InverseTimeDecay" in repr(self.schedule)
        return "float32" if keras_own else keras.config.floatx()

    def __str__(self) -> str:
        return self.name


def sutskever(name, max_momentum, period):
    # The stair, its sum with 1, the division (half of them at most reaches the value), the
    # difference from 1: 3.
    marks = (period, 2 * period, round(0.5 * period / (1 - max_momentum)))
    oracle = reference.sutskever_momentum(max_momentum, period)
    return Case(name, SutskeverMomentum(max_momentum, period), oracle, marks, 4)


def strongly_convex(condition_number):
    oracle = reference.strongly_convex_momentum(condition_number)
    schedule = StronglyConvexMomentum(condition_number)
    return Case(f"strongly convex, {condition_number:g}", schedule, oracle, (), 1)


def one_cycle(name, *arguments):
    _, _, _, total_steps, fraction, anneal, _ = arguments
    marks = (fraction * total_steps - 1, 2 * fraction * total_steps - 2, total_steps - 1)
    # Distance, length, their quotient (2), the coefficient, product, sum: 7. The cosine: that
    # fraction has 4, times pi / 2 (a constant) 6, the sine 8, whose square has 17; then 3 more.
    return Case(
        name,
        OneCycle(*arguments),
        reference.one_cycle(*arguments),
        tuple(round(mark) for mark in marks),
        7 if anneal == "linear" else 20,
    )


def linear_warmup(name, then, oracle, steps, start, mark=0):
    # Distance, length, their quotient (2), the first value (3), product, sum: 9.
    oracle = reference.linear_warmup(oracle, steps, start)
    schedule = LinearWarmup(then, steps, start)
    return Case(name, schedule, oracle, (steps, steps + mark), 9)


def piecewise(name, boundaries, parts, marks=()):
    schedules = [part.schedule if isinstance(part, Case) else part for part in parts]
    oracles = [
        part.oracle if isinstance(part, Case) else reference.constant(part) for part in parts
    ]
    roundings = max(part.roundings if isinstance(part, Case) else 1 for part in parts)
    oracle = reference.piecewise(boundaries, oracles)
    return Case(name, Piecewise(boundaries, schedules), oracle, (*boundaries, *marks), roundings)


KERAS_DECAY = keras.optimizers.schedules.InverseTimeDecay(0.5, 100, 2.0)
KERAS = Case(
    "Keras' own", KERAS_DECAY, reference.inverse_time_decay(0.5, 100, 2.0), (), 6
)  # the step, its quotient with 100 (2), the product, the sum, the quotient
LARGE = 10**8
WARMUP = linear_warmup("warm-up to a number", 0.3, reference.constant(0.3), 100, 0.0)
LARGE_CYCLE = one_cycle("cycle of 1e8", 0.04, 0.9, 4e-6, LARGE, 0.3, "cosine", False)
CASES = [
    sutskever("Sutskever", 0.99, 250),
    sutskever("Sutskever, each update", 0.9, 1),
    sutskever("Sutskever, stairs of 1e8", 0.999, LARGE),
    strongly_convex(1.0),
    strongly_convex(100.0),
    strongly_convex(1e14),
    one_cycle("cycle", 0.04, 0.9, 4e-6, 100, 0.3, "cosine", False),
    one_cycle("cycle, linear", 0.04, 0.9, 4e-6, 100, 0.3, "linear", False),
    one_cycle("cycle, three phases", 0.04, 0.9, 4e-6, 100, 0.45, "cosine", True),
    one_cycle("cycle, last phase of one step", 0.04, 0.9, 4e-6, 100, 0.5, "cosine", True),
    one_cycle("cycle, corners between steps", 0.04, 0.9, 4e-6, 101, 0.37, "linear", True),
    one_cycle("cycle down to 0", 0.1, 0.9, 0.0, 100, 0.3, "cosine", False),
    one_cycle("cycle of a momentum", 0.95, 0.85, 0.95, 300, 0.3, "cosine", False),
    LARGE_CYCLE,
    one_cycle("linear cycle of 1e8", 0.04, 0.9, 4e-6, LARGE, 0.3, "linear", False),
    one_cycle("three phases of 1e8", 0.04, 0.9, 4e-6, LARGE, 0.3, "cosine", True),
    one_cycle("cycle past 2^24", 0.04, 0.9, 4e-6, 2**24 + 3, 0.3, "cosine", False),
    WARMUP,
    linear_warmup("warm-up from above 0", 0.3, reference.constant(0.3), 7, 0.1),
    linear_warmup("warm-up to Keras' own", KERAS_DECAY, KERAS.oracle, 100, 0.01),
    linear_warmup("warm-up of 1e8", 0.3, reference.constant(0.3), LARGE, 0.0),
    linear_warmup("warm-up of 2^24 + 1", KERAS_DECAY, KERAS.oracle, 2**24 + 1, 0.01),
    linear_warmup("descent", 1e-6, reference.constant(1e-6), 1000, 0.9),
    linear_warmup("descent of 1e8", 1e-6, reference.constant(1e-6), LARGE, 0.9),
    piecewise("one piece", [], [0.7]),
    piecewise("numbers", [1, 5, 200], [0.1, 0.0, 0.9, 1e-6]),
    piecewise("numbers around 2^24 and 1e8", [2**24 + 1, LARGE + 1], [0.1, 0.9, 0.2]),
    piecewise("pieces of pieces", [50, 300], [WARMUP, KERAS, WARMUP], (150, 400)),
    piecewise(
        "a cycle that begins at 1e8",
        [LARGE],
        [0.5, one_cycle("", 0.04, 0.9, 4e-6, 100, 0.3, "cosine", False)],
        (LARGE + 29, LARGE + 99),
    ),
    Case(
        "warm-up to pieces",
        LinearWarmup(Piecewise([20], [0.5, KERAS_DECAY]), 10, 0.25),
        reference.linear_warmup(
            reference.piecewise([20], [reference.constant(0.5), KERAS.oracle]), 10, 0.25
        ),
        (10, 30),
        9,
    ),
]
NESTEROV = [NesterovMomentum(), NesterovMomentum(delay=1), NesterovMomentum(delay=2**24 + 1)]
# One of each kind.
EVERY = [
    SutskeverMomentum(0.9, 30),
    StronglyConvexMomentum(100.0),
    OneCycle(0.04, 0.9, 4e-6, 101, 0.37, "cosine", three_phase=True),
    OneCycle(0.04, 0.9, 4e-6, LARGE, 0.3, "linear"),
    LinearWarmup(KERAS_DECAY, 100, 0.01),
    Piecewise([1, 30, 2**24 + 1], [0.1, 0.0, NESTEROV[1], 1e-6]),
    *NESTEROV,
]


def array(values):
    return np.asarray(keras.ops.convert_to_numpy(values))


def at(call, steps):
    """The values at an array of steps, as float64."""
    found = array(call(keras.ops.convert_to_tensor(np.asarray(steps, "int32"))))
    assert found.dtype == keras.config.floatx()
    return found.astype("float64")


def steps_of(case):
    near = [step + i for step in (*case.marks, 2**24, LARGE) for i in range(-3, 4)]
    return np.unique([*range(500), *(step for step in near if 0 <= step < LAST), LAST])


# Values


@pytest.mark.parametrize(("how", "dtype"), MODES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_step_is_the_oracles(case, how, dtype):
    keras.config.set_floatx(dtype)
    steps = steps_of(case)
    wanted = np.array([case.oracle(int(step)) for step in steps])
    error = np.abs(at(CALLS[how](case.schedule), steps) - wanted)
    # The oracle's own errors are some roundings of its largest value, in float64.
    allowed = case.roundings * UNIT[case.unit] * wanted + 8 * UNIT["float64"] * wanted.max()
    worst = np.argmax(error - allowed)
    assert np.all(error <= allowed), f"step {steps[worst]}: {error[worst]} of {wanted[worst]}"


@pytest.fixture(scope="module")
def exact():
    """Nesterov's momentum at the steps up to 1e6, and at 1e7 and 1e8."""
    recursion = reference.nesterov_momentum()
    first = np.fromiter(islice(recursion, 10**6 + 1), "float64")
    at_1e7 = next(islice(recursion, 10**7 - 10**6 - 1, None))
    # next(islice(reference.nesterov_momentum(), 10**8, None)), which takes a quarter of a minute.
    at_1e8 = float.fromhex("0x1.fffffefe4d4f6p-1")
    steps = np.array([*range(10**6 + 1), 10**7, 10**8])
    return steps, np.array([*first, at_1e7, at_1e8])


NESTEROV_ERROR = {"float32": 1.2e-7, "float64": 1e-9}  # what the docstring promises


@pytest.mark.parametrize(("how", "dtype"), MODES)
@pytest.mark.parametrize("delay", [0, 2**24 + 1])
def test_nesterov_is_the_recursion(exact, how, dtype, delay):
    keras.config.set_floatx(dtype)
    steps, wanted = exact
    found = at(CALLS[how](NesterovMomentum(delay)), steps + delay)
    assert np.max(np.abs(found - wanted)) < NESTEROV_ERROR[dtype]
    assert found[0] == 0.0
    assert np.all((found >= 0) & (found < 1))


@needs_64_bits
def test_nesterov_in_float64_is_right_in_its_distance_from_1(exact, float64):
    steps, wanted = exact
    found = at(NesterovMomentum(), steps)
    # The momentum is kept to 2^-53, and the recursion's 1e6 roundings pile up.
    error = np.abs((1 - found) - (1 - wanted)) - 2 * UNIT["float64"]
    assert np.max((error / (1 - wanted))[20:]) < 1e-11


@pytest.mark.parametrize(("how", "dtype"), MODES)
def test_nesterov_rises_and_stays_below_1(how, dtype):
    keras.config.set_floatx(dtype)
    steps = np.unique([*range(10**5), *np.geomspace(10**5, LAST, 10**5).astype(int), LAST])
    found = at(CALLS[how](NesterovMomentum()), steps)
    assert np.all(found >= 0)
    assert np.max(found) < 1.0
    # Rounding may lower a value by one unit, where its neighbours differ by less than that.
    assert np.min(np.diff(found)) >= -2 * UNIT[dtype]
    if dtype == "float64":
        assert np.all(np.diff(found[steps <= 10**8]) > 0)


@pytest.mark.parametrize("delay", [1, 2, 50])
def test_nesterov_delayed_is_the_sequence_of_the_theorem(delay):
    wanted = [0.0] * (delay - 1) + nesterov_1983_momentum(1000)
    found = at(NesterovMomentum(delay), np.arange(len(wanted)))
    assert np.max(np.abs(found - wanted)) < NESTEROV_ERROR["float32"]
    assert not np.any(found[: delay + 1])


TABLE = json.loads(Path(__file__).with_name("reference").joinpath("one_cycle.json").read_text())


def cycles():
    """The OneCycle that each of PyTorch's should be, and its values."""
    for cycle in TABLE["cycles"]:
        torchs = cycle["setting"]
        initial = torchs["max_lr"] / torchs["div_factor"]
        low, high = torchs["base_momentum"], torchs["max_momentum"]
        shape = {
            "total_steps": torchs["total_steps"],
            "peak_fraction": torchs["pct_start"],
            "anneal": {"cos": "cosine", "linear": "linear"}[torchs["anneal_strategy"]],
            "three_phase": torchs["three_phase"],
        }
        name = "-".join(map(str, shape.values()))
        for kind, arguments in [
            ("learning_rate", (initial, torchs["max_lr"], initial / torchs["final_div_factor"])),
            ("momentum", (high, low, high)),
        ]:
            yield pytest.param(OneCycle(*arguments, **shape), cycle[kind], id=f"{kind}-{name}")


@pytest.mark.parametrize(("how", "dtype"), MODES)
@pytest.mark.parametrize(("schedule", "wanted"), [*cycles()])
def test_one_cycle_is_pytorchs(schedule, wanted, how, dtype):
    keras.config.set_floatx(dtype)
    found = at(CALLS[how](schedule), np.arange(len(wanted)))
    wanted = np.array(wanted)
    # 20 roundings, as counted in `one_cycle`; PyTorch's own errors are some of float64's.
    allowed = 20 * UNIT[dtype] * wanted + 8 * UNIT["float64"] * wanted.max()
    assert np.all(np.abs(found - wanted) <= allowed)


def test_one_cycle_keeps_its_last_value():
    steps = [99, 100, 101, 10**6, 10**8, LAST]
    np.testing.assert_array_equal(
        at(OneCycle(0.04, 0.9, 4e-6, 100), steps), np.full(6, np.float32(4e-6), "float64")
    )


# Calls

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


@pytest.mark.parametrize("schedule", EVERY, ids=repr)
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


@needs_64_bits
@pytest.mark.parametrize("make", ["np.int64", "int64 tensor", "int64 variable"])
@pytest.mark.parametrize("case", [c for c in CASES if c.marks and max(c.marks) > 2**24], ids=str)
def test_large_steps_of_64_bits_are_exact(case, make):
    for step in (2**24 + 1, LARGE - 1, LARGE):
        assert float(case.schedule(MAKERS[make](step))) == float(case.schedule(step))


@pytest.mark.parametrize("schedule", EVERY, ids=repr)
def test_many_steps_keep_their_shape(schedule):
    steps = np.arange(120, dtype="int32").reshape(3, 5, 8)
    found = array(schedule(steps))
    assert found.shape == steps.shape
    one_by_one = [float(schedule(int(step))) for step in steps.flat[::7]]
    # Vector instructions may round differently.
    np.testing.assert_allclose(found.flat[::7], one_by_one, rtol=40 * UNIT["float32"])
    assert array(schedule(steps[:0])).shape == (0, 5, 8)


@pytest.mark.parametrize("floatx", ["float16", "bfloat16"])
@pytest.mark.parametrize("schedule", EVERY, ids=repr)
def test_values_are_never_of_sixteen_bits(schedule, floatx):
    steps = np.array([0, 1, 50, 99, 5000, LAST], "int32")
    wanted = array(schedule(steps))
    keras.config.set_floatx(floatx)
    found = array(schedule(steps))
    assert found.dtype == "float32"
    if "InverseTimeDecay" not in repr(schedule):  # which computes in floatx
        # JAX divides by constants in other ways for other defaults.
        np.testing.assert_allclose(found, wanted, rtol=4 * UNIT["float32"])


@pytest.mark.parametrize("schedule", EVERY, ids=repr)
def test_same_step_same_value_in_any_order(schedule, rng):
    steps = [0, 1, 7, 30, 99, 100, 101, 10**6, LARGE]
    found = {step: float(schedule(step)) for step in steps}
    for step in rng.permutation(steps * 2):
        assert float(schedule(int(step))) == found[step]


@pytest.mark.skipif(not COMPILED, reason="nothing is compiled")
@pytest.mark.parametrize("how", COMPILED)
@pytest.mark.parametrize("schedule", EVERY, ids=repr)
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


@pytest.mark.parametrize("schedule", [case.schedule for case in CASES] + NESTEROV, ids=repr)
def test_serialized_and_back(schedule):
    config = keras.saving.serialize_keras_object(schedule)
    assert_same(keras.saving.deserialize_keras_object(json.loads(json.dumps(config))), schedule)
    untouched = schedule.get_config()
    assert_same(type(schedule).from_config(untouched), schedule)
    assert untouched == schedule.get_config()


NESTED = Piecewise(
    [20, 50],
    [
        LinearWarmup(keras.optimizers.schedules.CosineDecay(0.1, 40), 10, start=0.01),
        OneCycle(0.04, 0.9, 4e-6, 30, 0.4, "linear", three_phase=True),
        LinearWarmup(Piecewise([3], [0.5, NesterovMomentum(2)]), 4),
    ],
)
OPTIMIZERS = {
    "NAGD": lambda s: NAGD(learning_rate=s, momentum=s, weight_decay=s),
    "SGD": lambda s: keras.optimizers.SGD(learning_rate=s, momentum=0.9),
    "Adam": lambda s: keras.optimizers.Adam(learning_rate=s),
}


def compiled_model(optimizer, **settings):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(optimizer=optimizer, loss="mse", **settings)
    return model


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
    run = Run(NAGD(1 / problem.smoothness, momentum), [x], "float64")
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


# Landmarks


@pytest.mark.parametrize(
    ("schedule", "says"),
    [
        (OneCycle(0.9, 0.9, 1.0, 100), "at step 99"),
        (OneCycle(0.9, 1.5, 0.9, 100), "at step 29"),
        (LinearWarmup(1.0, 50), "at step 50"),
        (Piecewise([70], [0.9, 1.0]), "at step 70"),
        (
            Piecewise([70, 80], [0.9, LinearWarmup(OneCycle(0.5, 30.0, 0.5, 100), 4), 0.1]),
            "step 79",
        ),
    ],
    ids=repr,
)
def test_a_momentum_that_would_leave_its_range_is_refused_at_once(schedule, says):
    with pytest.raises(ValueError, match="`momentum` must be a finite number in") as raised:
        NAGD(momentum=schedule)
    assert "Received: " in str(raised.value)
    assert says in str(raised.value)
    assert repr(schedule) in str(raised.value)
    assert NAGD(learning_rate=schedule).get_config()["learning_rate"]["registered_name"]


@pytest.mark.parametrize(
    "schedule", [*NESTEROV, *(case.schedule for case in CASES), NESTED], ids=repr
)
def test_a_momentum_within_its_range_is_taken(schedule):
    assert NAGD(momentum=schedule).get_config()["momentum"]["config"] is not None


UNIT_INTERVAL = st.floats(0, 1, width=32)


@st.composite
def random_cycles(draw):
    values = [draw(UNIT_INTERVAL) for _ in range(3)]
    three_phase = draw(st.booleans())
    fraction = draw(st.floats(0.1, 0.45 if three_phase else 0.9))
    total_steps = draw(st.integers(21, 400))
    return OneCycle(
        *values, total_steps, fraction, draw(st.sampled_from(["cosine", "linear"])), three_phase
    )


@st.composite
def random_pieces(draw, parts):
    boundaries = sorted(draw(st.sets(st.integers(1, 500), max_size=3)))
    return Piecewise(boundaries, [draw(parts) for _ in range(len(boundaries) + 1)])


PARTS = st.one_of(
    UNIT_INTERVAL,
    random_cycles(),
    st.builds(SutskeverMomentum, st.floats(0, 0.99), st.integers(1, 300)),
    st.builds(NesterovMomentum, st.integers(0, 300)),
    st.builds(StronglyConvexMomentum, st.floats(1, 1e6)),
)
SCHEDULES = st.recursive(
    PARTS,
    lambda parts: st.one_of(
        st.builds(LinearWarmup, parts, st.integers(1, 300), UNIT_INTERVAL), random_pieces(parts)
    ),
    max_leaves=5,
).filter(callable)


@given(SCHEDULES)
def test_landmarks_hold_the_extremes(schedule):
    marks = schedule.landmarks()
    assert all(isinstance(mark, int) and 0 <= mark <= LAST for mark in marks)
    low_high = np.array([f(at(schedule, marks)) for f in (np.min, np.max)])
    everywhere = at(schedule, [*range(1000), *marks])
    # Between two values, roundings may pass them by.
    slack = 20 * UNIT["float32"] * low_high[1]
    assert np.all(everywhere >= low_high[0] - slack)
    assert np.all(everywhere <= low_high[1] + slack)


# Figures


@pytest.fixture
def plt():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


@pytest.mark.parametrize(("steps", "points"), [(1, 2), (60, 61), (10**8, 401)])
@pytest.mark.parametrize(
    "schedule", [LARGE_CYCLE.schedule, WARMUP.schedule], ids=lambda s: type(s).__name__
)
def test_plot(plt, schedule, steps, points):
    axes = schedule.plot(steps)
    (line,) = axes.get_lines()
    x, y = (np.asarray(each) for each in line.get_data())
    assert len(x) == points
    assert x[0] == 0
    assert x[-1] == steps
    assert np.all(np.diff(x) > 0)
    wanted = [float(schedule(int(step))) for step in x]
    np.testing.assert_array_equal(y, wanted)
    assert axes.get_xlabel() == "step"
    assert axes.get_ylabel() == type(schedule).__name__


def test_plot_into_given_axes(plt):
    figure, axes = plt.subplots()
    for schedule in (NESTED, WARMUP.schedule):
        assert schedule.plot(10, axes) is axes
    assert len(axes.get_lines()) == 2
    assert plt.get_fignums() == [figure.number]


def test_plot_without_matplotlib_names_the_extra(monkeypatch):
    for name in ("matplotlib", "matplotlib.pyplot"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"needs matplotlib.*nagd-keras\[plot\]"):
        NESTED.plot(10)


# Bad input

NAN, INF = float("nan"), float("inf")
CYCLE = {"initial": 0.1, "peak": 1.0, "final": 0.01, "total_steps": 100}
BAD_VALUES = [(NAN, ValueError), (-0.1, ValueError), (INF, ValueError), (1e39, ValueError)] + [
    (value, TypeError) for value in (True, "0.1", None, [0.1], 0.1j)
]
BAD_COUNTS = [(-1, ValueError), (2**31, ValueError)] + [
    (value, TypeError) for value in (True, 10.0, NAN, "10", None, [10])
]
BAD = [
    *((OneCycle, {**CYCLE, name: v}, e) for name in list(CYCLE)[:3] for v, e in BAD_VALUES),
    *((OneCycle, {**CYCLE, "peak_fraction": v}, e) for v, e in [*BAD_VALUES, (1.0, ValueError)]),
    *((OneCycle, {**CYCLE, "total_steps": v}, e) for v, e in [*BAD_COUNTS, (0, ValueError)]),
    *((OneCycle, {**CYCLE, "anneal": v}, ValueError) for v in ("exp", "cos", "", None, 1, ["x"])),
    *((LinearWarmup, {"steps": 5, "then": v}, e) for v, e in BAD_VALUES),
    *((LinearWarmup, {"then": 0.1, "steps": 5, "start": v}, e) for v, e in BAD_VALUES),
    *((LinearWarmup, {"then": 0.1, "steps": v}, e) for v, e in [*BAD_COUNTS, (0, ValueError)]),
    (LinearWarmup, {"steps": 5, "then": len}, TypeError),
    *((NesterovMomentum, {"delay": v}, e) for v, e in BAD_COUNTS),
    *((SutskeverMomentum, {"max_momentum": v}, e) for v, e in [*BAD_VALUES, (1.0, ValueError)]),
    *((SutskeverMomentum, {"period": v}, e) for v, e in [*BAD_COUNTS, (0, ValueError)]),
    *(
        (StronglyConvexMomentum, {"condition_number": v}, e)
        for v, e in [*BAD_VALUES, (0.5, ValueError), (1e40, ValueError), (1e17, ValueError)]
    ),
]
BAD_SHAPES = [
    # Too short for their phases, or with a peak in the wrong place.
    (OneCycle, {**CYCLE, "peak_fraction": 0.0}, "peak_fraction=0.0"),
    (OneCycle, {**CYCLE, "peak_fraction": 0.01}, "peak_fraction=0.01"),
    (OneCycle, {**CYCLE, "total_steps": 1}, "total_steps=1"),
    (OneCycle, {**CYCLE, "total_steps": 3}, "total_steps=3"),
    (OneCycle, {**CYCLE, "peak_fraction": 0.505, "three_phase": True}, "one half or less"),
    (OneCycle, {**CYCLE, "peak_fraction": 0.6, "three_phase": True}, "one half or less"),
    (Piecewise, {"boundaries": [5, 5], "schedules": [0.1, 0.2, 0.3]}, "boundaries=[5, 5]"),
    (Piecewise, {"boundaries": [9, 5], "schedules": [0.1, 0.2, 0.3]}, "boundaries=[9, 5]"),
    (Piecewise, {"boundaries": [5], "schedules": [0.1]}, "1 schedules and 1 boundaries"),
    (Piecewise, {"boundaries": [], "schedules": []}, "0 schedules and 0 boundaries"),
    (Piecewise, {"boundaries": [0], "schedules": [0.1, 0.2]}, "boundaries[0]=0"),
    (Piecewise, {"boundaries": [3, 2**31], "schedules": [0.1] * 3}, "boundaries[1]=2147483648"),
    (Piecewise, {"boundaries": [5], "schedules": [0.1, NAN]}, "schedules[1]=nan"),
    (Piecewise, {"boundaries": [5], "schedules": [0.1, -1.0]}, "schedules[1]=-1.0"),
]
BAD_TYPES = [
    (Piecewise, {"boundaries": [5.0], "schedules": [0.1, 0.2]}, "boundaries[0]=5.0"),
    (Piecewise, {"boundaries": [True], "schedules": [0.1, 0.2]}, "boundaries[0]=True"),
    (Piecewise, {"boundaries": [5], "schedules": [0.1, "0.2"]}, "schedules[1]='0.2'"),
    (Piecewise, {"boundaries": 5, "schedules": [0.1, 0.2]}, "boundaries=5"),
    (Piecewise, {"boundaries": [5], "schedules": 0.1}, "schedules=0.1"),
    (OneCycle, {**CYCLE, "three_phase": "no"}, "three_phase='no'"),
]


def bad(cls, settings, error, says):
    text = ", ".join(f"{name}={value!r:.9}" for name, value in settings.items())
    return pytest.param(cls, settings, error, says, id=f"{cls.__name__}({text})")


def last_argument(settings):
    """What the message must repeat: the name and the value of the bad argument."""
    changed = {k: v for k, v in settings.items() if k not in CYCLE or v is not CYCLE[k]}
    name, value = list(changed.items())[-1]
    return f"{name}={value!r}"


@pytest.mark.parametrize(
    ("cls", "settings", "error", "says"),
    [
        *(bad(*entry, last_argument(entry[1])) for entry in BAD),
        *(bad(cls, settings, ValueError, says) for cls, settings, says in BAD_SHAPES),
        *(bad(cls, settings, TypeError, says) for cls, settings, says in BAD_TYPES),
    ],
)
def test_bad_arguments_are_refused(cls, settings, error, says):
    with pytest.raises(error) as raised:
        cls(**settings)
    assert "eceived" in str(raised.value)
    assert says in str(raised.value)


@pytest.mark.parametrize(("steps", "error"), [(0, ValueError), (-5, ValueError), (1.5, TypeError)])
def test_bad_plot(plt, steps, error):
    with pytest.raises(error, match=f"`steps` must be an integer.*Received: steps={steps}"):
        NESTED.plot(steps)
    assert plt.get_fignums() == []


def test_a_schedule_of_ones_own_needs_a_value_and_a_config():
    class Empty(Schedule):
        pass

    with pytest.raises(NotImplementedError, match="Empty does not say what its `value` is"):
        Empty()(0)
    with pytest.raises(NotImplementedError, match="Empty has no `get_config`"):
        Empty().get_config()
