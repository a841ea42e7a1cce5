"""What the race says: targets, steps and seconds to them, a profile, a heat map, and a page."""

import math
import statistics
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.cells import Cells
from benchmarks.race.contestants import ALL, BUILT_IN, OURS
from benchmarks.race.plan import PILOTS, SPEED, Plan, centre, last, shortened
from benchmarks.race.trial import READINGS
from benchmarks.race.workloads import WORKLOADS

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


def ranges() -> str:
    """Returns from where the trials are drawn, as Markdown."""
    lines = ["| | learning rate around | else | cosine decay |", "|---|---|---|---|"]
    for who, each in ALL.items():
        times = "" if each.factor == 1 else f"{each.factor:g} · "
        rest = f"{each.rest} {each.rests[0]:g} to {each.rests[1]:g}" if each.rest else ""
        decays = "half" if each.decays else "none"
        lines.append(f"| {who} | {times}{each.pilot}'s | {rest} | {decays} |")
    return "\n".join(lines)


def sizes(cells: Cells, plan: Plan) -> str:
    """Returns what is trained, and what the pilots found, as Markdown."""
    best = [f"best rate of {who}" for who in PILOTS]
    lines = [f"| | batch | updates | judged by | {' | '.join(best)} |", "|---|---|---|---|---|---|"]
    for name, whole in WORKLOADS.items():
        workload = shortened(whole, plan.part)
        found = [
            workload.title,
            str(workload.batch or "all"),
            f"{workload.updates:,}",
            workload.judged.replace("_", " "),
            *(f"{centre(cells, name, workload, who, plan):g}" for who in PILOTS),
        ]
        lines.append(f"| {' | '.join(found)} |")
    return "\n".join(lines)


Table = dict[str, tuple[float, dict[str, Score]]]


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


def page(table: Table) -> str:
    """Returns the tables as Markdown."""
    lines = []
    for name, (target, found) in table.items():
        workload = WORKLOADS[name]
        lines += [
            f"**{workload.title}**: {workload.judged.replace('_', ' ')} of {target:.4g}",
            "",
            "| | at the end | accuracy | updates to the target | seconds | ms |",
            "|---|---|---|---|---|---|",
        ]
        for who, score in sorted(found.items(), key=lambda item: item[1].end):
            reached = math.isfinite(score.to_target)
            cells = [
                f"**{who}**" if who in OURS else who,
                f"{score.end:.4g} ({score.low:.4g} to {score.high:.4g})",
                "" if score.accuracy is None else f"{score.accuracy:.3f}",
                f"{score.to_target:,.0f}" if reached else "—",
                f"{score.seconds:.1f}" if reached else "—",
                f"{score.ms:.2f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def write(cells: Cells, names: list[str], plan: Plan, folder: Path) -> None:
    """Prints the tables of some workloads, and draws their figures."""
    from benchmarks.race import figures

    table = {name: scores(cells, name, plan.seeds) for name in names}
    print(sizes(cells, plan), ranges(), page(table), sep="\n\n")
    folder.mkdir(parents=True, exist_ok=True)
    for path in figures.draw(table, folder):
        print(path)
