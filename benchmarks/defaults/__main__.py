"""Runs what was not run yet, and reports: python -m benchmarks.defaults.

Small tasks are trained as people have them, by optimizers as they come. It can be stopped at any
time, and started again.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.defaults import report
from benchmarks.defaults.contestants import CONTESTANTS
from benchmarks.defaults.runs import Run, made, missing, planned
from benchmarks.defaults.tasks import TASKS
from benchmarks.support.cells import Cells

HERE = Path(__file__).parent / "results.json"
QUICK_TASKS = "digits_few", "diabetes", "categories"
QUICK_CONTESTANTS = (
    "Adam",
    "AdamW, warm-up and cosine",
    "NAGD, orthogonal",
    "NAGD, adaptive, OneCycle",
    "NAGD, adaptive, found and OneCycle",
)


def run(cells: Cells, runs: Sequence[Run], jobs: int) -> int:
    """Makes the runs that are missing, prints how each ended, and returns how many failed."""
    began, failed = time.monotonic(), 0
    todo = missing(cells, runs)
    for done, (each, found) in enumerate(made(todo, min(jobs, len(todo))) if todo else (), 1):
        if isinstance(found, Exception):
            failed += 1
            said = f"{type(found).__name__}: {found}"
        else:
            cells.add(each.task, each.key, found)
            said = f"{found['untrained']:.4g} to {found['end']:.4g} in {found['seconds']:.1f} s"
        passed = time.monotonic() - began
        print(f"{passed:6.0f} s  {done}/{len(todo)}  {each.task}: {each.key}: {said}", flush=True)
    return failed


def main(given: Sequence[str] | None = None) -> int:
    """Runs and reports; returns 1 if a run failed, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.defaults", description=__doc__)
    parser.add_argument("tasks", nargs="*", help=f"of {', '.join(TASKS)}; default: all")
    parser.add_argument("--contestant", action="append", metavar="NAME", help="default: all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="processes, each of one thread")
    parser.add_argument("--quick", action="store_true", help="a few, for one epoch; kept nowhere")
    parser.add_argument("--results", type=Path, default=HERE, metavar="FILE")
    parser.add_argument("--report", action="store_true", help="only report what is there")
    arguments = parser.parse_args(given)
    if unknown := set(arguments.tasks) - set(TASKS):
        parser.error(f"unknown tasks: {', '.join(sorted(unknown))}")
    names = arguments.contestant or list(CONTESTANTS)
    if unknown := set(names) - set(CONTESTANTS):
        parser.error(f"unknown contestants: {'; '.join(sorted(unknown))}")
    if arguments.quick:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "results.json"
            cells = Cells(path)
            runs = planned(QUICK_TASKS, QUICK_CONTESTANTS, 1, epochs=1)
            failed = run(cells, runs, arguments.jobs)
            report.write(cells, path)
        return int(failed > 0)
    cells, failed = Cells(arguments.results), 0
    if not arguments.report:
        runs = planned(arguments.tasks or TASKS, names, arguments.seeds)
        failed = run(cells, runs, arguments.jobs)
    report.write(cells, arguments.results)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
