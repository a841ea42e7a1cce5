"""Slow and obvious oracles: float64 NumPy, each in the form in which its paper states it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
Gradient = Callable[[Array], Array]


@dataclass
class Point:
    """Where a run stands before update t."""

    iterate: Array  # theta_t
    velocity: Array  # v_t
    look_ahead: Array  # theta_t + mu_t v_t


def textbook(
    gradient: Gradient, start: Array, momentum: Sequence[float], learning_rate: Sequence[float]
) -> list[Point]:
    """Sutskever et al. (2013), equations 3 and 4, with mu_t = momentum[t]; v_0 = 0.

        v_{t+1}     = mu_t v_t - eps_t grad f(theta_t + mu_t v_t)
        theta_{t+1} = theta_t + v_{t+1}

    Returns the points t = 0 ... T for T = len(learning_rate); momentum has T + 1 entries.
    """
    theta, v = np.asarray(start, np.float64), np.zeros_like(start, dtype=np.float64)
    points = [Point(theta, v, theta + momentum[0] * v)]
    for t, eps in enumerate(learning_rate):
        v = momentum[t] * v - eps * gradient(theta + momentum[t] * v)
        theta = theta + v
        points.append(Point(theta, v, theta + momentum[t + 1] * v))
    return points


def classical_momentum(
    gradient: Gradient, start: Array, momentum: Array, learning_rate: float, steps: int
) -> list[Array]:
    """Polyak's (1964) method, with a momentum for each coordinate; returns theta_0 ... theta_T."""
    theta, v = np.asarray(start, np.float64), np.zeros_like(start, dtype=np.float64)
    thetas = [theta]
    for _ in range(steps):
        v = momentum * v - learning_rate * gradient(theta)
        theta = theta + v
        thetas.append(theta)
    return thetas


def misprint(
    gradient: Gradient, start: Array, momentum: float, learning_rate: float, steps: int
) -> list[Array]:
    """What blog posts print: theta <- theta - alpha grad + beta theta. Not Nesterov's method."""
    thetas = [np.asarray(start, np.float64)]
    for _ in range(steps):
        theta = thetas[-1]
        thetas.append(theta - learning_rate * gradient(theta) + momentum * theta)
    return thetas


def nesterov_1983_momentum(steps: int) -> list[float]:
    """Nesterov's (1983) sequence: mu_t = (a_{t-1} - 1) / a_t, a_0 = 1, and mu_0 = 0.

    a_t = (1 + sqrt(4 a_{t-1}^2 + 1)) / 2. The second gradient, at w_1 = theta_1 + mu_1 v_1, is
    taken with mu_1 = (a_0 - 1) / a_1 = 0, as in the theorem.
    """
    mu, a = [0.0], 1.0
    for _ in range(steps):
        a, before = (1 + np.sqrt(4 * a**2 + 1)) / 2, a
        mu.append((before - 1) / a)
    return mu
