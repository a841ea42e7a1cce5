"""What is run besides the trials: with one learning rate for all, as it comes, and for longer."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import geometric_mean, median
from typing import NamedTuple

from benchmarks.race.contestants import ALL, BUILT_IN, OURS, Contestant, Draw, Warmed
from benchmarks.race.judging import Score, best, scores
from benchmarks.race.plan import Run, absent, last
from benchmarks.race.untuned import AS_IT_COMES, ONE_RATE
from benchmarks.race.workload import Workload
from benchmarks.support.cells import Cells

SEEDS = 1, 2, 3  # The first of them chooses the learning rate.
MIDDLE = 0.0032
LONGER, LEADING = 5, 3  # times the updates, for so many of NAGD's and so many others
LONG = "text", "curves", "digits", "shapes", "table"
FACTORS = {"SGD": 10.0, "Lion": 0.1}  # without momentum, and with steps of full size
WIDEST = 4  # half decades on either side


class Todo(NamedTuple):
    """A training run, and on what."""

    name: str
    workload: Workload
    contestant: Contestant
    run: Run


class Rulings(NamedTuple):
    """These runs, and what they are judged by.

    Attributes:
        cells: where results are.
        workloads: on which all are run.
        scores: of the tuned, by workload.
    """

    cells: Cells
    workloads: Mapping[str, Workload]
    scores: Mapping[str, Mapping[str, Score]]

    def ratios(self, runs: Sequence[Run]) -> list[float]:
        """Returns the ratios of the median end of some runs to the best tuned, by workload."""
        return [
            median(last(self.cells.of(name, run.key), workload.judged) for run in runs)
            / best(self.scores[name])
            for name, workload in self.workloads.items()
        ]

    def lacks(self, name: str, run: Run) -> bool:
        """Returns whether a run was not made."""
        return absent(self.cells, name, self.workloads[name], run)

    def leading(self) -> list[str]:
        """Returns those of NAGD's and of Keras' whose tuned ends are the best on average."""
        everywhere = set.intersection(*(set(found) for found in self.scores.values()))
        means = {
            who: geometric_mean(found[who].end / best(found) for found in self.scores.values())
            for who in everywhere
        }
        order = sorted(means, key=lambda who: means[who])
        return [
            who
            for kind in (OURS, BUILT_IN)
            for who in list(filter(kind.__contains__, order))[:LEADING]
        ]

    def longer(self) -> Iterator[Todo]:
        """Yields the runs with more updates: of the leading, with the setting that was the best."""
        for who in self.leading():
            for name in filter(self.workloads.__contains__, LONG):
                workload = self.workloads[name]
                settings = (self.cells.of(name, f"{who}, seed {SEEDS[0]}") or {})["settings"]
                run = Run(f"{who}, {LONGER} times the updates", who, Draw(**settings), SEEDS[0])
                yield Todo(
                    name, workload._replace(updates=LONGER * workload.updates), ALL[who], run
                )

    def rates(self, who: str) -> tuple[list[float], float | None]:
        """Returns the learning rates to be tried, and the best when all are.

        Five are, and one more beside the best as long as it is the first or the last.
        """
        low, high = -2, 2
        while True:
            tried = half_decades(who, low, high)
            runs = [at_rate(who, rate, SEEDS[0]) for rate in tried]
            if any(self.lacks(name, run) for name in self.workloads for run in runs):
                return tried, None
            means = [geometric_mean(self.ratios([run])) for run in runs]
            at = means.index(min(means))
            if at == 0 and low > -WIDEST:
                low -= 1
            elif at == len(tried) - 1 and high < WIDEST:
                high += 1
            else:
                return tried, tried[at]

    def missing(self) -> Iterator[Todo]:
        """Yields the runs that can be made now; their results may ask for others."""
        for who, contestant in ONE_RATE.items():
            tried, chosen = self.rates(who)
            runs = [at_rate(who, rate, SEEDS[0]) for rate in tried]
            if chosen is not None:
                runs = [at_rate(who, chosen, seed) for seed in SEEDS]
            yield from self._missing(contestant, runs)
        for who, contestant in AS_IT_COMES.items():
            yield from self._missing(contestant, [alone(who)])
        for each in self.longer():
            if absent(self.cells, each.name, each.workload, each.run):
                yield each

    def _missing(self, contestant: Contestant, runs: Sequence[Run]) -> Iterator[Todo]:
        for run in runs:
            for name, workload in self.workloads.items():
                if self.lacks(name, run):
                    yield Todo(name, workload, contestant, run)


def judged(cells: Cells, workloads: Mapping[str, Workload]) -> Rulings:
    """Returns them for some workloads, whose trials must have been run."""
    return Rulings(cells, workloads, {name: scores(cells, name, SEEDS)[1] for name in workloads})


def half_decades(who: str, low: int, high: int) -> list[float]:
    """Returns learning rates, so many half decades from the middle of a contestant's."""
    middle = MIDDLE * FACTORS.get(who, 1.0)
    return [float(f"{middle * 10 ** (i / 2):.2g}") for i in range(low, high + 1)]


def at_rate(who: str, rate: float, seed: int) -> Run:
    """Returns the run with a learning rate that rises to a peak and falls again."""
    return Run(f"one rate, {who}, {rate:g}, seed {seed}", who, Warmed(rate, 0.0, True), seed)


def alone(who: str) -> Run:
    """Returns the run with nothing given."""
    return Run(f"as it comes, {who}, seed {SEEDS[0]}", who, Draw(0.0, 0.0, False), SEEDS[0])
