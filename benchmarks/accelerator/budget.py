"""How a time that is short is divided: what one does not need is left to those behind it."""

import time
from collections.abc import Callable, Sequence


class Clock:
    """Runs until a moment, the same for all processes of a machine."""

    def __init__(self, until: float, now: Callable[[], float] = time.time) -> None:
        """Takes the moment, in seconds since the epoch."""
        self.until, self._now = until, now

    @classmethod
    def of(cls, seconds: float, now: Callable[[], float] = time.time) -> "Clock":
        """Returns a clock that begins to run."""
        return cls(now() + seconds, now)

    def left(self) -> float:
        """Returns the seconds that are left, 0 at least."""
        return max(0.0, self.until - self._now())

    def first(self, weights: Sequence[float]) -> "Clock":
        """Returns the clock of the first of several that share what is left, by their weights."""
        return Clock.of(self.left() * weights[0] / sum(weights), self._now)

    def earlier(self, seconds: float) -> "Clock":
        """Returns a clock that stops before this one."""
        return Clock(self.until - seconds, self._now)
