"""Which loss is out of line with those before it: robust statistics, in plain numbers."""

import heapq
import math
import statistics
from collections import deque
from collections.abc import Collection
from typing import NamedTuple

KNOWN = 10  # losses that a median and a spread need
_SOME = 3  # losses of which they say something
_LEAST, _MOST = 10.0, 100.0  # factors over the median, or the largest, where fewer are known
_HALF = 0.5  # of the way to the limit
_SLACK = 10.0  # how far the limit may rise again
_NORMAL = 1.4826  # the standard deviation of a normal distribution, in units of its MAD
_LARGEST = 700.0  # an exponent that exp can take


class Summary(NamedTuple):
    """What some losses say of the next one.

    Attributes:
        largest: the largest of them.
        is_positive: whether all are above 0; then the other two are of their logarithms.
        median: their median.
        deviation: the median absolute deviation as a standard deviation.
    """

    largest: float
    is_positive: bool
    median: float
    deviation: float


def summary(losses: Collection[float]) -> Summary:
    """Returns what losses say, finite and at least one."""
    is_positive = min(losses) > 0
    values = [math.log(loss) for loss in losses] if is_positive else losses
    return Summary(max(losses), is_positive, *median_and_deviation(values))


def limit(known: Summary, threshold: float, spread: float, share: float = 1.0) -> float:
    r"""Returns the largest loss that is in line with those before it.

    With the median $m$ and $D = 1.4826 \cdot \text{median} |x_i - m|$, the median absolute
    deviation, which is the standard deviation of normal $x_i$: if all losses are positive,
    $x_i = \log l_i$, since losses of batches are rather log-normal than normal, and the limit is

    $$\exp(m + \text{share} \cdot \max(\log \text{threshold},\ \text{spread} \cdot D)).$$

    Otherwise $x_i = l_i$, and it is the larger one of

    $$\max_i l_i, \qquad
      m + \text{share} \cdot \max((\text{threshold} - 1) |m|,\ \text{spread} \cdot D),$$

    or threshold times the largest, where more than half of the losses are zero and tell nothing of
    the others. Neither median nor MAD moves far as long as less than half of the losses are bad.

    Args:
        known: what the losses before say.
        threshold: the factor over the median that is always in line, in $(1, \infty)$.
        spread: the robust standard deviations over the median that are, in $(0, \infty)$.
        share: the part of the way from the median to the limit, in (0, 1].

    References:
        - Rousseeuw & Croux (1993), Alternatives to the median absolute deviation.
        - Leys, Ley, Klein, Bernard & Licata (2013), Detecting outliers: do not use standard
          deviation around the mean, use absolute deviation around the median.
    """
    largest, is_positive, median, deviation = known
    if is_positive:
        log_limit = median + share * max(math.log(threshold), spread * deviation)
        return math.exp(min(log_limit, _LARGEST))
    above = max((threshold - 1) * abs(median), spread * deviation)
    if above == 0:
        return threshold * largest if largest > 0 else math.inf
    return max(largest, median + share * above)


def median_and_deviation(values: Collection[float]) -> tuple[float, float]:
    """Returns the median, and the median absolute deviation as a standard deviation."""
    median = statistics.median(values)
    return median, _NORMAL * statistics.median(abs(value - median) for value in values)


class Spikes:
    """The last losses that were in line, and what they say of the next one.

    Of fewer than 10 losses they say little: the limit is then that for twice the spread, but 10 to
    100 times the median; and of fewer than 3, 100 times the largest.

    Where losses grow step by step, so do their median and spread, and none would ever be out of
    line. So the limit is at most ten times the lowest that it has been, once three positive losses
    were known.

    Where spikes come again and again, they are in the data, and no lower learning rate ends that.
    So one that is no larger than two before is known.
    """

    def __init__(self, threshold: float | None, spread: float, window: int) -> None:
        """Takes the settings of `limit`, or no threshold, so that any loss is in line."""
        self._threshold, self._spread = threshold, spread
        self._losses: deque[float] = deque(maxlen=window)
        self._summary: Summary | None = None  # of the losses, once it was asked for
        self._lowest = math.inf
        self._spikes: list[float] = []  # the two largest

    @property
    def losses(self) -> tuple[float, ...]:
        """The losses; settable, to go back to earlier ones."""
        return tuple(self._losses)

    @losses.setter
    def losses(self, losses: Collection[float]) -> None:
        self._losses = deque(losses, maxlen=self._losses.maxlen)
        self._summary = None

    def _known(self) -> Summary:
        self._summary = self._summary or summary(self._losses)
        return self._summary

    def limit(self) -> float:
        """Returns the largest loss that is no spike."""
        losses, threshold, spread = self._losses, self._threshold, self._spread
        if threshold is None or not losses:
            return math.inf
        if len(losses) < _SOME:
            return _MOST * max(losses) if max(losses) > 0 else math.inf
        if len(losses) < KNOWN:
            now = limit(self._known(), max(threshold, _LEAST), 2 * spread)
            if min(losses) > 0:
                now = min(now, max(threshold, _MOST) * statistics.median(losses))
        else:
            now = limit(self._known(), threshold, spread)
        return min(now, _SLACK * self._lowest)

    def ordinary(self) -> float:
        """Returns the largest loss that is like the others, half-way to what would be a spike."""
        if self._threshold is None or not self._losses:
            return math.inf
        if len(self._losses) < _SOME:
            return _LEAST * max(self._losses) if max(self._losses) > 0 else math.inf
        half = limit(self._known(), self._threshold, self._spread, _HALF)
        return min(half, self._lowest)

    def knows(self, loss: float) -> bool:
        """Whether a spike is no larger than two before."""
        return len(self._spikes) == 2 and loss <= min(self._spikes)

    def note(self, loss: float) -> None:
        """Takes note of a spike, which does not become one of the losses."""
        if math.isfinite(loss):
            self._spikes = heapq.nlargest(2, [*self._spikes, loss])

    def forget(self) -> None:
        """Forgets the spikes."""
        self._spikes = []

    def add(self, loss: float) -> None:
        """Takes a loss for one that is in line."""
        self._losses.append(loss)
        self._summary = None
        if len(self._losses) >= _SOME and min(self._losses) > 0:
            self._lowest = min(self._lowest, self.limit())
