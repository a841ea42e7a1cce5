"""Schedules with the oracles that say what they should be, one table for all tests of them."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest

from nagd_keras.schedules import (
    LinearWarmup,
    NesterovMomentum,
    OneCycle,
    Piecewise,
    StronglyConvexMomentum,
    SutskeverMomentum,
)
from tests.reference import schedules as reference
from tests.support.limits import needs, reason

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
WIDE = reason("float64") is None  # whether 64 bits are to be had
needs_64_bits = needs("float64")
# How a schedule is called, and `floatx`. Compiled code has the same arithmetic in 64 bits.
MODES = [
    *(pytest.param(how, "float32", id=how) for how in CALLS),
    pytest.param("eager", "float64", id="float64", marks=needs_64_bits),
]
LAST = 2**31 - 1


def of_sine(dtype: str) -> str:
    """The dtype in which Keras computes a sine: on JAX it makes a float32 of a float64."""
    return "float32" if BACKEND == "jax" else dtype


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
        if "anneal='cosine'" in repr(self.schedule):
            return of_sine(keras.config.floatx())
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
NESTED = Piecewise(
    [20, 50],
    [
        LinearWarmup(keras.optimizers.schedules.CosineDecay(0.1, 40), 10, start=0.01),
        OneCycle(0.04, 0.9, 4e-6, 30, 0.4, "linear", three_phase=True),
        LinearWarmup(Piecewise([3], [0.5, NesterovMomentum(2)]), 4),
    ],
)


def label(schedule):
    """A name that is the same in every process: Keras' own schedules print their address."""
    return re.sub(r"<.*?(\w+) object at \w+>", r"\1", repr(schedule))


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
