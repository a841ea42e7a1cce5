"""The best of the rules on the small tasks of `benchmarks.defaults`."""

import statistics
from collections.abc import Iterator
from functools import partial
from typing import Any

from benchmarks.controller.variants import AGREES, MATRICES
from benchmarks.defaults.contestants import Contestant
from benchmarks.defaults.tasks import TASKS
from benchmarks.race.report import markdown
from benchmarks.support.cells import Cells
from nagd_keras import callbacks

RATE, UNTIL = 0.01, 0.3
WITHOUT, WITH = 1.0, 3.0  # the largest factors: one that stays where it is, and one that rises


def key(most: float) -> str:
    """Returns the name of a result."""
    return f"factor at most {most:g}"


def group(task: str) -> str:
    """Returns the group of a task's results, beside those of the race's workloads."""
    return f"small, {task}"


def contestant(most: float) -> Contestant:
    """Returns NAGD, whose factor for matrices rises while the rule acts, beside a cosine."""
    return Contestant(partial(_make, most), point=callbacks.at_iterate)


def _make(most: float, updates: int) -> Any:
    from benchmarks.controller.optimizer import Controller, FromRun

    limits = {"least": 1.0, "most": most, "held": False}
    return FromRun(Controller(AGREES, RATE, updates, UNTIL, MATRICES, **limits))


def missing(cells: Cells) -> Iterator[tuple[str, float]]:
    """Yields the tasks and largest factors that were not run."""
    for task in TASKS:
        for most in (WITHOUT, WITH):
            if cells.of(group(task), key(most)) is None:
                yield task, most


def run(cells: Cells) -> None:
    """Makes the runs that are missing."""
    from benchmarks.defaults.training import train

    for task, most in missing(cells):
        found = train(TASKS[task], TASKS[task].make(), contestant(most), 1)
        cells.add(group(task), key(most), found)
        print(f"{task}: {key(most)}: {found['end']:.4g}", flush=True)


def table(cells: Cells) -> str:
    """Returns the validation losses as Markdown, with the mean ratio."""
    rows, ratios = [], []
    for task in TASKS:
        ends = [(cells.of(group(task), key(most)) or {})["end"] for most in (WITHOUT, WITH)]
        ratios.append(ends[1] / ends[0])
        rows.append([f"`{task}`", *(f"{end:.4g}" for end in ends), f"{ratios[-1]:.2f}"])
    mean = statistics.geometric_mean(ratios)
    rows.append(["geometric mean", "", "", f"{mean:.2f}"])
    return markdown(["task", "without the rule", "with it", "ratio"], rows)
