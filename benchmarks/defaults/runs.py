"""The runs that are to be made, and the processes that make them."""

import itertools
import multiprocessing
import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from benchmarks.defaults.contestants import CONTESTANTS
from benchmarks.defaults.tasks import TASKS
from benchmarks.support.cells import Cells

ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
RUNS_OF_A_PROCESS = 100  # Then it gives its memory back.


class Run(NamedTuple):
    """A training run; only names, so that another process can make it.

    Attributes:
        epochs: instead of the task's, or None.
    """

    task: str
    contestant: str
    seed: int
    epochs: int | None = None

    @property
    def key(self) -> str:
        """The name of its result, in the group of its task."""
        return key(self.contestant, self.seed)


def key(contestant: str, seed: int) -> str:
    """Returns the name of a result."""
    return f"{contestant}, seed {seed}"


def planned(
    tasks: Iterable[str], contestants: Iterable[str], seeds: int, epochs: int | None = None
) -> list[Run]:
    """Returns all runs, a seed after the other, so that a part of them says something."""
    names = itertools.product(range(1, seeds + 1), list(contestants), list(tasks))
    return [Run(task, contestant, seed, epochs) for seed, contestant, task in names]


def missing(cells: Cells, runs: Iterable[Run]) -> list[Run]:
    """Returns the runs that were not made yet."""
    return [run for run in runs if cells.of(run.task, run.key) is None]


def make(run: Run) -> dict[str, Any]:
    """Makes a run, and returns what it found."""
    from benchmarks.defaults.training import train

    task = TASKS[run.task]
    if run.epochs is not None:
        task = task._replace(epochs=run.epochs)
    return train(task, task.make(), CONTESTANTS[run.contestant], run.seed)


def attempted(run: Run) -> tuple[Run, dict[str, Any] | Exception]:
    """Makes a run, and returns what it found or what went wrong."""
    try:
        return run, make(run)
    except Exception as error:  # Of whatever kind: the others are made all the same.
        return run, RuntimeError(f"{type(error).__name__}: {error}")


def made(runs: list[Run], jobs: int) -> Iterator[tuple[Run, dict[str, Any] | Exception]]:
    """Yields each run when it is done, and what it found or what went wrong.

    Args:
        runs: to be made.
        jobs: how many processes of one thread share them.
    """
    os.environ.update(ONE_THREAD)  # of the processes, which import TensorFlow anew
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, maxtasksperchild=RUNS_OF_A_PROCESS) as pool:
        yield from pool.imap_unordered(attempted, runs)
