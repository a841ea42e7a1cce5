"""Problems with known answers, and schedules that are plain tables."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np


@keras.saving.register_keras_serializable(package="nagd_keras_tests")
class Table(keras.optimizers.schedules.LearningRateSchedule):
    """The schedule that is values[step]."""

    def __init__(self, values: Any, dtype: str = "float64") -> None:
        self.values = np.asarray(values, dtype)

    def __call__(self, step: Any) -> Any:
        return keras.ops.take(keras.ops.convert_to_tensor(self.values), step, axis=0)

    def get_config(self) -> dict[str, Any]:
        return {"values": self.values.tolist(), "dtype": str(self.values.dtype)}


class Problem:
    """A smooth convex function f of a vector x, whose minimizer is found without NAGD.

    `value`, `gap` and `gradient` take an array or, in a graph, a tensor; the former two take many
    points at once, too, a row each. Runs begin at 0.
    """

    smoothness: float  # L
    convexity: float  # m, of which f is strongly convex: 0 if it is not known to be
    size: int

    def value(self, x: Any) -> Any:
        raise NotImplementedError

    def gradient(self, x: Any) -> Any:
        raise NotImplementedError

    def hessian(self, x: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    @property
    def start(self) -> np.ndarray:
        return np.zeros(self.size)

    @property
    def condition(self) -> float:
        return self.smoothness / self.convexity

    @cached_property
    def quasi_newton(self) -> np.ndarray:
        """What SciPy's L-BFGS comes to."""
        from scipy.optimize import minimize

        options = {"maxiter": 10_000, "maxfun": 20_000, "maxcor": 50, "ftol": 0.0, "gtol": 1e-10}
        found = minimize(
            self.value, self.start, jac=self.gradient, method="L-BFGS-B", options=options
        )
        return found.x

    @cached_property
    def minimizer(self) -> np.ndarray:
        """From where L-BFGS stops, Newton steps, until the gradient is rounding."""
        x = self.quasi_newton
        for _ in range(5):
            x = x - np.linalg.solve(self.hessian(x), self.gradient(x))
        rest = np.linalg.norm(self.gradient(x)) / np.linalg.norm(self.gradient(self.start))
        assert rest < 1e-13, f"the gradient is {rest:.1e} of that at the start"
        return x

    def gap(self, x: Any) -> Any:
        """f(x) - f*."""
        return self.value(x) - self.value(self.minimizer)


def _of(x: Any) -> Any:
    """The functions for x: NumPy's, or those of the same names for tensors."""
    return np if isinstance(x, np.ndarray) else keras.ops


@dataclass(frozen=True)
class Quadratic(Problem):
    """f(x) = 1/2 x^T A x - b^T x with a symmetric positive definite A."""

    a: np.ndarray
    b: np.ndarray

    @property
    def size(self) -> int:
        return len(self.b)

    @cached_property
    def _curvatures(self) -> np.ndarray:
        return np.linalg.eigvalsh(self.a)

    @property
    def smoothness(self) -> float:
        return float(self._curvatures[-1])

    @property
    def convexity(self) -> float:
        return float(self._curvatures[0])

    @cached_property
    def minimizer(self) -> np.ndarray:
        return np.linalg.solve(self.a, self.b)

    def value(self, x: Any) -> Any:
        return _of(x).sum((0.5 * _of(x).matmul(x, self.a) - self.b) * x, -1)

    def gradient(self, x: Any) -> Any:
        return _of(x).matmul(self.a, x) - self.b

    def hessian(self, x: np.ndarray) -> np.ndarray:
        return self.a

    def gap(self, x: Any) -> Any:
        """f(x) - f*, without the cancellation."""
        e = x - self.minimizer
        return 0.5 * _of(x).sum(_of(x).matmul(e, self.a) * e, -1)


def random_quadratic(rng: np.random.Generator, n: int, condition: float = 100.0) -> Quadratic:
    """Eigenvalues log-spaced in [1 / condition, 1] along random axes."""
    return quadratic(rng, np.geomspace(1 / condition, 1, n))


def quadratic(rng: np.random.Generator, eigenvalues: np.ndarray, scale: float = 1.0) -> Quadratic:
    """Such eigenvalues along random axes, and b ~ N(0, scale^2)."""
    n = len(eigenvalues)
    axes, _ = np.linalg.qr(rng.normal(size=(n, n)))
    a = (axes * eigenvalues) @ axes.T
    return Quadratic((a + a.T) / 2, scale * rng.normal(size=n))


def su_boyd_candes_quadratic(spacing: str = "linear", seed: int = 0) -> Quadratic:
    """The 500 x 500 quadratic of Su, Boyd & Candès (2014): curvatures in [0.001, 1], b ~ N(0, 25).

    Evenly spaced as there, or with "log" spaced by ratio.
    """
    spaced = {"linear": np.linspace, "log": np.geomspace}[spacing]
    return quadratic(np.random.default_rng(seed), spaced(1e-3, 1.0, 500), 5.0)


def worst_case_quadratic(n: int, smoothness: float = 1.0) -> Quadratic:
    """Nesterov's chain (Introductory Lectures on Convex Optimization, 2004, section 2.1.2).

    f(x) = (L / 4) (1/2 (x_1^2 + sum_i (x_i - x_{i+1})^2 + x_n^2) - x_1), which is L-smooth.
    """
    a = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    return Quadratic(smoothness / 4 * a, smoothness / 4 * np.eye(n)[0])


@dataclass(frozen=True)
class LogSumExp(Problem):
    """f(x) = rho log sum_i exp((a_i^T x - b_i) / rho): a smooth maximum of affine functions.

    The Hessian is A^T (diag(p) - p p^T) A / rho with a distribution p. The matrix in the middle
    is at most 1/2, since no sum of absolute values of a row of it, 2 p_i (1 - p_i), is more.
    """

    a: np.ndarray
    b: np.ndarray
    rho: float
    convexity = 0.0

    @property
    def size(self) -> int:
        return self.a.shape[1]

    @cached_property
    def smoothness(self) -> float:
        return float(np.linalg.norm(self.a, 2) ** 2 / (2 * self.rho))

    def _exponentials(self, x: Any) -> tuple[Any, Any]:
        """The exponents' maximum, which must not overflow, and the exponentials without it."""
        z = (_of(x).matmul(x, self.a.T) - self.b) / self.rho
        top = _of(x).max(z, -1, keepdims=True)
        return top[..., 0], _of(x).exp(z - top)

    def value(self, x: Any) -> Any:
        top, exponentials = self._exponentials(x)
        return self.rho * (top + _of(x).log(_of(x).sum(exponentials, -1)))

    def gradient(self, x: Any) -> Any:
        _, exponentials = self._exponentials(x)
        return _of(x).matmul(exponentials / _of(x).sum(exponentials), self.a)

    def hessian(self, x: np.ndarray) -> np.ndarray:
        _, exponentials = self._exponentials(x)
        p = exponentials / exponentials.sum()
        mean = p @ self.a
        return ((self.a.T * p) @ self.a - np.outer(mean, mean)) / self.rho


def log_sum_exp(seed: int = 0, n: int = 50, m: int = 200, rho: float = 20.0) -> LogSumExp:
    """That of Su, Boyd & Candès (2014): a_i ~ N(0, I), b_i ~ N(0, 2)."""
    rng = np.random.default_rng(seed)
    return LogSumExp(rng.normal(size=(m, n)), np.sqrt(2.0) * rng.normal(size=m), rho)


@dataclass(frozen=True)
class Logistic(Problem):
    """f(x) = mean_i log(1 + exp(-a_i^T x)) + m / 2 |x|^2, each a_i with the sign of its label."""

    a: np.ndarray
    convexity: float

    @property
    def size(self) -> int:
        return self.a.shape[1]

    @cached_property
    def smoothness(self) -> float:
        return float(np.linalg.norm(self.a, 2) ** 2 / (4 * len(self.a)) + self.convexity)

    def value(self, x: Any) -> Any:
        loss = _of(x).log1p(_of(x).exp(-_of(x).matmul(x, self.a.T)))
        return _of(x).mean(loss, -1) + self.convexity / 2 * _of(x).sum(x * x, -1)

    def gradient(self, x: Any) -> Any:
        p = 1 / (1 + _of(x).exp(_of(x).matmul(x, self.a.T)))
        return self.convexity * x - _of(x).matmul(p, self.a) / len(self.a)

    def hessian(self, x: np.ndarray) -> np.ndarray:
        p = 1 / (1 + np.exp(self.a @ x))
        loss = (self.a.T * (p * (1 - p))) @ self.a / len(self.a)
        return loss + self.convexity * np.eye(self.size)


def breast_cancer(regularization: float = 1e-3) -> Logistic:
    """scikit-learn's 569 tumours of 30 features, standardised, with a constant one."""
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    features = np.hstack([(x - x.mean(0)) / x.std(0), np.ones((len(x), 1))])
    return Logistic((2.0 * y - 1)[:, None] * features, regularization)
