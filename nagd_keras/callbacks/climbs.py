"""Whether losses have climbed, or never fell: robust statistics, in plain numbers."""

import itertools
import math
import statistics
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from nagd_keras.callbacks.spikes import median_and_deviation

LEVEL = 25  # losses, whose median is a level
LAST = 5  # losses, whose median says where they are now
START = 100  # losses, after which weights that have moved far say nothing of the learning rate
TRIES = 5  # in a row, after which it is not the learning rate
_FIRST = 3  # losses that show whether going back has helped
_LEVELS = 1.5  # The largest of n normal numbers is sqrt(2 log n) deviations; by trial.
_GAIN = 0.16  # of a logarithm, 15 percent: less may be gained by a network that tells nothing
_HALF = math.log(2.0)  # of the beginning: less says little where few losses are known
_SMALL = 1000.0  # times below the beginning, where losses may vary as they like
_FAR = math.log(3.0)  # above the beginning


class Climb(NamedTuple):
    """What was seen.

    Attributes:
        seen: in words, to stand behind the name of the loss.
        level: where the losses are.
        limit: what they should be below.
        power: that of its factor by which the learning rate is to be lowered.
    """

    seen: str
    level: float
    limit: float
    power: int


class Climbs:
    r"""The levels of the losses, and what they say of the learning rate.

    With the losses $l_1, \dots, l_t$ and $x_i = \log l_i$, let the level $L$ be the median of the
    last 25, $L'$ that of the 25 before, and $L_5$ that of the last 5. The noise $\sigma$ of a loss
    is $1.4826 / \sqrt 2$ times the median absolute deviation of the last 50 differences
    $x_i - x_{i - 1}$, which a trend does not enlarge. Training has gained if
    $\max(L, L') < x_1 - 0.16$, which is 15 %; the best level $b$ is the lowest value of
    $\max(L, L')$ so far, where $L_5 \le L$.

    Once it has gained, the loss has climbed if it has lost much of that, and not by chance:

    $$L > b + \max\bigl(\text{share} \cdot (x_1 - b),\ \sigma \sqrt{1.5 \log(1 + t / 25)}\bigr),
      \qquad L > x_1 - \log 1000.$$

    The square root is for chance, and left out where there is a spike besides. Losses of less than
    a thousandth of the first may vary as they like.
    Before, in the first 100 batches, let $d$ be the distance that weights have moved from their
    beginning, in units of their length there. What is learned at a good learning rate is a small
    change of the weights, and on a plateau they hardly move. So it has diverged if

    $$d > \max(1, 50 / t), \qquad L > x_1 - 0.16 + \sigma, \qquad L_5 > x_1 - 0.16.$$

    From the 6th to the 25th loss, when no level is known or only one, it has if

    $$d > 50 / t,\quad L_5 > x_1 - \log 2 \qquad \text{or} \qquad
      d > 1, \quad L_5 > x_1 + \max(\log 3,\ 3 \sigma).$$

    As soon as a loss is zero or negative, the first of these takes $x_i = l_i$, and a gain is one
    that is not by chance. The others take a loss of zero for a thousandth of the first, and end
    with the first negative loss.
    """

    def __init__(self, share: float | None) -> None:
        """Takes the share of what was gained that may be lost, or None to see nothing."""
        self._share = share
        self._losses: deque[float] = deque(maxlen=2 * LEVEL)
        self._starts: list[float] = []  # the first losses, each of the weights of the beginning
        self._best = math.inf  # level, once there is a gain
        self._last: Climb | None = None  # until it is known whether it helped to go back
        self._age = 0  # losses since the beginning
        self._tries = 0
        self._is_positive = self._has_logarithms = True

    @property
    def start(self) -> float:
        """The loss of the beginning, NaN before it is known."""
        return statistics.median(self._starts) if self._starts else math.nan

    @property
    def is_young(self) -> bool:
        """Whether the beginning was not long ago, so that little is lost by beginning again."""
        return self._share is not None and self._age <= START

    @property
    def has_halved(self) -> bool:
        """Whether the last losses are below half of that of the beginning."""
        return bool(self._losses) and self._now(LAST) < self.start - abs(self.start) / 2

    def add(self, loss: float) -> bool:
        """Takes a loss; returns whether the weights that it is of are the best to go back to."""
        if self._share is None:
            return False
        if not self._age:
            self._starts.append(loss)
        self._age += 1
        self._is_positive &= loss > 0
        self._has_logarithms &= loss >= 0 and self.start / _SMALL > 0
        self._losses.append(loss)
        if len(self._losses) < min(self._age, 2 * LEVEL) or self._age < LEVEL:
            return False
        level = self._level()
        before = statistics.median(itertools.islice(self._losses, LEVEL))
        two = max(level, before)
        least = _GAIN if self._is_positive else self._chance()
        has_gained = self._x(two) < self._x(self.start) - least
        if not (has_gained and two < self._best and self._now(LAST) <= level):
            return False
        self._best, self._tries = two, 0
        return True

    def seen(self, moved: Callable[[], float]) -> Climb | None:
        """Returns what is wrong, if something is.

        Args:
            moved: returns how far weights have moved from those of the beginning, in units of
                their length there.
        """
        if self._share is None:
            return None
        if self._best < math.inf:
            return self.climbed()
        if self._has_logarithms and self.is_young:
            return self._far_above(moved) or self._stuck(moved)
        return None

    def climbed(self, spiked: bool = False) -> Climb | None:
        """Returns what is wrong if losses have climbed since their best level.

        Args:
            spiked: whether there is a spike, too, so that it is not by chance.
        """
        if self._share is None or self._best == math.inf or len(self._losses) < LEVEL:
            return None
        level, best = self._level(), self._x(self._best)
        gain = self._x(self.start) - best
        above = self._share * gain
        if self._is_positive:
            above = max(above, gain - math.log(_SMALL))
        # What is quick comes first, since this is asked at every batch.
        if self._x(level) > best + above and not spiked:
            above = max(above, self._chance())
        if self._x(level) <= best + above:
            return None
        limit = math.exp(best + above) if self._is_positive else best + above
        words = f"has climbed from {self._best:.4g} to {level:.4g}"
        return Climb(words, level, limit, 2 + self._tries)

    def go_back(self, seen: Climb) -> None:
        """Begins again behind the best weights, because of what was seen."""
        self._last = seen
        self._losses.clear()
        self._tries += 1
        if self._tries == TRIES:
            self._share = None

    def begin_anew(self) -> None:
        """Begins again at the beginning."""
        self._last, self._best, self._age = None, math.inf, 0
        self._losses.clear()

    def in_vain(self) -> Climb | None:
        """Returns what was seen, if the best weights, which it went back to, do no better.

        Then it was not the weights that were to blame but the data, which are others than before,
        and from now on it sees nothing.
        """
        if self._last is None or len(self._losses) < _FIRST:
            return None
        seen, self._last = self._last, None
        if self._now(_FIRST) <= seen.limit:
            return None
        self._share = None
        return seen

    def _stuck(self, moved: Callable[[], float]) -> Climb | None:
        if self._age <= LAST:
            return None
        is_early = self._age < LEVEL
        limit = math.log(self.start) - (_HALF if is_early else _GAIN)
        level = self._now(LAST if is_early else LEVEL)
        if self._log(self._now(LAST)) <= limit:
            return None
        if not is_early and self._log(level) <= limit + self._noise(self._log):
            return None
        if not moved() > max(1.0, START / 2 / self._age):
            return None
        words = (
            f"is {level:.4g}, and was {self.start:.4g} at the beginning, though the weights have "
            "moved far"
        )
        return Climb(words, level, math.exp(limit), 2 + self._tries)

    def _far_above(self, moved: Callable[[], float]) -> Climb | None:
        if not LAST < self._age <= LEVEL:
            return None
        limit = math.log(self.start) + max(_FAR, 3 * self._noise(self._log))
        level = self._now(LAST)
        if self._log(level) <= limit or not moved() > 1:
            return None
        words = f"is {level:.4g}, far above the {self.start:.4g} of the beginning"
        return Climb(words, level, math.exp(limit), 1 + self._tries)

    def _level(self) -> float:
        return self._now(LEVEL)

    def _now(self, count: int) -> float:
        """Returns the median of the last losses."""
        return statistics.median(itertools.islice(reversed(self._losses), count))

    def _chance(self) -> float:
        """Returns how far a level may be above the best one by chance."""
        return self._noise(self._x) * math.sqrt(_LEVELS * math.log1p(self._age / LEVEL))

    def _noise(self, x: Callable[[float], float]) -> float:
        """Returns the deviation of a loss, seen by a function, that is not due to a trend."""
        differences = [b - a for a, b in itertools.pairwise(map(x, self._losses))]
        return median_and_deviation(differences)[1] / math.sqrt(2)

    def _log(self, loss: float) -> float:
        return math.log(max(loss, self.start / _SMALL))

    def _x(self, loss: float) -> float:
        return math.log(loss) if self._is_positive else loss
