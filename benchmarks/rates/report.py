"""How near a rate that was found comes to the best, and what DivergenceGuard makes of high ones."""

import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from benchmarks.defaults.runs import key
from benchmarks.rates.search import Plan, Search, loss
from benchmarks.support.cells import Cells

TIMES = 1.0, 10.0, 30.0
GOOD = 1.3  # times the best run's loss at the end
UNGIVEN = "OneCycle", "found and OneCycle"  # of the contestants of `benchmarks.defaults`


class Guarded(NamedTuple):
    """A run with the guard, and the same without.

    Attributes:
        alone: the loss at the end without the guard, of that of the best rate.
        ratio: the same with the guard.
        alarms: how often the guard went back.
    """

    alone: float
    ratio: float
    alarms: int


class Row(NamedTuple):
    """A task.

    Attributes:
        task: its name.
        rate: the best learning rate.
        clean: the loss at its end.
        ungiven: the ratios to it of the runs to which no rate was given; empty if they are missing.
        guarded: the runs with `TIMES` the rate.
    """

    task: str
    rate: float
    clean: float
    ungiven: list[float]
    guarded: list[Guarded]


def rows(cells: Cells, defaults: Cells, plan: Plan, tasks: Iterable[str]) -> Iterator[Row]:
    """Trains, and yields a row for each task.

    Args:
        cells: of the runs with a given learning rate.
        defaults: of `benchmarks.defaults`.
        plan: how the tasks are trained.
        tasks: their names.
    """
    search = Search(cells, plan)
    for task in tasks:
        rate = search.best(task)
        clean = loss(search.run(task, rate))
        guarded = []
        for times in TIMES:
            alone, with_guard = (search.run(task, times * rate, has) for has in (False, True))
            ratios = loss(alone) / clean, loss(with_guard) / clean
            guarded.append(Guarded(*ratios, len(with_guard["events"])))
        names = [f"NAGD, {plan.direction}, {how}" for how in UNGIVEN if plan.has_cycle]
        found = [defaults.of(task, key(name, plan.seed)) for name in names]
        yield Row(task, rate, clean, [loss(each) / clean for each in found if each], guarded)


def lines(plan: Plan, found: Sequence[Row]) -> list[str]:
    """Returns a table as Markdown, and what it says."""
    ungiven = list(UNGIVEN if all(row.ungiven for row in found) else ())
    heads = [f"{times:g}x{guard}" for times in TIMES for guard in (", alone", ", guard")]
    said = [
        f"{plan.direction}, {'one cycle' if plan.has_cycle else 'constant'}, seed {plan.seed}",
        "",
        f"| {' | '.join(['task', 'best rate', 'loss', *ungiven, *heads])} |",
        f"|{'---|' * (3 + len(ungiven) + len(heads))}",
    ]
    for row in found:
        numbers = [f"{ratio:.2f}" for ratio in row.ungiven] if ungiven else []
        for each in row.guarded:
            numbers += [f"{each.alone:.2f}", f"{each.ratio:.2f} ({each.alarms})"]
        said.append(f"| {row.task} | {row.rate:.2g} | {row.clean:.4g} | {' | '.join(numbers)} |")
    said.append("")
    for place, name in enumerate(ungiven):
        ratio = statistics.geometric_mean(row.ungiven[place] for row in found)
        said.append(f"{name}: {ratio:.2f} of the best rate")
    for place, times in enumerate(TIMES):
        good = sum(row.guarded[place].ratio <= GOOD for row in found)
        alarms = sum(row.guarded[place].alarms > 0 for row in found)
        said.append(
            f"{times:g}x with the guard: {good} of {len(found)} within {GOOD} of the best rate, "
            f"{alarms} with alarms"
        )
    return said
