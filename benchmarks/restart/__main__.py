"""What adaptive restart is worth, on problems with known answers: python -m benchmarks.restart.

Counts the updates on full gradients, in float64 and with the step 1 / L, until f(theta_T) - f* is
a fraction of f(theta_0) - f*; see benchmarks/README.md.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import numpy as np
import tensorflow as tf

from benchmarks.restart import figure
from benchmarks.restart.figure import TOLERANCE
from benchmarks.support import environment, session
from nagd_keras import NAGD, callbacks
from nagd_keras.schedules import NesterovMomentum, StronglyConvexMomentum
from tests.reference.restart import gradient_descent_updates
from tests.support.descent import Descent, descend
from tests.support.problems import (
    Problem,
    Quadratic,
    breast_cancer,
    log_sum_exp,
    random_quadratic,
    su_boyd_candes_quadratic,
)

PROBLEMS = {
    "quadratic, even curvatures": su_boyd_candes_quadratic,
    "quadratic, curvatures by ratio": lambda: su_boyd_candes_quadratic("log"),
    "log-sum-exp": log_sum_exp,
    "logistic regression": breast_cancer,
}
QUICK_PROBLEMS = "quadratic, even curvatures", "log-sum-exp"

GROWTH = "condition numbers"
GROWTH_TOLERANCE = 1e-8
CONDITIONS = 10, 100, 1_000, 10_000, 100_000, 1_000_000
MOST_UPDATES = 1_000_000  # of a run

DESCENT, PLAIN, CONSTANT = "gradient descent", "no restart", "constant momentum, k known"
GRADIENT, SPEED, FUNCTION = "gradient scheme", "speed scheme", "function scheme"


def methods(problem: Problem) -> dict[str, Any]:
    """Returns NAGD as each method; they differ in the momentum and in what restarts it."""
    eps, rising = 1 / problem.smoothness, NesterovMomentum()
    made = {DESCENT: NAGD(eps, 0.0), PLAIN: NAGD(eps, rising)}
    if problem.convexity:
        made[CONSTANT] = NAGD(eps, StronglyConvexMomentum(problem.condition))
    made[GRADIENT] = NAGD(eps, rising, restart="gradient")
    made[SPEED] = NAGD(eps, rising, restart="speed")
    made[FUNCTION] = NAGD(eps, rising)  # and the callback
    return made


def by_callback(problem: Problem, optimizer: Any, tolerance: float, most: int) -> Descent:
    """Minimizes as `descend` does, with AdaptiveRestart, as in epochs of one batch.

    As in `fit`, the loss is that of the point where the gradient was taken.
    """
    variable = keras.Variable(problem.start, dtype="float64")
    optimizer.build([variable])
    model = keras.Sequential()
    model.compile(optimizer=optimizer)
    callback = callbacks.AdaptiveRestart()
    callback.set_model(model)
    callback.on_train_begin()

    @tf.function(autograph=False)
    def update() -> tuple[Any, Any]:
        at = tf.identity(variable.value)
        optimizer.apply([problem.gradient(at)])
        return problem.value(at), variable.value - optimizer.displacements[0].value

    gaps, restarts, places = [float(problem.gap(problem.start))], [], []
    iterate = problem.start
    while gaps[-1] > tolerance * gaps[0] and len(gaps) <= most:
        epoch, before = len(gaps) - 1, int(optimizer.restarts)
        callback.on_epoch_begin(epoch)
        loss, iterate = (x.numpy() for x in update())
        callback.on_epoch_end(epoch, {"loss": loss})
        gaps.append(float(problem.gap(iterate)))
        if int(optimizer.restarts) > before:
            restarts.append(len(gaps) - 1)
            places.append(iterate)
    reached = len(gaps) - 1 if gaps[-1] <= tolerance * gaps[0] else None
    return Descent(np.array(gaps), np.array(restarts), np.array(places), reached, iterate)


def at_most(method: str, problem: Problem, tolerance: float) -> int | None:
    """Returns the updates within which theory has the method reach the tolerance, if it does.

    Gradient descent: (1 - 1/k)^(2T) on quadratics, (1 - 1/k)^T if strongly convex, or
    L |theta_0 - theta*|^2 / (2 T). No restart: 2 L |theta_0 - theta*|^2 / (T + 1)^2, proved for
    NesterovMomentum(delay=1). Constant: (1 - 1/sqrt(k))^T (f(theta_0) - f* + m/2 |theta_0 -
    theta*|^2).
    """
    distance = float(np.sum((problem.start - problem.minimizer) ** 2))
    gap = float(problem.gap(problem.start))
    updates = None
    if method == DESCENT and problem.convexity:
        power = 2 if isinstance(problem, Quadratic) else 1
        updates = np.log(tolerance) / (power * np.log1p(-1 / problem.condition))
    elif method == DESCENT:
        updates = problem.smoothness * distance / (2 * tolerance * gap)
    elif method == PLAIN:
        updates = np.sqrt(2 * problem.smoothness * distance / (tolerance * gap)) - 1
    elif method == CONSTANT:
        potential = 1 + problem.convexity / 2 * distance / gap
        updates = np.log(tolerance / potential) / np.log1p(-(problem.condition**-0.5))
    return None if updates is None else int(np.ceil(updates))


def raced(quick: bool, curves: dict[str, dict[str, Descent]]) -> Iterator[dict[str, Any]]:
    """Yields a row for each problem and method, and keeps what the runs passed through."""
    for name in QUICK_PROBLEMS if quick else PROBLEMS:
        problem = PROBLEMS[name]()
        curves[name] = {}
        for method, optimizer in methods(problem).items():
            run = by_callback if method == FUNCTION else descend
            found = run(problem, optimizer, TOLERANCE, MOST_UPDATES)
            curves[name][method] = found
            row = {"updates": found.reached, "restarts": len(found.restarts)}
            yield _row(name, method, row, at_most(method, problem, TOLERANCE))


def grown(quick: bool) -> Iterator[dict[str, Any]]:
    """Yields a row for each condition number and method, and the exponents in the end."""
    updates: dict[str, dict[int, int]] = {}
    for k in CONDITIONS[:3] if quick else CONDITIONS:
        problem = random_quadratic(np.random.default_rng(0), 50, k)
        for method, optimizer in methods(problem).items():
            if method == FUNCTION:
                continue
            row: dict[str, Any] = {"condition": k}
            limit = at_most(method, problem, GROWTH_TOLERANCE)
            if method == DESCENT and (limit or 0) > MOST_UPDATES:
                a, b, start = problem.a, problem.b, problem.start
                row["updates"] = gradient_descent_updates(a, b, start, GROWTH_TOLERANCE)
                row["computed"] = True  # in closed form; at 10^6 it is seven million updates
            else:
                found = descend(problem, optimizer, GROWTH_TOLERANCE, MOST_UPDATES)
                row["updates"], row["restarts"] = found.reached, len(found.restarts)
            if row["updates"]:
                updates.setdefault(method, {})[k] = row["updates"]
            yield _row(f"{GROWTH}, k = {k:,}", method, row, limit)
    for method, counts in updates.items():
        power = np.polyfit(np.log([*counts]), np.log([*counts.values()]), 1)[0]
        yield _row(f"{GROWTH}, exponents", method, {"exponent": round(float(power), 3)}, None)


def _row(name: str, method: str, row: dict[str, Any], limit: int | None) -> dict[str, Any]:
    row = {"section": "restart", "table": name, "contestant": method, **row}
    return row if limit is None else {**row, "at most": limit}


def _line(row: dict[str, Any]) -> str:
    name = f"  {row['contestant']:<28}"
    if "exponent" in row:
        return f"{name}{row['exponent']:10.3f}"
    updates = "not reached" if row["updates"] is None else f"{row['updates']:,}"
    how = " by its closed form" if row.get("computed") else f"{row['restarts']:5} restarts"
    limit = f", at most {row['at most']:,} by theory" if "at most" in row else ""
    return f"{name}{updates:>11} updates{how}{limit}"


def main() -> int:
    """Measures, prints, and writes; returns the number of runs that missed their tolerance."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.restart", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two of the problems, to see it runs")
    parser.add_argument("--output", type=Path, default=environment.RESULTS, metavar="FOLDER")
    arguments = parser.parse_args()
    keras.config.set_floatx("float64")
    described, began = environment.described(), time.monotonic()
    curves: dict[str, dict[str, Descent]] = {}
    rows, before = [], None
    for source in (raced(arguments.quick, curves), grown(arguments.quick)):
        for row in source:
            if row["table"] != before:
                before = row["table"]
                print(f"\n{before}")
            print(_line(row), flush=True)
            rows.append(row)
    described["seconds"] = round(time.monotonic() - began)
    path = arguments.output / "restart.json"
    session.write({"environment": described, "rows": rows}, path)
    drawn = figure.draw(curves, rows, path.with_suffix(".png"))
    print(f"\n{described['seconds']} s, {path}, {drawn}")
    return sum("updates" in row and row["updates"] is None for row in rows)


if __name__ == "__main__":
    sys.exit(main())
