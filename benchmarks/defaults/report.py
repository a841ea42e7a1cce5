"""What the runs say, as Markdown and as heat maps."""

import math
from collections.abc import Sequence
from pathlib import Path

from benchmarks.defaults import figure
from benchmarks.defaults.contestants import CONTESTANTS
from benchmarks.defaults.judging import Row, ends, rows
from benchmarks.defaults.tasks import TASKS
from benchmarks.support.cells import Cells, replace

TITLE = "Optimizers as they come"
ABOUT = (
    "Validation losses at the end: medians over seeds, of that of the best contestant of the "
    "task. Mean: the geometric one, of those that ran on all tasks. Not trained: the share of runs "
    "that made less than a tenth of the best one's progress, or diverged (∞)."
)


def table(found: Sequence[Row], tasks: Sequence[str]) -> list[str]:
    """Returns the lines of a table."""
    lines = [
        f"| | {' | '.join(tasks)} | mean | worst | not trained | seeds |",
        f"|---|{'---|' * (len(tasks) + 4)}",
    ]
    for row in found:
        numbers = [figure.ratio(row.ratios.get(task, math.nan)) for task in tasks]
        numbers += [figure.ratio(row.mean), figure.ratio(row.worst), f"{row.untrained:.0%}"]
        lines.append(f"| {row.contestant} | {' | '.join(numbers)} | {row.seeds} |")
    return lines


def write(cells: Cells, path: Path) -> None:
    """Writes page and figures beside the results, and prints the page."""
    tasks = [task for task in TASKS if any(ends(cells, task, name) for name in CONTESTANTS)]
    found = rows(cells, tasks, CONTESTANTS)
    lines = [f"# {TITLE}", ""]
    if found:
        picture = path.with_suffix(".png")
        figure.draw(found, tasks, picture)
        lines += [ABOUT, "", f"![{TITLE}]({picture.name})", "", *table(found, tasks), ""]
    print("\n".join(lines))
    replace(path.with_suffix(".md"), "\n".join(lines))
