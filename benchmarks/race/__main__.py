"""Runs what was not run yet, and reports: python -m benchmarks.race.

It can be stopped at any time, and started again. See docs/race.md.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.cells import Cells
from benchmarks.race import report
from benchmarks.race.contestants import DRAWS, Contestant, Draw, of_workload
from benchmarks.race.trial import READINGS
from benchmarks.race.workload import Workload
from benchmarks.race.workloads import WORKLOADS

HERE = Path(__file__).parent / "results.json"


class Plan(NamedTuple):
    """How much is run: trials, seeds of the best, a part of the updates, rounds of timing."""

    draws: int
    seeds: tuple[int, ...]
    part: int
    rounds: int


WHOLE = Plan(DRAWS, (1, 2, 3), 1, 21)
QUICK = Plan(1, (1,), 20, 1)


def main() -> int:
    """Runs and reports; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.race", description=__doc__)
    parser.add_argument("workloads", nargs="*", help=f"of {', '.join(WORKLOADS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="one trial, one seed, few updates")
    parser.add_argument("--results", type=Path, default=HERE, metavar="FILE")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="of the figures and the page")
    parser.add_argument("--report", action="store_true", help="only report what is there")
    arguments = parser.parse_args()
    if unknown := set(arguments.workloads) - set(WORKLOADS):
        parser.error(f"unknown workloads: {', '.join(sorted(unknown))}")
    if arguments.quick and arguments.results == HERE:
        parser.error("--quick needs --results and --output: it is not to be mixed with whole runs")
    cells = Cells(arguments.results)
    names = arguments.workloads or list(WORKLOADS)
    plan = QUICK if arguments.quick else WHOLE
    whole = []
    for name in names:
        workload = shortened(WORKLOADS[name], plan.part)
        if not arguments.report:
            run(cells, name, workload, plan)
        if lacking := unfinished(cells, name, workload, plan):
            print(f"{name}: not reported, for runs are missing of: {'; '.join(lacking)}")
        else:
            whole.append(name)
    if whole:
        report.write(cells, whole, plan.seeds, arguments.output or arguments.results.parent)
    return 0


def shortened(workload: Workload, part: int) -> Workload:
    """Returns the workload with a part of its updates, or what is next to it."""
    return workload._replace(updates=max(READINGS, workload.updates // part // READINGS * READINGS))


def run(cells: Cells, name: str, workload: Workload, plan: Plan) -> None:
    """Makes all runs of a workload that are missing."""
    from benchmarks.race import speed
    from benchmarks.race.trial import train

    problem, models, began = None, {}, time.monotonic()
    for who, contestant in of_workload(full_batch=not workload.batch).items():
        while todo := next(missing(cells, name, workload, who, contestant, plan), None):
            key, draw, seed = todo
            problem = problem or workload.make()
            found, models[who] = train(workload, problem, contestant, draw, seed)
            cells.add(name, key, found)
            end = report.last(cells.of(name, key), workload.judged)
            passed = time.monotonic() - began
            print(f"{passed:6.0f} s  {name}: {key}: {end:.4g}", flush=True)
    if not timed(cells, name, workload):
        problem = problem or workload.make()
        cells.add(name, report.SPEED, speed.measured(workload, problem, models, plan.rounds))


def timed(cells: Cells, name: str, workload: Workload) -> bool:
    """Returns whether updates of all contestants were timed."""
    times = (cells.of(name, report.SPEED) or {"ms": {}})["ms"]
    return set(times) == set(of_workload(full_batch=not workload.batch))


def unfinished(cells: Cells, name: str, workload: Workload, plan: Plan) -> list[str]:
    """Returns the contestants of which runs, or whose times, are missing."""
    contestants = of_workload(full_batch=not workload.batch)
    found = [
        who
        for who, contestant in contestants.items()
        if next(missing(cells, name, workload, who, contestant, plan), None)
    ]
    return found or ([] if timed(cells, name, workload) else list(contestants))


def missing(
    cells: Cells, name: str, workload: Workload, who: str, contestant: Contestant, plan: Plan
) -> Iterator[tuple[str, Any, int]]:
    """Yields trials, then runs of the best of them with other seeds.

    What was run with other settings, or for another number of updates, is missing, too.
    """

    def absent(key: str, draw: Draw) -> bool:
        wanted = {"settings": draw._asdict(), "updates": workload.updates // READINGS}
        found = cells.of(name, key) or {}
        return any(found.get(what) != value for what, value in wanted.items())

    trials = contestant.draws(workload)[: plan.draws]
    best = trials[0]
    if plan.draws > 1:  # Of one there is nothing to choose.
        keys = [f"{who}, trial {i}" for i in range(plan.draws)]
        for key, draw in zip(keys, trials, strict=True):
            if absent(key, draw):
                yield key, draw, 0
        ends = [report.last(cells.of(name, key), workload.judged) for key in keys]
        best = trials[ends.index(min(ends))]
    for seed in plan.seeds:
        key = f"{who}, seed {seed}"
        if absent(key, best):
            yield key, best, seed


if __name__ == "__main__":
    sys.exit(main())
