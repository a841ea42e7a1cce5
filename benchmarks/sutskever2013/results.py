"""What the results say: how a run ended, and the learning rate that they choose."""

import math
from pathlib import Path
from typing import Any

from benchmarks.cells import Cells
from benchmarks.sutskever2013.columns import Column
from benchmarks.sutskever2013.experiment import Cell, Experiment

CLOSE = 1.1  # as a multiple of the least error
HERE = Path(__file__).parent / "results.json"


def end(found: dict[str, Any] | None) -> float:
    """Returns the last error; infinite if it was not finite, or not found."""
    last = found["errors"][-1] if found else None
    return math.inf if last is None else last


def by_rate(
    results: Cells, name: str, experiment: Experiment, column: Column
) -> list[tuple[float, float]]:
    """Returns the learning rates of a column with the errors of their short runs, best first."""
    cells = [Cell(column, rate, experiment.short, 0) for rate in experiment.rates]
    return sorted((end(results.of(name, cell.key())), cell.rate) for cell in cells)


def candidates(results: Cells, name: str, experiment: Experiment, column: Column) -> list[float]:
    """Returns the learning rates of the long runs: those whose short run was close to the best.

    If no long run with them ended in an error below the best short run's, also the next smaller.
    """
    errors = by_rate(results, name, experiment, column)
    least, _ = errors[0]
    found = [rate for error, rate in errors if error <= CLOSE * least]
    for rate in sorted(experiment.rates, reverse=True):
        ends = [long_end(results, name, experiment, column, each) for each in found]
        if rate < min(found) and all(end is not None and not end < least for end in ends):
            found.append(rate)
    return found


def long_end(
    results: Cells, name: str, experiment: Experiment, column: Column, rate: float
) -> float | None:
    """Returns how a long run ended, or None if it is not there."""
    found = results.of(name, Cell(column, rate, experiment.updates, 0).key())
    return found and end(found)


def chosen(results: Cells, name: str, experiment: Experiment, column: Column) -> float:
    """Returns the learning rate whose long run ended best; without any, that of the short runs."""
    ends = {
        rate: long_end(results, name, experiment, column, rate)
        for rate in candidates(results, name, experiment, column)
    }
    there = {rate: end for rate, end in ends.items() if end is not None}
    return min(there or ends, key=lambda rate: there.get(rate, math.inf))
