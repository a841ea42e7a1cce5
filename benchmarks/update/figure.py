"""One figure of all that was measured: python -m benchmarks.update.figure [FILE]."""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

from benchmarks.support.environment import RESULTS
from benchmarks.update.sections import SECTIONS

COLORS = {"Keras": "0.65", "NAGD": "tab:blue", "Optax": "tab:orange", "PyTorch": "tab:orange"}
LIMIT_COLOR = "tab:green"
MOST = 3.0  # ratios beyond are cut, and written down
Rows = list[dict[str, Any]]


def draw(path: Path) -> Path:
    """Draws a result into a PNG beside it, and returns its path."""
    result = json.loads(path.read_text())
    sections: dict[str, Rows] = {}
    for row in result["rows"]:
        if "error" not in row:
            sections.setdefault(row["section"], []).append(row)
    panels = [(_ratios, name) for name in ("tensorflow", "settings", "jax", "torch")]
    panels += [(_embedding, "embedding"), (_numbers, "memory"), (_numbers, "first_step")]
    panels = [(how, name) for how, name in panels if sections.get(name)]
    lines = -(-len(panels) // 2) or 1
    drawn, axes = plt.subplots(
        lines, 2, figsize=(13, 4.6 * lines), layout="constrained", squeeze=False
    )
    for ax, (how, name) in zip(axes.flat, panels, strict=False):
        how(ax, sections[name])
        ax.set_title(SECTIONS[name].title, fontsize=10)
    for ax in list(axes.flat)[len(panels) :]:
        ax.set_axis_off()
    env = result["environment"]
    named = ("keras", "tensorflow", "tensorflow-cpu", "jax", "torch")
    versions = [f"{name} {env[name]}" for name in named if name in env]
    drawn.suptitle(f"{env['CPU']}, {env['cores']} cores; {', '.join(versions)}", fontsize=9)
    target = path.with_suffix(".png")
    drawn.savefig(target, dpi=110)
    plt.close(drawn)
    return target


def _color(contestant: str) -> str:
    if contestant == "no update":
        return "0.3"
    return COLORS.get(contestant.split()[0].rstrip(","), LIMIT_COLOR)


def _ratios(ax: Any, rows: Rows) -> None:
    """Bars of the ratio to the section's first reference, with the quartiles of the rounds."""
    reference = next(k for r in rows for k in r if k.startswith("ratio to "))
    settings = rows[0]["section"] == "settings"
    left_out = ("the arguments", *(["Keras SGD"] if settings else []))
    shown = [r for r in rows if reference in r and not r["contestant"].startswith(left_out)]
    labels, before = [], None
    place, places = 0.0, []
    for row in shown:
        if not settings and row["table"] != before:
            place += 1.1
            ax.text(0, place + 0.2, f" {row['table']}", fontsize=8, style="italic")
        place += 1
        before = row["table"]
        places.append(place)
        labels.append(row["table"] if settings else row["contestant"])
        value = row[reference]
        ax.barh(place, min(value, MOST), 0.8, color=_color(row["contestant"]))
        quartiles = row.get(reference.replace("ratio", "quartiles"))
        if quartiles:
            ax.plot([min(q, MOST) for q in quartiles], [place] * 2, color="black", lw=1)
        ax.text(min(value, MOST) + 0.02, place + 0.05, f" {value:.2f}", fontsize=7, va="top")
    ax.axvline(1, color="0.4", lw=0.8)
    ax.set_yticks(places, labels, fontsize=7)
    ax.set_ylim(place + 0.8, 0.2)
    ax.set_xlim(0, None)
    ax.set_xlabel(f"{reference}; lines: half of the rounds", fontsize=8)


def _embedding(ax: Any, rows: Rows) -> None:
    """Milliseconds of a step over the rows of the table."""
    lines: dict[str, Rows] = {}
    for row in rows:
        lines.setdefault(row["contestant"], []).append(row)
    for name, points in lines.items():
        sizes = [int(p["table"].split()[0].replace(",", "")) for p in points]
        style = {"color": _color(name)}
        style["linestyle"] = ":" if name == "no update" else "--" if "lazy" in name else "-"
        ax.loglog(sizes, [p["ms"] for p in points], marker="o", label=name, **style)
    ax.set_xlabel("rows of the table", fontsize=8)
    ax.set_ylabel("ms of a whole step", fontsize=8)
    ax.legend(fontsize=8)


def _numbers(ax: Any, rows: Rows) -> None:
    """Bars of one number each."""
    key = next(k for k in ("first step s", "later peak MB") if k in rows[0])
    names = [r["contestant"] for r in rows]
    bars = ax.barh(names, [r[key] for r in rows], color=[_color(n) for n in names])
    ax.bar_label(bars, fontsize=8, padding=2)
    ax.invert_yaxis()
    ax.tick_params(axis="y", labelsize=8)
    ax.set_xlabel(f"{key}; {rows[0]['table']}", fontsize=8)


if __name__ == "__main__":
    given = sys.argv[1:] or [RESULTS / "update.json"]
    print(draw(Path(given[0])))
