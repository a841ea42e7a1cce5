"""The race's figures: a performance profile, and a heat map."""

import math
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot

from benchmarks.race.contestants import ALL, BUILT_IN, OURS
from benchmarks.race.judging import Table, profile
from benchmarks.race.workloads import WORKLOADS

FACTORS = np.geomspace(1, 8, 200)
# Okabe & Ito's colours, which the colour-blind tell apart; where they come again, lines differ.
COLOURS = "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#000000"
OTHERS = "--", ":"


def draw(table: Table, folder: Path) -> list[Path]:
    """Draws both figures, and returns their paths."""
    return [_profiles(table, folder / "race_profile.png"), _heat(table, folder / "race_heat.png")]


def styles() -> dict[str, dict[str, Any]]:
    """Returns the look of each line: NAGD's are solid and thick, the others' are not."""
    found = {who: {"color": c, "linewidth": 2.5} for who, c in zip(OURS, COLOURS, strict=False)}
    for i, who in enumerate(BUILT_IN):
        again, colour = divmod(i, len(COLOURS))
        found[who] = {"color": COLOURS[colour], "linestyle": OTHERS[again], "linewidth": 1.3}
    return found


def _profiles(table: Table, path: Path) -> Path:
    figure, axes = pyplot.subplots(1, 2, figsize=(12, 4.5), sharey=True)
    for axis, what, label in zip(
        axes, ("to_target", "seconds"), ("updates", "seconds"), strict=True
    ):
        for who, shares in profile(table, what, FACTORS).items():
            axis.step(FACTORS, shares, where="post", label=who, **styles()[who])
        axis.set_xscale("log", base=2)
        axis.set_xlabel(f"{label} to the target, as a multiple of the fastest")
        axis.set_xticks([1, 2, 4, 8], ["1", "2", "4", "8"])
        axis.set_ylim(0, 1.02)
    axes[0].set_ylabel("share of workloads")
    axes[1].legend(bbox_to_anchor=(1.02, 1), loc="upper left", fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path


def _heat(table: Table, path: Path) -> Path:
    names, rows = list(table), list(ALL)
    ratios = np.full((len(rows), len(names)), np.nan)
    for j, name in enumerate(names):
        found = table[name][1]
        best = max(min(score.end for score in found.values()), np.finfo(float).tiny)
        for i, who in enumerate(rows):
            if who in found:
                ratios[i, j] = max(found[who].end, best) / best
    figure, axis = pyplot.subplots(figsize=(1.05 * len(names) + 2.6, 0.36 * len(rows) + 1.3))
    shown = np.log10(np.clip(ratios, 1, 10))
    axis.imshow(shown, cmap="YlGnBu", vmin=0, vmax=1, aspect="auto")
    for (i, j), ratio in np.ndenumerate(ratios):
        if not math.isnan(ratio):
            text = f"{ratio:.3g}" if ratio < 1000 else "> 1000"
            colour = "white" if shown[i, j] > 0.6 else "black"
            axis.text(j, i, text, ha="center", va="center", color=colour)
    axis.set_xticks(range(len(names)), [WORKLOADS[n].title.replace(", ", "\n") for n in names])
    axis.set_yticks(range(len(rows)), rows)
    axis.set_title("Loss or error at the end, as a multiple of the best", fontsize="medium")
    axis.tick_params(labelsize="small", length=0)
    figure.tight_layout()
    figure.savefig(path, dpi=140)
    pyplot.close(figure)
    return path
