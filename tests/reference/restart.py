"""Slow and obvious oracle of adaptive restart: float64 NumPy, textbook form."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
EARLIEST = 10  # the speed scheme's k_min: the first update after a restart that may be the next


@dataclass
class Point:
    """Where a run stands before update t."""

    iterate: Array  # theta_t
    velocity: Array  # v_t
    look_ahead: Array  # theta_t + mu v_t, or theta_t behind a restart
    age: int  # updates finished since the last restart
    restarts: int  # so far


def restarted(
    gradient: Callable[[Array], Array],
    start: Array,
    momentum: Sequence[float],
    learning_rate: Sequence[float],
    scheme: str | None,
) -> list[Point]:
    """Sutskever et al. (2013), equations 3 and 4, with the momentum restarted.

        v_{t+1}     = mu v_t - eps_t grad f(theta_t + mu v_t)
        theta_{t+1} = theta_t + v_{t+1}

    The look-ahead that an update of age a creates has mu = momentum[a + 1], unless that update
    restarts: then it has mu = 0 and the next age is 0.

    - "gradient" (O'Donoghue & Candès 2012): where <g_t, mu v_{t+1}> > 0, g_t the gradient at the
      old look-ahead and mu the new one's;
    - "speed" (Su, Boyd & Candès 2014): where |v_{t+1}| < |v_t|, if it is the tenth update or a
      later one since the last restart, and the update before had a momentum (or restarted one);
    - None: never.

    Returns the points t = 0 ... T for T = len(learning_rate).
    """
    theta, v = np.asarray(start, np.float64), np.zeros_like(start, dtype=np.float64)
    mu, age, restarts = momentum[0], 0, 0
    speed = np.nan  # |v_t|, where it is known
    points = [Point(theta, v, theta + mu * v, age, restarts)]
    for eps in learning_rate:
        g = gradient(theta + mu * v)
        v = mu * v - eps * g
        theta = theta + v
        mu = momentum[age + 1]
        if scheme == "gradient":
            restart = np.dot(g, mu * v) > 0
        elif scheme == "speed":
            restart = np.linalg.norm(v) < speed and age + 1 >= EARLIEST
        else:
            restart = False
        speed = np.linalg.norm(v) if mu != 0 else np.nan
        if restart:
            mu, age, restarts = 0.0, 0, restarts + 1
        else:
            age += 1
        points.append(Point(theta, v, theta + mu * v, age, restarts))
    return points


def gradient_descent_updates(a: Array, b: Array, start: Array, tolerance: float) -> int:
    """The updates of gradient descent to f(theta_T) - f* <= tolerance (f(theta_0) - f*).

    In closed form, for f(x) = 1/2 x^T A x - b^T x and the step 1 / L: along an eigenvector of
    curvature lambda, the error is multiplied by 1 - lambda / L in each update.
    """
    curvatures, axes = np.linalg.eigh(a)
    parts = curvatures / 2 * (axes.T @ start - axes.T @ b / curvatures) ** 2

    def gap(updates: int) -> float:
        return float(np.sum(parts * (1 - curvatures / curvatures[-1]) ** (2 * updates)))

    too_few, enough = 0, 1
    while gap(enough) > tolerance * gap(0):
        too_few, enough = enough, 2 * enough
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        too_few, enough = (
            (middle, enough) if gap(middle) > tolerance * gap(0) else (too_few, middle)
        )
    return enough
