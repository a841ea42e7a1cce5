"""Problems with known answers, and schedules that are plain tables."""

from dataclasses import dataclass
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


@dataclass(frozen=True)
class Quadratic:
    """f(x) = 1/2 x^T A x - b^T x with a symmetric positive definite A."""

    a: np.ndarray
    b: np.ndarray

    @property
    def smoothness(self) -> float:
        return float(np.linalg.eigvalsh(self.a)[-1])

    @property
    def minimizer(self) -> np.ndarray:
        return np.linalg.solve(self.a, self.b)

    def value(self, x: np.ndarray) -> float:
        return float(0.5 * x @ self.a @ x - self.b @ x)

    def gradient(self, x: np.ndarray) -> np.ndarray:
        return self.a @ x - self.b


def random_quadratic(rng: np.random.Generator, n: int, condition: float = 100.0) -> Quadratic:
    """Eigenvalues log-spaced in [1 / condition, 1] along random axes."""
    axes, _ = np.linalg.qr(rng.normal(size=(n, n)))
    a = (axes * np.geomspace(1 / condition, 1, n)) @ axes.T
    return Quadratic((a + a.T) / 2, rng.normal(size=n))


def worst_case_quadratic(n: int, smoothness: float = 1.0) -> Quadratic:
    """Nesterov's chain (Introductory Lectures on Convex Optimization, 2004, section 2.1.2).

    f(x) = (L / 4) (1/2 (x_1^2 + sum_i (x_i - x_{i+1})^2 + x_n^2) - x_1), which is L-smooth.
    """
    a = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    return Quadratic(smoothness / 4 * a, smoothness / 4 * np.eye(n)[0])
