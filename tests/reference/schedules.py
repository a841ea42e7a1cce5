"""Slow and obvious schedules: Python floats, one step at a time, as their sources state them."""

import math
from collections.abc import Callable, Iterator, Sequence

Oracle = Callable[[int], float]


def nesterov_momentum() -> Iterator[float]:
    """mu_0, mu_1, ...: a_0 = 1, a_{t+1} = (1 + sqrt(4 a_t^2 + 1)) / 2, mu_t = (a_t - 1) / a_{t+1}.

    (Sutskever et al. 2013, appendix A.1.)
    """
    a = 1.0
    while True:
        a, before = (1 + math.sqrt(4 * a * a + 1)) / 2, a
        yield (before - 1) / a


def sutskever_momentum(max_momentum: float, period: int) -> Oracle:
    """Sutskever et al. (2013), equation 5."""
    return lambda t: min(1 - 2 ** (-1 - math.log2(t // period + 1)), max_momentum)


def strongly_convex_momentum(condition_number: float) -> Oracle:
    """Nesterov (2004), section 2.2.1, constant step scheme III."""
    root = math.sqrt(condition_number)
    return lambda t: (root - 1) / (root + 1)


def constant(value: float) -> Oracle:
    return lambda t: value


def inverse_time_decay(rate: float, decay_steps: int, decay_rate: float) -> Oracle:
    """As Keras documents it, without its staircase."""
    return lambda t: rate / (1 + decay_rate * t / decay_steps)


def linear_warmup(then: Oracle, steps: int, start: float) -> Oracle:
    def value(t: int) -> float:
        if t >= steps:
            return then(t - steps)
        return (start * (steps - t) + then(0) * t) / steps

    return value


def piecewise(boundaries: Sequence[int], schedules: Sequence[Oracle]) -> Oracle:
    def value(t: int) -> float:
        start, schedule = 0, schedules[0]
        for boundary, following in zip(boundaries, schedules[1:], strict=True):
            if t >= boundary:
                start, schedule = boundary, following
        return schedule(t - start)

    return value


def one_cycle(
    initial: float,
    peak: float,
    final: float,
    total_steps: int,
    peak_fraction: float,
    anneal: str,
    three_phase: bool,
) -> Oracle:
    """`torch.optim.lr_scheduler.OneCycleLR`, with the last value kept after its end."""
    up = float(peak_fraction * total_steps)
    phases = [(up - 1, initial, peak), (total_steps - 1, peak, final)]
    if three_phase:
        phases[1:] = [(2 * up - 2, peak, initial), (total_steps - 1, initial, final)]

    def between(start: float, end: float, pct: float) -> float:
        if anneal == "linear":
            return (end - start) * pct + start
        return end + (start - end) / 2.0 * (math.cos(math.pi * pct) + 1)

    def value(t: int) -> float:
        t, start_step = min(t, total_steps - 1), 0.0
        for end_step, start, end in phases[:-1]:
            if t <= end_step:
                return between(start, end, (t - start_step) / (end_step - start_step))
            start_step = end_step
        end_step, start, end = phases[-1]
        return between(start, end, (t - start_step) / (end_step - start_step))

    return value
