"""The race's figures: heat maps, and the curves over learning rates."""

import itertools
import math
from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot

from benchmarks.race.workloads import WORKLOADS

# Okabe & Ito's colours, which the colour-blind tell apart.
COLOURS = "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#000000"
MARKERS = "s^Dv<>PX*ph8dHs^Dv"
Ratios = Mapping[str, Mapping[str, float]]  # of each contestant, by workload or learning rate


def heat(ratios: Ratios, title: str, path: Path) -> Path:
    """Draws the ratios to the best as a table with colours; what is absent stays white."""
    rows = list(ratios)
    columns = list(dict.fromkeys(column for row in ratios.values() for column in row))
    cells = np.array([[ratios[row].get(column, np.nan) for column in columns] for row in rows])
    size = 0.95 * len(columns) + 2.6, 0.34 * len(rows) + 1.2
    figure, axis = pyplot.subplots(figsize=size)
    shown = np.log10(np.clip(cells, 1, 10))
    axis.imshow(shown, cmap="YlGnBu", vmin=0, vmax=1, aspect="auto")
    for (i, j), ratio in np.ndenumerate(cells):
        if not math.isnan(ratio):
            text = f"{ratio:.2f}" if ratio < 9.995 else f"{ratio:.0f}" if ratio < 1000 else "> 1000"
            colour = "white" if shown[i, j] > 0.6 else "black"
            axis.text(j, i, text, ha="center", va="center", color=colour)
    titles = [WORKLOADS[c].title.split(",")[0] if c in WORKLOADS else c for c in columns]
    axis.set_xticks(range(len(columns)), [each.replace(" ", "\n", 1) for each in titles])
    axis.set_yticks(range(len(rows)), rows)
    axis.set_title(title, fontsize="medium")
    axis.tick_params(labelsize="small", length=0)
    return _saved(figure, path)


def curves(means: Mapping[str, Mapping[float, float]], path: Path) -> Path:
    """Draws the mean ratio of each contestant against its learning rate: NAGD's solid and thick."""
    figure, axis = pyplot.subplots(figsize=(9.5, 5))
    ours, others = itertools.cycle(COLOURS), itertools.cycle(COLOURS)
    order = sorted(means, key=lambda who: min(means[who].values()))
    for i, who in enumerate(order):
        rates, values = zip(*sorted(means[who].items()), strict=True)
        if who.startswith("NAGD"):
            look = {"color": next(ours), "linewidth": 2.5, "marker": "o"}
        else:
            look = {
                "color": next(others),
                "linestyle": "--",
                "linewidth": 1.2,
                "marker": MARKERS[i],
            }
        axis.plot(rates, values, markersize=5, label=who, **look)
    axis.set_xscale("log")
    axis.set_yscale("log")
    ticks = 1, 1.5, 2, 3, 5, 10, 20
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
    axis.set_yticks([], minor=True)
    axis.set_ylim(0.9, 20)
    axis.set_xlabel("learning rate, the same on all workloads")
    axis.set_ylabel("loss or error at the end,\nas a multiple of the best tuned")
    axis.grid(alpha=0.3)
    axis.legend(bbox_to_anchor=(1.02, 1), loc="upper left", fontsize="small")
    return _saved(figure, path)


def _saved(figure, path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
    return path
