"""What is to be run: pilots, from which the ranges of learning rates come, trials, and seeds."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from benchmarks.race.contestants import BY_GRADIENT, DRAWS, RELATIVE, Contestant, Draw, of_workload
from benchmarks.race.trial import READINGS
from benchmarks.race.workload import Workload
from benchmarks.support.cells import Cells

SPEED = "speed"  # the cell of a workload that has the time of an update of each


def half_decades(low: int, high: int) -> tuple[float, ...]:
    """Returns 10^low, 10^(low + 1/2) and so on to 10^high, to two digits."""
    return tuple(float(f"{10 ** (i / 2):.2g}") for i in range(2 * low, 2 * high + 1))


class Pilot(NamedTuple):
    """A method's default settings, tried with a grid of learning rates."""

    rest: float
    rates: tuple[float, ...]


PILOTS = {
    BY_GRADIENT: Pilot(0.05, half_decades(-4, 1)),
    RELATIVE: Pilot(0.1, half_decades(-5, 0)),
}


class Plan(NamedTuple):
    """How much is run.

    Attributes:
        pilots: each method of which a grid of learning rates is tried.
        draws: trials of a contestant.
        seeds: of the runs of the best trial.
        part: of the updates one of so many parts.
        rounds: of timing.
    """

    pilots: dict[str, Pilot]
    draws: int
    seeds: tuple[int, ...]
    part: int
    rounds: int


MIDDLE = {who: Pilot(rest, rates[len(rates) // 2 :][:1]) for who, (rest, rates) in PILOTS.items()}
WHOLE = Plan(PILOTS, DRAWS, (1, 2, 3), 1, 21)
QUICK = Plan(MIDDLE, 1, (1,), 20, 1)


class Run(NamedTuple):
    """A training run: its name in the results, and what it is of."""

    key: str
    who: str
    draw: Draw
    seed: int


def shortened(workload: Workload, part: int) -> Workload:
    """Returns the workload with a part of its updates, or what is next to it."""
    return workload._replace(updates=max(READINGS, workload.updates // part // READINGS * READINGS))


def last(found: dict[str, Any] | None, judged: str) -> float:
    """Returns the last number; infinite if it is not finite."""
    value = found[judged][-1] if found else None
    return math.inf if value is None else value


def pilots(who: str, plan: Plan) -> list[Run]:
    """Returns a pilot's runs."""
    rest, rates = plan.pilots[who]
    return [Run(f"pilot, {who}, {rate:g}", who, Draw(rate, rest, False), 0) for rate in rates]


def centre(cells: Cells, name: str, workload: Workload, who: str, plan: Plan) -> float:
    """Returns the learning rate of a pilot's best run, the smallest if none ended."""
    runs = pilots(who, plan)
    ends = [last(cells.of(name, run.key), workload.judged) for run in runs]
    return runs[ends.index(min(ends))].draw.rate


def trials(
    cells: Cells, name: str, workload: Workload, contestant: Contestant, plan: Plan
) -> list[Draw]:
    """Returns the settings of a contestant's trials: those of the pilots must have run."""
    return contestant.draws(centre(cells, name, workload, contestant.pilot, plan))[: plan.draws]


def absent(cells: Cells, name: str, workload: Workload, run: Run) -> bool:
    """Returns whether it was not made with these settings, and for as many updates."""
    found = cells.of(name, run.key) or {}
    wanted = {"settings": run.draw._asdict(), "updates": workload.updates // READINGS}
    return any(found.get(what) != value for what, value in wanted.items())


def missing(
    cells: Cells, name: str, workload: Workload, who: str, contestant: Contestant, plan: Plan
) -> Iterator[Run]:
    """Yields runs of the pilot, then trials, then runs of the best of them with other seeds."""
    pilot = pilots(contestant.pilot, plan)
    yield from (run for run in pilot if absent(cells, name, workload, run))
    draws = trials(cells, name, workload, contestant, plan)
    best = draws[0]
    if plan.draws > 1:  # Of one there is nothing to choose.
        runs = [Run(f"{who}, trial {i}", who, d, 0) for i, d in enumerate(draws)]
        yield from (run for run in runs if absent(cells, name, workload, run))
        ends = [last(cells.of(name, run.key), workload.judged) for run in runs]
        best = draws[ends.index(min(ends))]
    runs = [Run(f"{who}, seed {seed}", who, best, seed) for seed in plan.seeds]
    yield from (run for run in runs if absent(cells, name, workload, run))


def timed(cells: Cells, name: str, workload: Workload) -> bool:
    """Returns whether updates of all contestants were timed, and their states measured."""
    sizes = (cells.of(name, SPEED) or {}).get("bytes", {})
    return set(sizes) == set(of_workload(full_batch=not workload.batch))


def unfinished(cells: Cells, name: str, workload: Workload, plan: Plan) -> list[str]:
    """Returns the contestants of which runs, or whose times, are missing."""
    contestants = of_workload(full_batch=not workload.batch)
    found = [
        who
        for who, contestant in contestants.items()
        if next(missing(cells, name, workload, who, contestant, plan), None)
    ]
    return found or ([] if timed(cells, name, workload) else list(contestants))
