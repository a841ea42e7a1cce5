"""Adaptive restart on problems with known answers: float64, full gradients, the step 1 / L."""

from functools import cache

import numpy as np
import pytest

from nagd_keras import NAGD
from nagd_keras.schedules import NesterovMomentum, StronglyConvexMomentum
from tests.reference.nesterov import nesterov_1983_momentum, textbook
from tests.reference.restart import gradient_descent_updates, restarted
from tests.support.descent import descend
from tests.support.drivers import DRIVERS, LONG_RUNS, Run
from tests.support.limits import needs
from tests.support.problems import (
    Logistic,
    Quadratic,
    Table,
    breast_cancer,
    log_sum_exp,
    quadratic,
    random_quadratic,
    su_boyd_candes_quadratic,
)
from tests.support.tolerances import TRAJECTORY, assert_close

SCHEMES = "gradient", "speed"
in_one_graph = needs("many updates in one graph")  # of `descend`


def minimized(problem, momentum=None, restart=None, tolerance=1e-10, most=100_000):
    """NAGD's run with a momentum, Nesterov's if None, to a tolerance of the initial gap."""
    momentum = NesterovMomentum() if momentum is None else momentum
    optimizer = NAGD(1 / problem.smoothness, momentum, restart=restart)
    return descend(problem, optimizer, tolerance, most)


# The oracle


def test_the_oracle_without_restarts_is_the_textbook(rng):
    problem, start = random_quadratic(rng, 10), rng.normal(size=10)
    mu, eps = rng.uniform(0, 0.99, 101), rng.uniform(0.1, 1.0, 100)
    expected = textbook(problem.gradient, start, mu, eps)
    found = restarted(problem.gradient, start, mu, eps, None)
    for t, (a, b) in enumerate(zip(found, expected, strict=True)):
        np.testing.assert_array_equal(a.iterate, b.iterate)
        np.testing.assert_array_equal(a.velocity, b.velocity)
        np.testing.assert_array_equal(a.look_ahead, b.look_ahead)
        assert (a.age, a.restarts) == (t, 0)


MOMENTA = {
    "Nesterov's": nesterov_1983_momentum(199),
    "constant": [0.97] * 200,
    # Slows down soon, so that the speed scheme restarts as early as it may.
    "low": [0.5] * 200,
    # Behind an update without momentum, the speed before the next is not known.
    "with zeros": np.where(np.arange(200) % 40 == 25, 0.0, nesterov_1983_momentum(199)),
}


@pytest.mark.keep(1)
@pytest.mark.parametrize(
    ("scheme", "momentum", "restarts", "driver"),
    [
        *(("gradient", "Nesterov's", 2, driver) for driver in DRIVERS),
        ("gradient", "constant", 4, LONG_RUNS),
        ("gradient", "with zeros", 1, LONG_RUNS),
        *(("speed", "Nesterov's", 4, driver) for driver in DRIVERS),
        ("speed", "constant", 6, LONG_RUNS),
        ("speed", "with zeros", 3, LONG_RUNS),
        ("speed", "low", 15, LONG_RUNS),
    ],
)
def test_nagd_restarts_as_the_oracle_does(rng, float64, scheme, momentum, restarts, driver):
    """At every update: iterate, look-ahead point, age, and the number of restarts.

    The variables are parts of one vector, so the schemes must add up over all of them.
    """
    problem, start = random_quadratic(rng, 12, condition=300.0), rng.normal(size=12)
    steps = 150
    eps = np.where(np.arange(steps) < steps // 2, 0.9, 0.7)
    expected = restarted(problem.gradient, start, MOMENTA[momentum], eps, scheme)
    assert expected[-1].restarts == restarts
    places = [3, 7]
    optimizer = NAGD(Table(eps), Table(MOMENTA[momentum]), restart=scheme)
    run = Run(optimizer, np.split(start, places), "float64", driver)
    for t, point in enumerate(expected):
        assert int(optimizer.age) == point.age, t
        assert int(optimizer.restarts) == point.restarts, t
        look_ahead = np.concatenate(run.look_ahead)
        assert_close(look_ahead, point.look_ahead, TRAJECTORY["float64"], f"look-ahead {t}")
        iterate = np.concatenate(run.iterate)
        assert_close(iterate, point.iterate, TRAJECTORY["float64"], f"iterate {t}")
        if t < steps:
            run.step(np.split(problem.gradient(look_ahead), places))


# Problems with known answers


@pytest.mark.long
@in_one_graph
@pytest.mark.parametrize(("spacing", "factor"), [("linear", 1.25), ("log", 1.5)])
def test_su_boyd_candes_quadratic(float64, spacing, factor):
    """The gradient scheme does what the best momentum does, without knowing what that is.

    Spaced by ratio, curvatures of every scale slow it down: of 40 draws, one took 1.59 times as
    many updates as the best momentum, half of them 1.33 times.
    """
    problem = su_boyd_candes_quadratic(spacing)
    assert problem.condition == pytest.approx(1000)
    gradient, speed = (minimized(problem, restart=scheme) for scheme in SCHEMES)
    if spacing == "linear":
        assert gradient.reached <= 450
    constant = minimized(problem, StronglyConvexMomentum(1000.0))
    assert gradient.reached <= factor * constant.reached
    # The speed scheme restarts more often and takes longer; no restart takes far longer.
    assert len(gradient.restarts) < len(speed.restarts)
    assert 1.5 * gradient.reached < speed.reached < 3.5 * gradient.reached
    assert minimized(problem, most=4 * gradient.reached).reached is None
    descent = gradient_descent_updates(problem.a, problem.b, problem.start, 1e-10)
    assert descent > 18 * gradient.reached


# Each is made once, as SciPy takes its time.
PROBLEMS = {"log-sum-exp": cache(log_sum_exp), "breast cancer": cache(breast_cancer)}


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_optimum_is_that_of_l_bfgs(name):
    """What the tests below hold NAGD against: SciPy's result, and where Newton's steps take it."""
    problem = PROBLEMS[name]()
    gap = problem.gap(problem.start)
    assert abs(problem.gap(problem.quasi_newton)) < 1e-13 * gap
    assert_close(problem.quasi_newton, problem.minimizer, 1e-6)
    assert np.linalg.eigvalsh(problem.hessian(problem.minimizer))[0] > 0


@pytest.mark.keep(1)
@in_one_graph
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", PROBLEMS)
def test_restarts_find_the_optimum_of_l_bfgs(float64, name, scheme):
    problem = PROBLEMS[name]()
    found = minimized(problem, restart=scheme)
    assert_close(found.iterate, problem.minimizer, 2e-4)  # as near as a gap of 1e-10 must be
    assert 2 <= len(found.restarts) <= 20
    # Without, as many updates do not get there by far.
    without = minimized(problem, most=found.reached)
    assert without.reached is None
    assert without.gaps[-1] > 100 * found.gaps[-1]


@pytest.mark.long
@in_one_graph
def test_logistic_regression_beside_the_constant_momentum(float64):
    """The regularisation is what makes m known; the curvatures at the optimum are larger."""
    problem = PROBLEMS["breast cancer"]()
    constant = minimized(problem, StronglyConvexMomentum(problem.condition)).reached
    assert minimized(problem, restart="gradient").reached <= 1.5 * constant


# Bounds


def random_logistic(seed, convexity):
    """Labels by chance, so that no plane separates them."""
    rng = np.random.default_rng(seed)
    return Logistic(rng.normal(size=(80, 10)) * np.geomspace(0.03, 1, 10), convexity)


def random_problem(kind, seed, condition=1e4):
    rng = np.random.default_rng(seed)
    return {
        "even curvatures": lambda: quadratic(rng, np.linspace(1 / condition, 1.0, 40), 3.0),
        "curvatures by ratio": lambda: random_quadratic(rng, 40, condition),
        "log-sum-exp": lambda: log_sum_exp(seed, n=10, m=30, rho=1.0),
        "logistic": lambda: random_logistic(seed, 0.0),
        "regularised": lambda: random_logistic(seed, 1 / condition),
    }[kind]()


CONVEX = "even curvatures", "curvatures by ratio", "log-sum-exp", "logistic"
STRONGLY_CONVEX = "even curvatures", "curvatures by ratio", "regularised"


def convex_bounds(problem, theta, updates):
    """2 L |theta - theta*|^2 / (T + 1)^2 for T = 0 ... updates."""
    distance = np.sum((theta - problem.minimizer) ** 2)
    return 2 * problem.smoothness * distance / (np.arange(updates + 1) + 1.0) ** 2


@pytest.mark.keep(2)
@in_one_graph
@pytest.mark.parametrize("restart", [None, *SCHEMES])
@pytest.mark.parametrize("kind", CONVEX)
def test_convex_bound_from_every_restart_on(float64, kind, restart):
    """f(theta_T) - f* <= 2 L |theta_r - theta*|^2 / (T - r + 1)^2, r the last restart before T.

    Nesterov (1983); in this form Beck & Teboulle (2009), theorem 4.4, of the iterates, for momenta
    that begin one update later. A restart makes it a new run from where it is.
    """
    problem = random_problem(kind, seed=len(restart or ""))
    found = minimized(problem, NesterovMomentum(delay=1), restart, most=1500)
    begins, ends = [0, *found.restarts], [*found.restarts, len(found.gaps) - 1]
    assert len(begins) == 1 if restart is None else 2 <= len(begins) <= 30
    for r, end, theta in zip(begins, ends, [problem.start, *found.restarted_at], strict=True):
        assert np.all(found.gaps[r : end + 1] <= convex_bounds(problem, theta, end - r)), r


@pytest.mark.keep(1)
@in_one_graph
@pytest.mark.parametrize("kind", CONVEX)
def test_gradient_descent_breaks_the_convex_bound(float64, kind):
    problem = random_problem(kind, seed=0)
    gaps = minimized(problem, 0.0, most=1500).gaps
    assert np.any(gaps > 10 * convex_bounds(problem, problem.start, len(gaps) - 1))


def strongly_convex_bounds(problem, updates):
    """(1 - 1 / sqrt(k))^T (f(theta_0) - f* + m / 2 |theta_0 - theta*|^2) for T = 0 ... updates."""
    distance = np.sum((problem.start - problem.minimizer) ** 2)
    potential = problem.gap(problem.start) + problem.convexity / 2 * distance
    return potential * (1 - problem.condition**-0.5) ** np.arange(updates + 1)


@pytest.mark.keep(3)
@in_one_graph
@pytest.mark.parametrize("condition", [100.0, 1e4])
@pytest.mark.parametrize("kind", STRONGLY_CONVEX)
def test_strongly_convex_bound_and_gradient_descents_violation_of_it(float64, kind, condition):
    """Of the iterates: Nesterov (2004), theorem 2.2.3, constant step scheme III."""
    problem = random_problem(kind, 0, condition)
    gaps = minimized(problem, StronglyConvexMomentum(problem.condition)).gaps
    bounds = strongly_convex_bounds(problem, len(gaps) - 1)
    assert np.all(gaps <= bounds)
    # At some time it comes within a factor of 2: no stronger bound of this kind would hold.
    assert np.any(gaps > bounds / 2)
    gaps = minimized(problem, 0.0, most=len(gaps) - 1).gaps
    assert np.any(gaps > bounds)


# Rates


CONDITIONS = [1e1, 1e2, 1e3, 1e4, 1e5, 1e6]


def exponent(conditions, updates):
    """That of the power of the condition number which the updates grow like."""
    return np.polyfit(np.log(conditions), np.log(updates), 1)[0]


def conditioned(condition):
    return random_quadratic(np.random.default_rng(0), 50, condition)


def updates(condition, **settings):
    return minimized(conditioned(condition), tolerance=1e-8, **settings).reached


@pytest.mark.long
@in_one_graph
@pytest.mark.parametrize("scheme", SCHEMES)
def test_updates_grow_like_the_root_of_the_condition_number(float64, scheme):
    assert 0.4 <= exponent(CONDITIONS, [updates(k, restart=scheme) for k in CONDITIONS]) <= 0.6


@pytest.mark.long
@in_one_graph
def test_without_restarts_they_grow_faster(float64):
    few = CONDITIONS[:4]
    assert exponent(few, [updates(k) for k in few]) > 0.65


@pytest.mark.long
@in_one_graph
def test_updates_of_gradient_descent_grow_like_the_condition_number(float64):
    """By its closed form, which up to 10^4 is seen to be what NAGD does without momentum."""
    problems = [conditioned(k) for k in CONDITIONS]
    wanted = [gradient_descent_updates(p.a, p.b, p.start, 1e-8) for p in problems]
    assert 0.9 <= exponent(CONDITIONS, wanted) <= 1.1
    assert [updates(k, momentum=0.0) for k in CONDITIONS[:4]] == wanted[:4]


@pytest.mark.keep(1)
@in_one_graph
@pytest.mark.parametrize("condition", [100.0, 1e3, 1e4])
def test_ripples_have_a_period_of_pi_times_the_root(float64, condition):
    """O'Donoghue & Candès (2012): proportional to sqrt(k) where the momentum is high.

    With momentum 1 and the step 1 / L, the roots of the recursion along curvature m turn by w with
    sin(w) = sqrt(1 / k), and the gap is a square. A restart cuts off all but the first.
    """
    problem = Quadratic(np.diag([1 / condition, 1.0]), np.array([1 / condition, 0.1]))
    period = np.pi / np.arcsin(condition**-0.5)
    gaps = minimized(problem, tolerance=0.0, most=int(12 * period)).gaps
    valleys = np.flatnonzero((gaps[1:-1] < gaps[:-2]) & (gaps[1:-1] < gaps[2:]))
    valleys = valleys[valleys > 2 * period]
    assert np.mean(np.diff(valleys)) == pytest.approx(period, rel=0.05)
