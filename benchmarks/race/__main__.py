"""Runs what was not run yet, and reports: python -m benchmarks.race.

It can be stopped at any time, and started again. See docs/race.md.
"""

import argparse
import sys
import time
from pathlib import Path

from benchmarks.race import report, rulings
from benchmarks.race.contestants import of_workload
from benchmarks.race.plan import (
    QUICK,
    SPEED,
    WHOLE,
    Plan,
    last,
    missing,
    shortened,
    timed,
    trials,
    unfinished,
)
from benchmarks.race.workload import Workload
from benchmarks.race.workloads import WORKLOADS
from benchmarks.support.cells import Cells

HERE = Path(__file__).parent / "results.json"


def main() -> int:
    """Runs and reports; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.race", description=__doc__)
    parser.add_argument("workloads", nargs="*", help=f"of {', '.join(WORKLOADS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="one trial, one seed, few updates")
    parser.add_argument("--results", type=Path, default=HERE, metavar="FILE")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="of the figures")
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
    if not arguments.report and not arguments.quick and whole == list(WORKLOADS):
        run_rulings(cells)
    if whole:
        report.write(cells, whole, plan, arguments.output or arguments.results.parent)
    return 0


def run(cells: Cells, name: str, workload: Workload, plan: Plan) -> None:
    """Makes all runs of a workload that are missing."""
    from benchmarks.race import speed
    from benchmarks.race.trial import train

    problem, models, began = None, {}, time.monotonic()
    contestants = of_workload(full_batch=not workload.batch)
    for who, contestant in contestants.items():
        while todo := next(missing(cells, name, workload, who, contestant, plan), None):
            problem = problem or workload.make()
            trained = train(workload, problem, contestants[todo.who], todo.draw, todo.seed)
            found, models[todo.who] = trained
            cells.add(name, todo.key, found)
            end = last(cells.of(name, todo.key), workload.judged)
            passed = time.monotonic() - began
            print(f"{passed:6.0f} s  {name}: {todo.key}: {end:.4g}", flush=True)
    if not timed(cells, name, workload):
        problem = problem or workload.make()
        draws = {
            who: trials(cells, name, workload, each, plan)[0] for who, each in contestants.items()
        }
        measured = speed.measured(workload, problem, draws, models, plan.rounds)
        cells.add(name, SPEED, measured)


def run_rulings(cells: Cells) -> None:
    """Makes the runs of the rulings that are missing."""
    from benchmarks.race.trial import train

    judged, problems = rulings.judged(cells, WORKLOADS), {}
    while todo := next(judged.missing(), None):
        if todo.name not in problems:
            problems[todo.name] = todo.workload.make()
        problem = problems[todo.name]
        found, _ = train(todo.workload, problem, todo.contestant, todo.run.draw, todo.run.seed)
        cells.add(todo.name, todo.run.key, found)
        print(f"{todo.name}: {todo.run.key}: {last(found, todo.workload.judged):.4g}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
