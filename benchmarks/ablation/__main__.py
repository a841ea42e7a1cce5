"""Runs what was not run yet, and reports: python -m benchmarks.ablation.

It can be stopped at any time, and started again; several processes may share the work, each with
workloads of its own. See docs/directions.md.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.ablation import report
from benchmarks.ablation.variants import FAMILIES, LONGER, RATES, WORKLOADS, Variant
from benchmarks.race.contestants import Draw, Warmed
from benchmarks.race.trial import train
from benchmarks.race.workload import Problem, Workload
from benchmarks.support.cells import Cells

HERE = Path(__file__).parent / "results.json"


class Run(NamedTuple):
    """A training run."""

    key: str
    variant: Variant
    draw: Draw
    seed: int


def runs(
    families: Sequence[str], only: Sequence[str], rates: Sequence[float], seeds: int, times: int
) -> Iterator[Run]:
    """Yields the runs that are made on every workload, with so many times the race's updates."""
    for seed, rate in itertools.product(range(1, seeds + 1), rates):
        for family in families:
            for name, variant in FAMILIES[family].items():
                if name in only if only else variant.longer or times == 1:
                    key = report.key(family, name, rate, seed, times)
                    yield Run(key, variant, Warmed(rate, 0.0, True), seed)


def make(cells: Cells, name: str, workload: Workload, problem: Problem, run: Run) -> None:
    """Makes a run, and keeps and prints what it found."""
    began = time.monotonic()
    found, _ = train(workload, problem, run.variant.contestant(), run.draw, run.seed)
    cells.add(name, run.key, found)
    took = time.monotonic() - began
    print(f"{took:5.1f} s  {name}: {run.key}: {found[workload.judged][-1]:.4g}", flush=True)


def main() -> int:
    """Runs and reports; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=__doc__)
    parser.add_argument("workloads", nargs="*", help=f"of {', '.join(WORKLOADS)}; default: all")
    parser.add_argument("--family", choices=FAMILIES, action="append", help="default: all")
    names = [name for family in FAMILIES.values() for name in family]
    parser.add_argument("--only", choices=names, action="append", help="variants; default: all")
    parser.add_argument("--rate", type=float, choices=RATES, action="append", help="default: all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--long", action="store_true", help=f"{LONGER} times the updates")
    parser.add_argument("--results", type=Path, default=HERE, metavar="FILE")
    parser.add_argument("--report", action="store_true", help="only report what is there")
    arguments = parser.parse_args()
    if unknown := set(arguments.workloads) - set(WORKLOADS):
        parser.error(f"unknown workloads: {', '.join(sorted(unknown))}")
    cells, times = Cells(arguments.results), LONGER if arguments.long else 1
    if not arguments.report:
        problems = {name: WORKLOADS[name].make() for name in arguments.workloads or WORKLOADS}
        families, rates = arguments.family or list(FAMILIES), arguments.rate or RATES
        for run in runs(families, arguments.only or [], rates, arguments.seeds, times):
            for name, problem in problems.items():
                if not cells.of(name, run.key):
                    workload = WORKLOADS[name]
                    workload = workload._replace(updates=times * workload.updates)
                    make(cells, name, workload, problem, run)
    report.write(cells, arguments.results.with_suffix(".md"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
