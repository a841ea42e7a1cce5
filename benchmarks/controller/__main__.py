"""Runs what was not run yet, and reports: python -m benchmarks.controller.

It can be stopped at any time, and started again. See docs/controller.md.
"""

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from benchmarks.controller import report, small
from benchmarks.controller.rule import Quadratic, Rule, cosine, ratio
from benchmarks.controller.variants import AVERAGE, VARIANTS, Run
from benchmarks.race.contestants import Contestant, Draw
from benchmarks.race.workloads import WORKLOADS
from benchmarks.support.cells import Cells
from nagd_keras import callbacks

HERE = Path(__file__).parent / "results.json"


def missing(cells: Cells, names: list[str]) -> Iterator[Run]:
    """Yields the runs that were not made."""
    for variant, each in VARIANTS.items():
        for name in names:
            for run in (Run(name, variant, rate) for rate in each.rates):
                if not cells.of(name, run.key):
                    yield run


@contextlib.contextmanager
def at_average(model: Any) -> Iterator[Any]:
    """Lets the variables hold their averages, if there are some yet."""
    variables, optimizer = model.trainable_variables, model.optimizer
    held = [ops.copy(v.value) for v in variables]
    if int(optimizer.iterations):
        optimizer.finalize_variable_values(variables)
    try:
        yield model
    finally:
        for variable, value in zip(variables, held, strict=True):
            variable.assign(value)


def train(run: Run) -> dict:
    """Makes a run; returns its curve, the rule's factor, and what was seen."""
    from benchmarks.controller.optimizer import Controller, FromRun
    from benchmarks.race import trial

    variant, workload, made = VARIANTS[run.variant], WORKLOADS[run.name], []
    updates = workload.updates // variant.part // trial.READINGS * trial.READINGS

    def make(draw: Draw, updates: int) -> FromRun:
        made.append(
            Controller(
                variant.rule,
                draw.rate,
                updates,
                variant.until,
                variant.factors,
                variant.least,
                variant.most,
                variant.held,
            )
        )
        average = {"use_ema": True, "ema_momentum": AVERAGE} if variant.averaged else {}
        return FromRun(made[-1], variant.relative, **average)

    point = at_average if variant.averaged else callbacks.at_iterate
    contestant = Contestant(make, point=point)
    problem, short = workload.make(), workload._replace(updates=updates)
    found, _ = trial.train(short, problem, contestant, Draw(run.rate, 0.0, True), seed=1)
    seen = {name: float(f"{value:.4g}") for name, value in made[-1].seen.items()}
    return {**found, "factor": float(f"{made[-1].factor:.4g}"), **seen}


def theory() -> list[list[str]]:
    """Returns where rules bring a learning rate on quadratics of curvature 2."""
    rows = []
    for name, rule in (("ratio .1", ratio(0.1)), ("cosine", cosine)):
        for noise in (0.01, 1.0):
            for updates in (4_000, 16_000):
                quadratic = Quadratic(np.full(200, 2.0), noise)
                found = [
                    quadratic.rate(Rule(rule, 0.05), rate, updates) for rate in (0.001, 0.05, 0.9)
                ]
                rows.append([name, f"{noise:g}", f"{updates:,}", *(f"{x:.3g}" for x in found)])
    return rows


def main() -> int:
    """Runs and reports; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.controller", description=__doc__)
    parser.add_argument("workloads", nargs="*", help=f"of {', '.join(WORKLOADS)}; default: all")
    parser.add_argument("--results", type=Path, default=HERE, metavar="FILE")
    parser.add_argument("--small", action="store_true", help="the small tasks instead")
    parser.add_argument("--report", action="store_true", help="only report what is there")
    arguments = parser.parse_args()
    if unknown := set(arguments.workloads) - set(WORKLOADS):
        parser.error(f"unknown workloads: {', '.join(sorted(unknown))}")
    if arguments.small and arguments.workloads:
        parser.error("--small has tasks of its own: leave the workloads out")
    cells = Cells(arguments.results)
    if arguments.small and not arguments.report:
        small.run(cells)
    elif not arguments.report:
        for run in missing(cells, arguments.workloads or list(WORKLOADS)):
            found = train(run)
            cells.add(run.name, run.key, found)
            end = found[WORKLOADS[run.name].judged][-1]
            print(f"{run.name}: {run.key}: {end:.4g}, factor {found['factor']:.3g}", flush=True)
    report.write(cells, theory())
    return 0


if __name__ == "__main__":
    sys.exit(main())
