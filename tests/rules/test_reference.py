"""NAGD is the textbook recursion, at every step, for any momentum and learning-rate sequence."""

from itertools import product

import keras
import numpy as np
import pytest

from nagd_keras import NAGD
from tests.reference.nesterov import textbook
from tests.support.drivers import DRIVERS, Run, to_float64
from tests.support.limits import dtypes, needs, reason
from tests.support.problems import Table, random_quadratic
from tests.support.tolerances import TRAJECTORY, UNIT, assert_close

STEPS = 300
# The arithmetic of the compiled steps, which are cheap; eagerly each takes several times as long.
EAGER_STEPS = 60
SHAPES = [(3, 4), (5,), ()]
SIZES = [int(np.prod(shape)) for shape in SHAPES]


def split(x):
    parts = np.split(x, np.cumsum(SIZES)[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, SHAPES, strict=True)]


def join(parts):
    return np.concatenate([np.ravel(part) for part in parts])


def random_sequences(rng):
    """Momenta and learning rates that float32 represents exactly, so that every dtype has them."""
    mu = rng.uniform(0.0, 0.99, STEPS + 1).astype(np.float32)
    eps = rng.uniform(0.1, 1.0, STEPS).astype(np.float32)  # times 1 / L
    return mu.astype(np.float64), eps.astype(np.float64)


def by_schedules(mu, eps):
    return NAGD(Table(eps), Table(mu)), lambda t: None


def by_properties(mu, eps):
    optimizer = NAGD(0.5, 0.5)

    def before(t):
        optimizer.learning_rate = eps[t]
        optimizer.momentum = mu[t + 1]

    return optimizer, before


def by_callables(mu, eps):
    dtype = "float32" if reason("float64") else "float64"
    variables = [keras.Variable(0.0, dtype=dtype) for _ in range(2)]
    optimizer = NAGD(lambda: variables[0].value, lambda: variables[1].value)

    def before(t):
        variables[0].assign(eps[t])
        variables[1].assign(mu[t + 1])

    return optimizer, before


def driven(given, driver):
    followed = given is not by_callables or driver == "eager"
    return pytest.param(given, driver, marks=[] if followed else [needs("callables, compiled")])


@pytest.mark.keep(4)
@pytest.mark.parametrize(
    ("given", "driver"),
    [driven(*case) for case in product([by_schedules, by_properties, by_callables], DRIVERS)],
)
@pytest.mark.parametrize("dtype", dtypes(*TRAJECTORY))
def test_every_step_is_the_textbooks(rng, dtype, driver, given):
    problem = random_quadratic(rng, sum(SIZES))
    mu, eps = random_sequences(rng)
    optimizer, before = given(mu, eps)
    run = Run(optimizer, split(rng.normal(size=sum(SIZES))), dtype, driver)
    steps = EAGER_STEPS if driver == "eager" and len(DRIVERS) > 1 else STEPS
    expected = textbook(problem.gradient, join(run.look_ahead), mu[: steps + 1], eps[:steps])

    for t, point in enumerate(expected):
        found = join(run.look_ahead)
        assert_close(found, point.look_ahead, TRAJECTORY[dtype], f"look-ahead {t}")
        assert_close(join(run.iterate), point.iterate, TRAJECTORY[dtype], f"iterate {t}")
        assert int(optimizer.age) == int(optimizer.iterations) == t
        if t < steps:
            before(t)
            run.step(split(problem.gradient(found)))


def test_the_promise_for_float64_is_kept_with_room():
    assert TRAJECTORY["float64"] <= 1e-12


def test_numbers_from_a_callable_keep_their_digits(rng, float64):
    """TensorFlow would make a float32 of a Python number."""
    problem, x = random_quadratic(rng, 5), rng.normal(size=5)
    run = Run(NAGD(lambda: 0.1, lambda: 0.9, weight_decay=lambda: 0.0), [x], "float64")
    for point in textbook(problem.gradient, x, [0.9] * 21, [0.1] * 20):
        assert_close(run.look_ahead[0], point.look_ahead, TRAJECTORY["float64"])
        run.step([problem.gradient(run.look_ahead[0])])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("weight_decay", [None, 2.0**-3])
def test_sixteen_bits_are_rounded_once(rng, dtype, weight_decay):
    """Each update is the exact one from the same state after one rounding."""
    eps, m = 2.0**-4, 1 - 2.0**-10  # bfloat16 would round this momentum to 1
    optimizer = NAGD(eps, m, weight_decay=weight_decay)
    run = Run(optimizer, [rng.normal(size=200)], dtype)
    for _ in range(20):
        w, s = run.look_ahead[0], to_float64(optimizer.displacements[0])
        g = to_float64(keras.ops.cast(rng.normal(size=200), dtype))
        run.step([g])
        s_next = m * (s - eps * g)
        w_next = w - eps * (weight_decay or 0.0) * w - eps * g + s_next
        for found, exact in [
            (to_float64(optimizer.displacements[0]), s_next),
            (run.look_ahead[0], w_next),
        ]:
            # The sums themselves are made in float32.
            sums = 8 * UNIT["float32"] * (np.abs(w) + np.abs(s) + np.abs(g))
            assert np.all(np.abs(found - exact) <= UNIT[dtype] * np.abs(exact) + sums)


def test_reset_momentum_starts_the_method_anew_where_it_stands(rng, float64):
    problem = random_quadratic(rng, 8)
    mu = Table(np.linspace(0.5, 0.9, 50))
    run = Run(NAGD(0.5, mu), [rng.normal(size=8)], "float64")
    for _ in range(10):
        run.step([problem.gradient(run.look_ahead[0])])
    run.optimizer.reset_momentum()
    assert int(run.optimizer.age) == 0
    assert int(run.optimizer.iterations) == 10
    fresh = Run(NAGD(0.5, mu), run.look_ahead, "float64")
    for _ in range(20):
        for each in (run, fresh):
            each.step([problem.gradient(each.look_ahead[0])])
        np.testing.assert_array_equal(run.look_ahead[0], fresh.look_ahead[0])
        np.testing.assert_array_equal(run.iterate[0], fresh.iterate[0])
