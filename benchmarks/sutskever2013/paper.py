"""The paper's figures, and ours beside them, as Markdown."""

import math
import statistics
from typing import Any

from benchmarks.cells import Cells
from benchmarks.sutskever2013.columns import CLASSICAL, NESTEROV, Column
from benchmarks.sutskever2013.experiment import Cell, Experiment
from benchmarks.sutskever2013.results import chosen, end, long_run

# Tables 1 and 5: the training error of each column.
PAPER = {
    "curves": {
        "SGD": 0.48,
        **{".9N": 0.16, ".99N": 0.096, ".995N": 0.091, ".999N": 0.074},
        **{".9M": 0.15, ".99M": 0.10, ".995M": 0.10, ".999M": 0.10},
    },
    "addition": {
        "SGD": 0.39,
        **{".9N": 0.02, ".98N": 0.21, ".995N": 0.00025},
        **{".9M": 0.43, ".98M": 0.62, ".995M": 0.036},
    },
}
HIGH, METHODS = (".99", ".995", ".999"), (NESTEROV, CLASSICAL)
# What the ratios are to: the column whose method has no momentum.
BASE = "SGD"


def chosen_run(
    cells: Cells, name: str, experiment: Experiment, column: Column
) -> tuple[float, Any]:
    """Returns the learning rate of a column, and what its long run found, if it is there."""
    rate = chosen(cells, name, experiment, column)
    return rate, long_run(cells, name, experiment, column, rate)


def number(x: float) -> str:
    """Returns two or three digits; a dash for what is not there, or not finite."""
    return f"{x:.3g}" if math.isfinite(x) else "—"


def markdown(cells: Cells, name: str, experiment: Experiment, spread: int, seeds: Any) -> str:
    """Returns the table of an experiment: each column's errors, and ratios beside the paper's."""
    lines = [
        f"| | learning rate | error after {experiment.updates:,} updates | of {BASE}'s | paper | "
        f"of {BASE}'s | after {spread:,}, {len(seeds)} seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    base = end(chosen_run(cells, name, experiment, experiment.columns[0])[1])
    for column in experiment.columns:
        rate, found = chosen_run(cells, name, experiment, column)
        paper = PAPER[name][str(column)]
        ends = [end(cells.of(name, Cell(column, rate, spread, seed).key())) for seed in seeds]
        error = end(found)
        cell = [
            str(column),
            f"{rate:g}",
            number(error),
            number(error / base),
            f"{paper:g}",
            number(paper / PAPER[name][BASE]),
            f"{number(statistics.median(ends))} ({number(min(ends))} to {number(max(ends))})",
        ]
        lines.append(f"| {' | '.join(cell)} |")
    return "\n".join(lines)


def claims(cells: Cells, name: str, experiment: Experiment) -> list[tuple[str, float, bool]]:
    """Returns what the paper found on Curves, each claim with our ratio and whether it holds.

    Claims about runs that are not there yet are left out.
    """
    after, before = {}, {}
    for column in experiment.columns:
        found = chosen_run(cells, name, experiment, column)[1]
        if found:
            after[str(column)] = end(found)
            before[str(column)] = end({"errors": found["errors"][:-1]})
    nesterov, dropped = [f"{mu}N" for mu in HIGH], [mu + way for way in METHODS for mu in HIGH]
    pairs = [
        *((f"{x} is at most half of .9N", after.get(x), after.get(".9N"), 1 / 2) for x in nesterov),
        *(
            (f"{x} is below a fifth of SGD", after.get(x), after.get("SGD"), 1 / 5)
            for x in nesterov
        ),
        *(
            (f"{mu}N is at most {mu}M", after.get(f"{mu}N"), after.get(f"{mu}M"), 1)
            for mu in HIGH[1:]
        ),
        *((f"{x} falls when its momentum does", after.get(x), before.get(x), 1) for x in dropped),
    ]
    return [(text, a / b, a / b <= most) for text, a, b, most in pairs if None not in (a, b)]


def claims_markdown(cells: Cells, name: str, experiment: Experiment) -> str:
    """Returns the claims as a table."""
    lines = ["| | ratio | |", "|---|---|---|"]
    for text, ratio, holds in claims(cells, name, experiment):
        lines.append(f"| {text} | {number(ratio)} | {'yes' if holds else 'no'} |")
    return "\n".join(lines)


def drop(cells: Cells, name: str, experiment: Experiment) -> str:
    """Returns the errors before and after the momentum is lowered for the last updates."""
    lines = ["| | before the drop | after it |", "|---|---|---|"]
    for column in experiment.columns:
        found = chosen_run(cells, name, experiment, column)[1]
        if found and column.momentum > 0.9:
            before, after = found["errors"][-2:]
            lines.append(f"| {column} | {number(before)} | {number(after)} |")
    return "\n".join(lines)
