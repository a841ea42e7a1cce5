"""What the trials are judged by: ends, targets, and updates and seconds to them."""

import math
import statistics
from typing import Any, NamedTuple

import numpy as np

from benchmarks.race.contestants import ALL, BUILT_IN, DIRECTED
from benchmarks.race.plan import SPEED, last
from benchmarks.race.trial import READINGS
from benchmarks.race.workloads import WORKLOADS
from benchmarks.support.cells import Cells

COSTS = "ms", "bytes"
AT = 0.75  # of the budget: where the best built-in's number is the target


class Score(NamedTuple):
    """What one contestant did on one workload: medians over seeds."""

    end: float
    low: float
    high: float
    accuracy: float | None
    ms: float
    bytes: float  # of the optimizer's state, a weight
    to_target: float  # updates, infinite if it was not reached

    @property
    def seconds(self) -> float:
        """Returns the seconds to the target."""
        return self.to_target * self.ms / 1e3


Table = dict[str, tuple[float, dict[str, Score]]]


def curve(found: dict[str, Any], judged: str) -> np.ndarray:
    """Returns the best number so far at each reading; infinite until one is finite."""
    values = [math.inf if x is None else x for x in found[judged]]
    values += [math.inf] * (READINGS - len(values))
    return np.minimum.accumulate(values)


def scores(cells: Cells, name: str, seeds: tuple[int, ...]) -> tuple[float, dict[str, Score]]:
    """Returns the target of a workload, and the scores of all that have run on it.

    One of Keras' optimizers must have.
    """
    judged = WORKLOADS[name].judged
    runs: dict[str, list[dict[str, Any]]] = {}
    for who in ALL:
        found = [cells.of(name, f"{who}, seed {seed}") for seed in seeds]
        if all(found):
            runs[who] = [run for run in found if run]
    at = math.ceil(AT * READINGS) - 1
    target = min(
        statistics.median(curve(run, judged)[at] for run in each)
        for who, each in runs.items()
        if who in BUILT_IN
    )
    costs = cells.of(name, SPEED) or {}
    return target, {
        who: _score(
            each, judged, target, *(costs.get(what, {}).get(who, math.nan) for what in COSTS)
        )
        for who, each in runs.items()
    }


def _score(runs: list[dict[str, Any]], judged: str, target: float, ms: float, size: float) -> Score:
    ends = [last(run, judged) for run in runs]
    reached = []
    for run in runs:
        values = curve(run, judged)
        there = np.flatnonzero(np.isfinite(values) & (values <= target))
        reached.append((there[0] + 1) * run["updates"] if len(there) else math.inf)
    accuracies = [run["accuracy"][-1] or 0.0 for run in runs if "accuracy" in run]
    return Score(
        statistics.median(ends),
        min(ends),
        max(ends),
        statistics.median(accuracies) if accuracies else None,
        ms,
        size,
        statistics.median(reached),
    )


def best(found: dict[str, Score]) -> float:
    """Returns the best end of those that were there before NAGD's directions."""
    return min(score.end for who, score in found.items() if who not in DIRECTED)
