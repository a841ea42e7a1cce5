"""Races on a device that works while the process goes on: calls in bursts, and then a wait.

To wait after each call would count what it takes to hand over the next one, which in training is
done while the device is at work.
"""

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from benchmarks.accelerator.budget import Clock
from benchmarks.support import child, timing

BURST = 0.01  # of the seconds that there are for a table
MOST = 50  # calls of a burst
NO_TIME = "left out: no time was left for it"

Call = Callable[[], Any]
Maker = Callable[[], Call]
Wait = Callable[[Any], None]
More = Callable[[Mapping[str, Mapping[str, Any]]], Mapping[str, Mapping[str, Any]]]


def calls_of(seconds: float, table: float) -> int:
    """Returns the number of calls of a burst, by the seconds of one and those for the table."""
    return max(1, min(MOST, round(BURST * table / max(seconds, 1e-9))))


def burst(call: Call, wait: Wait, calls: int) -> Callable[[], None]:
    """Returns a call that hands over so many, and waits until the device has made them."""

    def made() -> None:
        result = None
        for _ in range(calls):
            result = call()
        wait(result)

    return made


def race(
    report: child.Report,
    wait: Wait,
    clock: Clock,
    table: str,
    makers: Mapping[str, Maker],
    to: Collection[str],
    more: More = lambda rows: {},
) -> None:
    """Times contestants in turn, those that can be made in time, and gives their rows away.

    Args:
        report: where to; it says how long to measure, too.
        wait: waits until a call's result is there.
        clock: when it runs out, no more contestants are made.
        table: what the rows have in common.
        makers: make calls, which return before the device is ready.
        to: those that ratios are to.
        more: makes of all rows what else is to be said in some.
    """
    bursts: dict[str, Callable[[], None]] = {}
    calls: dict[str, int] = {}
    first: dict[str, float] = {}
    for name, make in makers.items():
        if not clock.left():
            report.row(table, name, error=NO_TIME)
            continue
        try:
            began = time.perf_counter()
            call = make()
            burst(call, wait, 1)()
            first[name] = round(time.perf_counter() - began, 1)
            again = min(_seconds(burst(call, wait, 1)) for _ in range(2))
            calls[name] = calls_of(again, report.seconds)
            bursts[name] = burst(call, wait, calls[name])
        except Exception as error:  # of whatever library: the others go on
            report.failed(table, name, error)
    if not bursts:
        return
    times = timing.interleaved(bursts, min(report.seconds, clock.left()), report.rounds)
    times = {name: [t / calls[name] for t in ts] for name, ts in times.items()}
    rows = timing.compared(times, list(to))
    extra = more(rows)
    for name, row in rows.items():
        del row["whole ms"]
        report.row(table, name, **row, **extra.get(name, {}), **{"first s": first[name]})


def _seconds(call: Callable[[], None]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
