"""The figure of what adaptive restart is worth: a panel for each problem, and one for growth."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np

# Okabe & Ito's colours, which the colour-blind tell apart; the lines differ in style as well.
STYLES: dict[str, dict[str, Any]] = {
    "gradient descent": {"color": "0.55", "linestyle": "-"},
    "no restart": {"color": "#E69F00", "linestyle": "-"},
    "constant momentum, k known": {"color": "black", "linestyle": "--"},
    "gradient scheme": {"color": "#0072B2", "linestyle": "-", "marker": "o", "zorder": 3},
    "speed scheme": {"color": "#009E73", "linestyle": "-", "marker": "s"},
    "function scheme": {"color": "#CC79A7", "linestyle": ":", "marker": "D"},
}
TOLERANCE = 1e-10


def draw(curves: dict[str, dict[str, Any]], rows: list[dict[str, Any]], target: Path) -> Path:
    """Draws the runs and the counts into a PNG, and returns its path."""
    lines = -(-(len(curves) + 2) // 3)
    drawn, axes = plt.subplots(
        lines, 3, figsize=(13, 4.1 * lines), layout="constrained", squeeze=False
    )
    panels = list(axes.flat)
    for ax, (name, runs) in zip(panels, curves.items(), strict=False):
        _gaps(ax, runs)
        ax.set_title(name, fontsize=13)
    _growth(panels[len(curves)], [row for row in rows if "condition" in row])
    for ax in panels[len(curves) + 1 :]:
        ax.set_axis_off()
    _legend(panels[-1])
    drawn.savefig(target, dpi=110)
    plt.close(drawn)
    return target


def _gaps(ax: Any, runs: dict[str, Any]) -> None:
    """The gap against the updates; the longest runs leave the panel, with their counts."""
    near = [name for name in runs if "scheme" in name or "constant" in name]
    width = 1.12 * max(runs[name].reached for name in near)
    for name, run in runs.items():
        gaps = run.gaps / run.gaps[0]
        style = {"markersize": 4.5, "linewidth": 1.6, **STYLES[name]}
        marker = style.pop("marker", None)
        ax.semilogy(gaps[: int(width) + 1], **style)
        if marker:
            ax.semilogy(run.restarts, gaps[run.restarts], marker, **{**style, "linestyle": ""})
        if name not in near:
            count = f"{run.reached:,} " if run.reached else ""
            top = np.max(gaps[int(0.8 * width) : int(width)])
            text = ax.text(0.99 * width, 2.5 * top, f"{count}→", ha="right", va="bottom")
            text.set(color=style["color"], fontsize=11)
    ends = sorted((run.reached, name) for name, run in runs.items() if name in near)
    places = _apart([reached for reached, _ in ends], 0.05 * width)
    for place, (reached, name) in zip(places, ends, strict=True):
        text = ax.text(place, TOLERANCE / 2, f"{reached:,}", rotation=90, ha="center", va="top")
        text.set(color=STYLES[name]["color"], fontsize=11)
    ax.axhline(TOLERANCE, color="0.8", lw=0.8, zorder=0)
    ax.set_xlim(0, width)
    ax.set_ylim(TOLERANCE / 300, 3)
    ax.set_yticks([10.0**-i for i in range(0, 11, 2)])
    ax.set_xlabel("updates", fontsize=11)
    ax.set_ylabel(r"$(f(\theta_T) - f^*)\,/\,(f(\theta_0) - f^*)$", fontsize=11)


def _apart(places: list[float], distance: float) -> list[float]:
    """Returns places in ascending order, moved so that none is nearer to the next."""
    moved = np.array(places, float)
    for _ in range(20):
        for i in range(len(moved) - 1):
            lack = distance - (moved[i + 1] - moved[i])
            if lack > 0:
                moved[i] -= lack / 2
                moved[i + 1] += lack / 2
    return [float(x) for x in moved]


def _growth(ax: Any, rows: list[dict[str, Any]]) -> None:
    """Updates against condition numbers."""
    for name, style in STYLES.items():
        points = [r for r in rows if r["contestant"] == name and r["updates"]]
        if not points:
            continue
        k, updates = ([r[key] for r in points] for key in ("condition", "updates"))
        ax.loglog(k, updates, **{"marker": ".", "markersize": 6, **style})
    k = np.array(sorted({r["condition"] for r in rows}), float)
    for power, scale, label in ((1.0, 22.0, r"$\propto k$"), (0.5, 3.0, r"$\propto \sqrt{k}$")):
        ax.loglog(k, scale * k**power, color="0.75", lw=1, zorder=0)
        ax.text(k[-2], scale * k[-2] ** power, label, fontsize=12, color="0.35")
    ax.set_title("updates to $10^{-8}$ by condition number", fontsize=13)
    ax.set_xlabel("condition number $k$", fontsize=11)
    ax.set_ylabel("updates", fontsize=11)


def _legend(ax: Any) -> None:
    marks = [ax.plot([], [], label=name, linewidth=2, **style)[0] for name, style in STYLES.items()]
    ax.legend(
        handles=marks,
        loc="center",
        fontsize=13,
        frameon=False,
        handlelength=3,
        title="marks: restarts\nnumbers: updates to $10^{-10}$",
        title_fontsize=12,
    )
