"""How near a rate that was found comes to the best, and what DivergenceGuard makes of high ones."""

import itertools
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator

from benchmarks.defaults.runs import key
from benchmarks.race.report import markdown
from benchmarks.rates.search import Plan, Search, loss
from benchmarks.support.cells import Cells

UNGIVEN = "OneCycle", "found and OneCycle"  # of the contestants of `benchmarks.defaults`
TIMES = 1.0, 10.0, 30.0
WAYS = {"alone": False, "guard": True}
GOOD = 1.3  # times the best run's loss at the end


def ungiven(cells: Cells, defaults: Cells, plan: Plan, tasks: Iterable[str]) -> list[str]:
    """Trains, and returns how near the runs come to which no learning rate was given.

    Args:
        cells: of the runs with a given learning rate.
        defaults: of `benchmarks.defaults`, which has the others.
        plan: how the tasks are trained.
        tasks: their names.
    """
    rows = []
    ratios: dict[str, list[float]] = {how: [] for how in UNGIVEN}
    for task, rate, clean in _best(Search(cells, plan), tasks):
        row = [task, f"{rate:.2g}", f"{clean:.4g}"]
        for how in UNGIVEN:
            found = defaults.of(task, key(f"NAGD, {plan.direction}, {how}", plan.seed))
            ratios[how] += [loss(found) / clean] if found else []
            row.append(f"{ratios[how][-1]:.2f}" if found else "")
        rows.append(row)
    said = [markdown(["", "best rate", "loss", *UNGIVEN], rows), ""]
    for how, each in ratios.items():
        if len(each) == len(rows):
            mean, middle = statistics.geometric_mean(each), statistics.median(each)
            said.append(
                f"{how}, to the best rate: mean {mean:.2f} (geometric), median {middle:.2f}"
            )
    return said


def guarded(cells: Cells, plan: Plan, tasks: Iterable[str]) -> list[str]:
    """Trains, and returns what becomes of rates that are too high, with the guard and without."""
    search = Search(cells, plan)
    rows = []
    good: Counter[str] = Counter()
    for task, rate, clean in _best(search, tasks):
        row = [task, f"{rate:.2g}", f"{clean:.4g}"]
        for times, (name, has_guard) in itertools.product(TIMES, WAYS.items()):
            found = search.run(task, times * rate, has_guard)
            ratio, events = loss(found) / clean, len(found["events"])
            row.append(f"{ratio:.2f}" + f" ({events})" * has_guard)
            good[f"{times:g}x, {name}"] += ratio <= GOOD
            good[f"{times:g}x, alarms"] += events > 0
        rows.append(row)
    heads = [f"{times:g}x, {name}" for times in TIMES for name in WAYS]
    said = [
        f"{times:g}x: {good[f'{times:g}x, alone']} of {len(rows)} within {GOOD} of the best rate "
        f"alone, {good[f'{times:g}x, guard']} with the guard, which went back in "
        f"{good[f'{times:g}x, alarms']}"
        for times in TIMES
    ]
    return [markdown(["", "best rate", "loss", *heads], rows), "", *said]


def _best(search: Search, tasks: Iterable[str]) -> Iterator[tuple[str, float, float]]:
    """Yields each task, its best learning rate and the loss at the end with it."""
    for task in tasks:
        rate = search.best(task)
        yield task, rate, loss(search.run(task, rate))
