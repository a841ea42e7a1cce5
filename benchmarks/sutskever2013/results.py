"""What the results say: how a run ended, and the learning rate that they choose."""

import math
import statistics
from pathlib import Path
from typing import Any

from benchmarks.support.cells import Cells
from benchmarks.sutskever2013.columns import Column
from benchmarks.sutskever2013.experiment import Cell, Experiment

CLOSE = 1.1  # as a multiple of the least error of short runs
RISE, WINDOW = 1.25, 10  # as a multiple of the least median of so many readings
HERE = Path(__file__).parent / "results.json"


def readings(found: dict[str, Any] | None) -> list[float]:
    """Returns the errors, infinite where they were not finite; none if nothing was found."""
    return [math.inf if x is None else x for x in found["errors"]] if found else []


def end(found: dict[str, Any] | None) -> float:
    """Returns the last error; infinite if it was not finite, or not found."""
    return (readings(found) or [math.inf])[-1]


def by_rate(
    results: Cells, name: str, experiment: Experiment, column: Column
) -> list[tuple[float, float]]:
    """Returns the learning rates of a column with the errors of their short runs, best first."""
    cells = [Cell(column, rate, experiment.short, 0) for rate in experiment.rates]
    return sorted((end(results.of(name, cell.key())), cell.rate) for cell in cells)


def candidates(results: Cells, name: str, experiment: Experiment, column: Column) -> list[float]:
    """Returns the learning rates of the long runs: those whose short run was close to the best.

    If the smallest of them is too large for a long run, whose error rises again, so is the next.
    """
    errors = by_rate(results, name, experiment, column)
    if math.isinf(errors[0][0]):
        return [min(experiment.rates)]  # None of them says more of a larger one.
    found = [rate for error, rate in errors if error <= CLOSE * errors[0][0]]
    for rate in sorted(experiment.rates, reverse=True):
        run = long_run(results, name, experiment, column, min(found))
        if rate < min(found) and run and rose(run["errors"]):
            found.append(rate)
    return found


def rose(errors: list[float | None]) -> bool:
    """Returns whether a run broke off, or its errors rose again before the last piece.

    The last is left out because the momentum falls there; medians, because they are noisy.
    """
    if errors[-1] is None:
        return True
    earlier = errors[:-1] or errors
    count = max(1, len(earlier) - WINDOW + 1)
    medians = [statistics.median(earlier[i : i + WINDOW]) for i in range(count)]
    return medians[-1] > RISE * min(medians)


def long_run(
    results: Cells, name: str, experiment: Experiment, column: Column, rate: float
) -> dict[str, Any] | None:
    """Returns what a long run found, or None if it is not there."""
    return results.of(name, Cell(column, rate, experiment.updates, 0).key())


def chosen(results: Cells, name: str, experiment: Experiment, column: Column) -> float:
    """Returns the learning rate whose long run ended best; without any, that of the short runs."""
    rates = candidates(results, name, experiment, column)
    runs = {rate: long_run(results, name, experiment, column, rate) for rate in rates}
    return min(rates, key=lambda rate: end(runs[rate]))
