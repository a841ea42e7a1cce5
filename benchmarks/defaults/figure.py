"""The heat map of who ends how near to the best, where."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.defaults.judging import Row

CLIP = 10.0  # What is this many times worse, or worse still, has the last colour.
LIGHT = 4.0  # From here on the colour is so dark that numbers are written in white.


def ratio(value: float) -> str:
    """Returns a ratio in a few letters."""
    if math.isnan(value):
        return ""
    if math.isinf(value):
        return "∞"
    return f"{value:.0f}" if value >= 99.5 else f"{value:.1f}" if value >= 9.95 else f"{value:.2f}"


def draw(found: Sequence[Row], tasks: Sequence[str], path: Path) -> None:
    """Draws contestants below each other, and tasks beside each other, their mean last."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    columns = [*tasks, "geometric mean"]
    values = np.array(
        [[*(row.ratios.get(task, math.nan) for task in tasks), row.mean] for row in found]
    )
    # So large that numbers of 8 points can be read where a page shows it 950 pixels wide.
    drawing = Figure((2.8 + 0.48 * len(columns), 1.4 + 0.26 * len(found)), layout="constrained")
    FigureCanvasAgg(drawing)
    axes = drawing.add_subplot()
    axes.imshow(np.minimum(values, CLIP), norm=LogNorm(1, CLIP), cmap="YlOrRd", aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=40, ha="left", rotation_mode="anchor")
    axes.set_yticks(range(len(found)), [row.contestant for row in found])
    axes.tick_params(top=True, bottom=False, labeltop=True, labelbottom=False, length=0)
    axes.axvline(len(tasks) - 0.5, color="white", linewidth=3)
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if value > LIGHT else "black"
        axes.text(column, row, ratio(value), ha="center", va="center", fontsize=8, color=colour)
    drawing.suptitle("Validation loss at the end, as a multiple of the best on the task")
    drawing.savefig(path, dpi=150)
