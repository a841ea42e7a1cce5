"""What the literature proves of Nesterov's method holds for NAGD, and for nothing lesser."""

import keras
import numpy as np

from nagd_keras import NAGD
from tests.reference.nesterov import (
    classical_momentum,
    misprint,
    nesterov_1983_momentum,
    textbook,
)
from tests.support.drivers import LONG_RUNS, Run
from tests.support.problems import Quadratic, Table, random_quadratic, worst_case_quadratic
from tests.support.tolerances import TRAJECTORY, assert_close


def run_on(problem, optimizer, x, steps):
    """Returns the iterates theta_0 ... theta_T of NAGD on full gradients."""
    run = Run(optimizer, [x], "float64", LONG_RUNS)
    iterates = [run.iterate[0]]
    for _ in range(steps):
        run.step([problem.gradient(run.look_ahead[0])])
        iterates.append(run.iterate[0])
    return iterates


def test_sutskever_theorem_2_1(rng, float64):
    """On a quadratic, along an eigenvector of curvature lambda, Nesterov's method is classical
    momentum with mu (1 - eps lambda) (Sutskever et al. 2013, theorem 2.1)."""
    curvature = np.geomspace(1e-3, 1.0, 10)
    problem, x = Quadratic(np.diag(curvature), rng.normal(size=10)), rng.normal(size=10)
    eps, mu = 0.9, 0.95
    expected = classical_momentum(problem.gradient, x, mu * (1 - eps * curvature), eps, 300)
    found = run_on(problem, NAGD(eps, mu), x, 300)
    for t, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert_close(a, b, TRAJECTORY["float64"], f"iterate {t}")
    # It is not classical momentum with mu itself.
    other = classical_momentum(problem.gradient, x, np.full(10, mu), eps, 300)
    assert np.max(np.abs(other[30] - found[30])) > 0.01


def test_nesterovs_1983_bound_and_plain_gradient_descents_violation_of_it(float64):
    """f(theta_T) - f* <= 2 L |theta_0 - theta*|^2 / (T + 1)^2 at every T, with step 1 / L.

    (Nesterov 1983; in this form Beck & Teboulle 2009, theorem 4.4.)
    """
    smoothness, n, steps = 1.0, 100, 300
    problem, x = worst_case_quadratic(n, smoothness), np.zeros(n)
    assert problem.smoothness <= smoothness
    best, distance = problem.value(problem.minimizer), np.sum((x - problem.minimizer) ** 2)
    bounds = 2 * smoothness * distance / (np.arange(steps + 1) + 1.0) ** 2

    def gaps(momentum):
        iterates = run_on(problem, NAGD(1 / smoothness, momentum), x, steps)
        return np.array([problem.value(theta) - best for theta in iterates])

    nesterov = gaps(Table(nesterov_1983_momentum(steps)))
    assert np.all(nesterov <= bounds)
    assert gaps(0.0)[-1] > 2 * bounds[-1]
    # A bound that is far above what the method does would prove little.
    assert nesterov[-1] > bounds[-1] / 100


def test_the_misprinted_rule_diverges_where_nagd_converges(rng, float64):
    """theta <- theta - alpha grad + beta theta multiplies the weights by 1 + beta each step."""
    problem, x = random_quadratic(rng, 10, condition=10.0), rng.normal(size=10)
    beta = 0.9
    for alpha in (0.01, 0.1, 0.5):
        gap = [
            problem.value(t) - problem.value(problem.minimizer)
            for t in misprint(problem.gradient, x, beta, alpha, 200)
        ]
        assert gap[-1] > 1e6 * gap[0]
        found = run_on(problem, NAGD(alpha, beta), x, 200)[-1]
        assert problem.value(found) - problem.value(problem.minimizer) < 0.1 * gap[0]


def test_keras_nesterov_step_is_not_exact_when_momentum_changes(rng, float64):
    """Why NAGD exists: Keras uses mu_t where mu_{t+1} belongs."""
    problem, x = random_quadratic(rng, 10), rng.normal(size=10)
    steps = 50
    mu = np.linspace(0.0, 0.95, steps + 1)
    expected = textbook(problem.gradient, x, mu, [1.0] * steps)
    nagd = Run(NAGD(1.0, Table(mu)), [x], "float64")
    sgd = Run(keras.optimizers.SGD(1.0, momentum=0.5, nesterov=True), [x], "float64")
    for t in range(steps):
        nagd.step([problem.gradient(nagd.look_ahead[0])])
        sgd.optimizer.momentum = float(mu[t + 1])  # eager: here at least Keras sees the change
        sgd.step([problem.gradient(sgd.look_ahead[0])])
    assert_close(nagd.look_ahead[0], expected[-1].look_ahead, TRAJECTORY["float64"])
    difference = np.max(np.abs(sgd.look_ahead[0] - expected[-1].look_ahead))
    assert difference > 1e-3 * np.max(np.abs(expected[-1].look_ahead))
