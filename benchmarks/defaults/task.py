"""What a task is."""

import math
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.race.workload import Problem


class Task(NamedTuple):
    """What is trained, as people would have it; the validation loss at the end is judged.

    Attributes:
        title: in words.
        make: reads or generates the data, which no seed changes.
        batch: examples in a batch.
        epochs: of a run.
    """

    title: str
    make: Callable[[], Problem]
    batch: int
    epochs: int

    def updates(self, problem: Problem) -> int:
        """Returns how many updates a run makes."""
        return self.epochs * math.ceil(len(problem.train[0]) / self.batch)
