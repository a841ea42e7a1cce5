"""The best half decade of the learning rate, for each of the small tasks of `benchmarks.defaults`.

The results are kept, so that it can be stopped and started again.
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.defaults.contestants import Contestant
from benchmarks.defaults.tasks import TASKS
from benchmarks.defaults.training import train
from benchmarks.support.cells import Cells
from nagd_keras import NAGD, callbacks

RESULTS = Path(__file__).with_name("results.json")
NEAR = 1.1  # times the best so far, beyond which a rate is not followed
LOWEST, FIRST, HIGHEST = -14, -4, 4  # half decades


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


class Search:
    """Makes the runs of a plan that are not in the file yet."""

    def __init__(self, cells: Cells, plan: Plan) -> None:
        """Takes what is known."""
        self._cells = cells
        self._plan = plan

    def run(self, task: str, rate: float, has_guard: bool = False) -> dict[str, Any]:
        """Returns what a run found; makes it if need be."""
        key = self._plan.key(rate, has_guard)
        found = self._cells.of(task, key)
        if found is None:
            found = _train(task, self._plan, rate, has_guard)
            self._cells.add(task, key, found)
            said = f"{loss(found):.4g}, {len(found['events'])} rollbacks, {found['seconds']:.0f} s"
            print(f"  {task}: {key}: {said}", flush=True)
        return found

    def best(self, task: str) -> float:
        """Returns the best learning rate, from where the loss rises to both sides."""
        ends: dict[int, float] = {}

        def end(half: int) -> float:
            if half not in ends:
                ends[half] = loss(self.run(task, rate_of(half)))
            return ends[half]

        end(FIRST)
        for way, last in ((1, HIGHEST), (-1, LOWEST)):
            half, worse = FIRST, 0
            # Two in a row: one may be bad by chance. Where all diverged, only lower rates can help.
            while half != last and worse < 2 and not (way > 0 and min(ends.values()) == math.inf):
                half += way
                worse = worse + 1 if end(half) > NEAR * min(ends.values()) else 0
        return rate_of(min(ends, key=end))


def _train(task: str, plan: Plan, rate: float, has_guard: bool) -> dict[str, Any]:
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
    found = train(about, about.make(), contestant, plan.seed)
    return {**found, "events": [str(event) for event in guard.events]}


def rate_of(half: int) -> float:
    """Returns the learning rate of a half decade."""
    return float(f"{10 ** (half / 2):.2g}")


def loss(found: dict[str, Any]) -> float:
    """Returns the loss at the end, infinite if there is none."""
    end = found["end"]
    return end if end is not None and math.isfinite(end) else math.inf
