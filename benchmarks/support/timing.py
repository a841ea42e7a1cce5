"""Times of functions that are called in turn, so that a slow moment of the machine meets all."""

import gc
import random
import statistics
import time
from collections.abc import Callable, Collection, Sequence

LEAST_ROUNDS = 11
FEWEST_ROUNDS = 3  # where even 11 take far longer than they should
PATIENCE = 4.0
SAMPLE = 0.002  # seconds; functions that are shorter are called several times for a sample
MOST_CALLS = 200

Times = dict[str, list[float]]


def interleaved(
    contestants: dict[str, Callable[[], object]], seconds: float, rounds: int | None = None
) -> Times:
    """Returns the seconds of a call of each, round by round.

    Args:
        contestants: functions that return when their work is done.
        seconds: how long to go on, though for 11 rounds at least, unless these take far longer.
        rounds: how many rounds instead.
    """
    for call in contestants.values():  # The first traces, the second touches the memory.
        call()
        call()
    calls = min(MOST_CALLS, 1 + int(SAMPLE / min(_seconds(c) for c in contestants.values())))
    times: Times = {name: [] for name in contestants}
    order = list(contestants)
    shuffle = random.Random(0).shuffle
    gc.collect()
    gc.disable()
    try:
        began = time.perf_counter()
        done = 0
        while done < rounds if rounds else _goes_on(done, time.perf_counter() - began, seconds):
            shuffle(order)  # so that none has always the same one before it, with its caches
            for name in order:
                times[name].append(_seconds(contestants[name], calls))
            done += 1
    finally:
        gc.enable()
    return times


def _goes_on(done: int, passed: float, seconds: float) -> bool:
    if done < LEAST_ROUNDS:
        # On a machine that is too busy to measure on, nobody is to wait for what is noise.
        return done < FEWEST_ROUNDS or passed < PATIENCE * seconds
    return passed < seconds


def _seconds(call: Callable[[], object], calls: int = 1) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - began) / calls


def compared(
    times: Times, to: Sequence[str], base: str | None = None, alone: Collection[str] = ()
) -> dict[str, dict[str, object]]:
    """Returns the median milliseconds of each, and its ratios to others, by name.

    Args:
        times: what `interleaved` returned.
        to: those that the ratios are to, if they are there.
        base: what all others do, too, and what is subtracted from them: what they add is left.
        alone: those that do not do what `base` does.
    """
    zeros = [0.0] * len(next(iter(times.values())))
    net = {
        name: _minus(ts, times[base] if base and name not in alone else zeros)
        for name, ts in times.items()
        if name != base
    }
    # The difference of medians: rounds in which only one of the two was slow do not count.
    median = {
        name: statistics.median(times[name])
        - (statistics.median(times[base]) if base and name not in alone else 0.0)
        for name in net
    }
    rows: dict[str, dict[str, object]] = {}
    if base:
        rows[base] = {"whole ms": _ms(statistics.median(times[base])), "rounds": len(zeros)}
    for name in net:
        row: dict[str, object] = {"ms": _ms(median[name])}
        for other in to:
            if other in net and median[other] > 0:
                row[f"ratio to {other}"] = round(median[name] / median[other], 3)
                row[f"quartiles to {other}"] = _quartiles(net[name], net[other])
        rows[name] = {**row, "whole ms": _ms(statistics.median(times[name])), "rounds": len(zeros)}
    return rows


def _minus(a: Sequence[float], b: Sequence[float]) -> list[float]:
    return [x - y for x, y in zip(a, b, strict=True)]


def _ms(seconds: float) -> float:
    return round(1e3 * seconds, 4)


def _quartiles(a: Sequence[float], b: Sequence[float]) -> list[float]:
    """Returns the quartiles of the ratio of two within a round."""
    ratios = [x / y for x, y in zip(a, b, strict=True) if y > 0]
    if len(ratios) < 2:
        return []
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return [round(low, 3), round(high, 3)]
