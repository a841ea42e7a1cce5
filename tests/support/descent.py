"""Runs of 10^3 to 10^6 updates on a problem's full gradient, compiled as a whole, in float64."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tests.support.problems import Problem

UPDATES = 100  # of one call
LONG = 2000  # updates, from which on it pays to compile the calls with XLA,
LARGE = 200  # or elements


@dataclass
class Descent:
    """What a run passed through, up to the first iterate that is good enough.

    Attributes:
        gaps: f(theta_T) - f* for T = 0, 1, ...
        restarts: the T behind whose update the momentum was restarted.
        restarted_at: their theta_T, a row each.
        reached: the updates to the first gap within the tolerance, or None.
        iterate: the last theta_T.
    """

    gaps: np.ndarray
    restarts: np.ndarray
    restarted_at: np.ndarray
    reached: int | None
    iterate: np.ndarray


def descend(
    problem: Problem, optimizer: Any, tolerance: float = 0.0, most: int = 100_000
) -> Descent:
    """Minimizes until f(theta_T) - f* <= tolerance (f(theta_0) - f*), or for `most` updates."""
    variable = keras.Variable(problem.start, dtype="float64")
    optimizer.build([variable])
    call, compiled = _calls(problem, optimizer, variable)
    gaps = [np.atleast_1d(problem.gap(problem.start))]
    restarts, restarted_at = [np.zeros(0, int)], [np.zeros((0, problem.size))]
    done, counted, reached = 0, 0, None
    iterates = np.zeros((1, problem.size))
    while reached is None and done < most:
        results = (compiled if done >= LONG or problem.size >= LARGE else call)()
        found, iterates, counts = (x.numpy()[: most - done] for x in results)
        good = np.flatnonzero(found <= tolerance * gaps[0])
        if len(good):
            reached = done + int(good[0]) + 1
            found, iterates, counts = (x[: good[0] + 1] for x in (found, iterates, counts))
        gaps.append(found)
        here = np.flatnonzero(np.diff(counts, prepend=counted))
        restarts.append(done + here + 1)
        restarted_at.append(iterates[here])
        done, counted = done + len(found), counts[-1]
    return Descent(
        np.concatenate(gaps),
        np.concatenate(restarts),
        np.concatenate(restarted_at),
        reached,
        iterates[-1],
    )


def _calls(problem: Problem, optimizer: Any, variable: Any) -> tuple[Any, Any]:
    """A call of so many updates, in a graph and compiled.

    It returns the gaps, the iterates and the numbers of restarts.
    """
    import tensorflow as tf

    _ = problem.minimizer  # now: in the graph it would be a tensor of that graph

    def update(i: Any, *seen: Any) -> tuple[Any, ...]:
        optimizer.apply([problem.gradient(tf.identity(variable.value))])
        iterate = variable.value - optimizer.displacements[0].value
        count = tf.cast(optimizer.restarts.value, "int32")
        now = problem.gap(iterate), iterate, count
        return i + 1, *(array.write(i, x) for array, x in zip(seen, now, strict=True))

    def call() -> tuple[Any, ...]:
        kinds = ("float64", ()), ("float64", variable.shape), ("int32", ())
        seen = [tf.TensorArray(dtype, UPDATES, element_shape=shape) for dtype, shape in kinds]
        _, *seen = tf.while_loop(lambda i, *_: i < UPDATES, update, (0, *seen))
        return tuple(array.stack() for array in seen)

    # AutoGraph, which could make the loop of a for statement, warns on Python 3.13.
    return tuple(tf.function(call, jit_compile=jit, autograph=False) for jit in (False, True))
