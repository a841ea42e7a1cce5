"""Whether DivergenceGuard mends learning rates that are too high, and leaves good ones alone.

For each of the small tasks of `benchmarks.defaults`, the best half decade of the learning rate is
searched; then the task is trained with it, and with 10 and 30 times as much, with the guard and
without. The results are kept, so that it can be stopped and started again.
"""

import functools
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.defaults.contestants import Contestant
from benchmarks.defaults.tasks import TASKS
from benchmarks.defaults.training import train
from benchmarks.support.cells import Cells
from nagd_keras import NAGD, callbacks

RESULTS = Path(__file__).with_name("results.json")
DIRECTIONS = "gradient", "orthogonal"
TIMES = 1.0, 10.0, 30.0
NEAR = 1.1  # times the best so far, beyond which a rate is not followed
GOOD = 1.3  # times the best run's loss at the end
LOWEST, FIRST, HIGHEST = -14, -4, 4  # half decades
QUICK = "digits_few", "diabetes"


class Plan(NamedTuple):
    """How a task is trained.

    Attributes:
        direction: of NAGD.
        has_cycle: whether the rate is the peak of one cycle, or stays.
        seed: of weights and order.
        epochs: instead of the task's, or None.
    """

    direction: str
    has_cycle: bool
    seed: int
    epochs: int | None = None

    def key(self, rate: float, has_guard: bool) -> str:
        """Returns the name of a result."""
        what = "peak" if self.has_cycle else "rate"
        guard = ", guard" if has_guard else ""
        return f"{self.direction}, {what} {rate:.3g}{guard}, seed {self.seed}"


class Bench:
    """Makes the runs that are not in the file yet."""

    def __init__(self, cells: Cells) -> None:
        """Takes what is known."""
        self._cells = cells
        self._problems = {name: functools.cache(task.make) for name, task in TASKS.items()}

    def run(self, task: str, plan: Plan, rate: float, has_guard: bool) -> dict[str, Any]:
        """Returns what a run found; makes it if need be."""
        key = plan.key(rate, has_guard)
        if self._cells.of(task, key) is None:
            found = self._train(task, plan, rate, has_guard)
            self._cells.add(task, key, found)
            said = f"{loss(found):.4g}, {len(found['events'])} rollbacks, {found['seconds']:.0f} s"
            print(f"  {task}: {key}: {said}", flush=True)
        return self._cells.of(task, key) or {}

    def _train(self, task: str, plan: Plan, rate: float, has_guard: bool) -> dict[str, Any]:
        guard = callbacks.DivergenceGuard(verbose=0)

        def made(model: Any, x: Any, y: Any, batch: int) -> list[Any]:
            cycle = [callbacks.OneCycle(rate, momentum=None)] if plan.has_cycle else []
            return [*cycle, guard] if has_guard else cycle

        def optimizer(updates: int) -> Any:
            return NAGD(rate, direction=plan.direction)

        about = TASKS[task]
        if plan.epochs is not None:
            about = about._replace(epochs=plan.epochs)
        contestant = Contestant(optimizer, made, callbacks.at_iterate)
        found = train(about, self._problems[task](), contestant, plan.seed)
        return {**found, "events": [str(event) for event in guard.events]}

    def best(self, task: str, plan: Plan) -> int:
        """Returns the best half decade, from where the loss rises to both sides."""
        ends: dict[int, float] = {}

        def end(half: int) -> float:
            if half not in ends:
                ends[half] = loss(self.run(task, plan, rate_of(half), False))
            return ends[half]

        end(FIRST)
        for way, last in ((1, HIGHEST), (-1, LOWEST)):
            half, worse = min(ends, key=end), 0
            # Two in a row: one may be bad by chance. Where all diverged, only lower rates can help.
            while half != last and worse < 2 and not (way > 0 and min(ends.values()) == math.inf):
                half += way
                worse = worse + 1 if end(half) > NEAR * min(ends.values()) else 0
        return min(ends, key=end)


def rate_of(half: int) -> float:
    """Returns the learning rate of a half decade."""
    return float(f"{10 ** (half / 2):.2g}")


def loss(found: dict[str, Any]) -> float:
    """Returns the loss at the end, infinite if there is none."""
    end = found["end"]
    return end if end is not None and math.isfinite(end) else math.inf


def rows(cells: Cells, plan: Plan, tasks: Iterable[str] = TASKS) -> Iterator[list[str]]:
    """Trains, and yields a row for each task: ratios to the loss of the best rate without guard."""
    bench = Bench(cells)
    for task in tasks:
        rate = rate_of(bench.best(task, plan))
        clean = loss(bench.run(task, plan, rate, False))
        row = [task, f"{rate:.2g}", f"{clean:.4g}"]
        for times in TIMES:
            for has_guard in (False, True):
                found = bench.run(task, plan, times * rate, has_guard)
                alarms = f" ({len(found['events'])})" if has_guard else ""
                row.append(f"{loss(found) / clean:.2f}{alarms}")
        yield row


def report(cells: Cells, plan: Plan, tasks: Iterable[str] = TASKS) -> None:
    """Prints a table as Markdown, after the runs that were missing."""
    found = list(rows(cells, plan, tasks))
    heads = [f"{times:g}x{guard}" for times in TIMES for guard in (", alone", ", guard")]
    print(f"\n{plan.direction}, {'one cycle' if plan.has_cycle else 'constant'}, seed {plan.seed}")
    print(f"| task | best rate | loss | {' | '.join(heads)} |\n|{'---|' * (3 + len(heads))}")
    for row in found:
        print(f"| {' | '.join(row)} |")
    for place, times in enumerate(TIMES):
        ratios = [float(row[4 + 2 * place].split()[0]) for row in found]
        good = sum(ratio <= GOOD for ratio in ratios)
        print(f"{times:g}x with the guard: {good} of {len(ratios)} within {GOOD} of the best")
