"""What the runs say: how near each contestant comes to the best, and how often it fails."""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from benchmarks.defaults.runs import key
from benchmarks.support.cells import Cells

MOST_SEEDS = 20
LEAST = 0.1  # A run has trained if it made so much of the progress that the best made.


class Row(NamedTuple):
    """A contestant.

    Attributes:
        contestant: its name.
        ratios: by task, its median validation loss at the end, of that of the best contestant.
        mean: the geometric mean of the ratios, or NaN if it did not run on all tasks.
        untrained: the share of its runs that did not train.
        seeds: how many runs it has of each task, at least.
    """

    contestant: str
    ratios: dict[str, float]
    mean: float
    untrained: float
    seeds: int

    @property
    def worst(self) -> float:
        """The largest ratio."""
        return max(self.ratios.values())


def ends(cells: Cells, task: str, contestant: str) -> list[tuple[float, float]]:
    """Returns the losses of each seed's run, before and at the end; infinite if it diverged."""
    runs = (cells.of(task, key(contestant, seed)) for seed in range(1, MOST_SEEDS + 1))
    return [(run["untrained"], _number(run["end"])) for run in runs if run]


def _number(loss: float | None) -> float:
    return math.inf if loss is None else loss


def trained(before: float, end: float, best: float) -> bool:
    """Returns whether a run made a tenth of the progress that the best contestant made."""
    return math.isfinite(end) and end <= before - LEAST * (before - best)


def rows(cells: Cells, tasks: Sequence[str], contestants: Iterable[str]) -> list[Row]:
    """Returns the contestants that ran, the best first; those without all tasks come last."""
    losses = {
        who: {task: found for task in tasks if (found := ends(cells, task, who))}
        for who in contestants
    }
    medians = {
        who: {task: statistics.median(end for _, end in runs) for task, runs in found.items()}
        for who, found in losses.items()
        if found
    }
    best = {
        task: min((m[task] for m in medians.values() if task in m), default=math.inf)
        for task in tasks
    }
    return sorted(
        (_row(who, losses[who], found, best, len(tasks)) for who, found in medians.items()),
        key=lambda row: (math.isnan(row.mean), row.mean, row.untrained),
    )


def _row(
    who: str,
    losses: dict[str, list[tuple[float, float]]],
    medians: dict[str, float],
    best: dict[str, float],
    tasks: int,
) -> Row:
    ratios = {
        task: end / best[task] if math.isfinite(end) else math.inf for task, end in medians.items()
    }
    whole = len(ratios) == tasks
    mean = statistics.geometric_mean(ratios.values()) if whole else math.nan
    good = [trained(*run, best[task]) for task, runs in losses.items() for run in runs]
    seeds = min(map(len, losses.values()))
    return Row(who, ratios, mean, 1 - sum(good) / len(good), seeds)
