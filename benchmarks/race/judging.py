"""What the race is judged by: targets, steps and seconds to them, and a performance profile."""

import math
import statistics
from typing import Any, NamedTuple

import numpy as np

from benchmarks.race.contestants import ALL, BUILT_IN
from benchmarks.race.plan import SPEED, last
from benchmarks.race.trial import READINGS
from benchmarks.race.workloads import WORKLOADS
from benchmarks.support.cells import Cells

AT = 0.75  # of the budget: where the best built-in's number is the target


class Score(NamedTuple):
    """What one contestant did on one workload: medians over seeds."""

    end: float
    low: float
    high: float
    accuracy: float | None
    ms: float
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
    times = (cells.of(name, SPEED) or {"ms": {}})["ms"]
    return target, {
        who: _score(each, judged, target, times.get(who, math.nan)) for who, each in runs.items()
    }


def _score(runs: list[dict[str, Any]], judged: str, target: float, ms: float) -> Score:
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
        statistics.median(reached),
    )


def profile(table: Table, what: str, factors: np.ndarray) -> dict[str, np.ndarray]:
    """Returns, for each, the share of workloads whose target it reached within factors of the best.

    Only those that took part everywhere are looked at.

    Args:
        table: the scores.
        what: `to_target` or `seconds`.
        factors: at least 1.
    """
    everywhere = [who for who in ALL if all(who in found for _, found in table.values())]
    ratios: dict[str, list[float]] = {who: [] for who in everywhere}
    for _, found in table.values():
        values = {who: getattr(found[who], what) for who in everywhere}
        best = min(values.values(), default=math.inf)
        for who, value in values.items():
            ratios[who].append(value / best if math.isfinite(best) else math.inf)
    return {
        who: np.mean(np.array(each)[:, None] <= factors, axis=0) for who, each in ratios.items()
    }
