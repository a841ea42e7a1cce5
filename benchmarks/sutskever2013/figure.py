"""The figure of an experiment: the error of each column during its long run."""

import math
from pathlib import Path

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot
from matplotlib.ticker import LogFormatter, StrMethodFormatter

from benchmarks.support.cells import Cells
from benchmarks.sutskever2013.columns import CLASSICAL, NESTEROV
from benchmarks.sutskever2013.experiment import Experiment
from benchmarks.sutskever2013.paper import chosen_run

# A colour for each momentum, a style for each method: Okabe & Ito's, which the colour-blind tell
# apart.
COLOURS = "#E69F00", "#56B4E9", "#009E73", "#0072B2"
STYLES = {NESTEROV: "-", CLASSICAL: "--"}


def draw(cells: Cells, name: str, experiment: Experiment, label: str, target: Path) -> Path:
    """Draws what is there into a PNG, and returns its path."""
    figure, axis = pyplot.subplots(figsize=(8, 4.8), layout="constrained")
    momenta = sorted({column.momentum for column in experiment.columns if column.method})
    for column in experiment.columns:
        rate, found = chosen_run(cells, name, experiment, column)
        if not found:
            continue
        errors = [math.nan if error is None else error for error in found["errors"]]
        updates = [experiment.piece * i for i in range(1, len(errors) + 1)]
        colour = COLOURS[momenta.index(column.momentum)] if column.method else "0.5"
        style = STYLES.get(column.method, "-")
        text = f"{column}, ε = {rate:g}"
        axis.semilogy(updates, errors, style, color=colour, label=text, linewidth=1.4)
    axis.set(xlabel="updates", ylabel=label)
    title = "Solid: Nesterov's method, N. Dashed: classical momentum, M."
    axis.set_title(title, fontsize="medium")
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.6, 0.5)))
    axis.grid(alpha=0.3)
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=110)
    pyplot.close(figure)
    return target
