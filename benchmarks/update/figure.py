"""Figures of what was measured, each of one question: python -m benchmarks.update.figure [FILE]."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

from benchmarks.support.environment import RESULTS

Rows = Sequence[Mapping[str, Any]]
WIDTH = 8.0  # inches, of which a page of text shows about as many
KINDS = {
    "one variable of 25 M": ("one of 25 million", "s", "tab:blue"),
    "ResNet-50's 214 variables": ("ResNet-50's 214", "D", "tab:orange"),
    "800 variables of 64": ("800 of 64", "^", "tab:green"),
    "a small network's 6 variables": ("a small network's 6", "o", "black"),
}
PEERS = {
    "tensorflow": ("TensorFlow", "Keras SGD"),
    "jax": ("JAX", "Optax SGD"),
    "torch": ("PyTorch", "PyTorch SGD, fused"),
}
EMBEDDING = "embedding"


def draw(path: Path) -> list[Path]:
    """Draws a result into PNGs beside it, and returns their paths."""
    result = json.loads(path.read_text())
    rows = [row for row in result["rows"] if "error" not in row]
    where = _where(result["environment"])
    made = []
    for name, how, parts in (
        ("", _beside_peers, PEERS),
        ("_embedding", _by_rows, (EMBEDDING,)),
    ):
        if shown := [row for row in rows if row["section"] in parts]:
            drawn, ax = plt.subplots(figsize=(WIDTH, 4.2), layout="constrained")
            how(ax, shown)
            drawn.supxlabel(where, fontsize=7, color="0.4")
            made.append(path.with_name(f"{path.stem}{name}.png"))
            drawn.savefig(made[-1], dpi=130)
            plt.close(drawn)
    return made


def _where(env: Mapping[str, Any]) -> str:
    named = ("keras", "tensorflow", "tensorflow-cpu", "jax", "torch")
    versions = [f"{name} {env[name]}" for name in named if name in env]
    return f"{env['CPU']}, {env['cores']} cores; {', '.join(versions)}"


def _beside_peers(ax: Any, rows: Rows) -> None:
    """Dots of NAGD's time as a multiple of its peer's, by backend and kind of model."""
    labels, named = [], set()
    for backend, (title, peer) in PEERS.items():
        of_backend = [r for r in rows if r["section"] == backend]
        for who in ("NAGD", "NAGD, momentum schedule"):
            found = {r["table"]: r for r in of_backend if r["contestant"] == who}
            for place, (kind, (label, marker, color)) in enumerate(KINDS.items()):
                if value := found.get(kind, {}).get(f"ratio to {peer}"):
                    name = None if kind in named else label
                    y = len(labels) + (place - 1.5) / 10
                    ax.plot(value, y, marker, color=color, ms=8, label=name, ls="")
                    named.add(kind)
            short = "a schedule as momentum" if "," in who else "a number as momentum"
            labels.append(f"{title}, {short}:\nof {peer}")
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.axvline(1, color="0.4", lw=0.8)
    ax.set_xscale("log")
    ticks = (0.25, 0.5, 1, 2, 4)
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.set_xlabel("NAGD's time for an update, as a multiple of its peer's: below 1 is faster")
    ax.grid(axis="x", color="0.9")
    ax.set_axisbelow(True)
    ax.legend(title="variables", loc="best")


def _by_rows(ax: Any, rows: Rows) -> None:
    """Milliseconds of a step over the rows of a table."""
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        lines.setdefault(row["contestant"], []).append(row)
    styles = {
        "no update": ("0.5", ":"),
        "Keras SGD": ("tab:orange", "-"),
        "NAGD, dense": ("tab:blue", "-"),
        "NAGD, lazy": ("tab:blue", "--"),
    }
    for name, points in lines.items():
        color, style = styles[name]
        sizes = [int(p["table"].split()[0].replace(",", "")) for p in points]
        times = [p["ms"] for p in points]
        ax.loglog(sizes, times, color=color, ls=style, marker="o", label=name)
    ax.set_xlabel("rows of the embedding, each of 64 numbers")
    ax.set_ylabel("a whole step, ms")
    ax.grid(color="0.9")
    ax.legend()


if __name__ == "__main__":
    given = sys.argv[1:] or [RESULTS / "update.json"]
    print(*draw(Path(given[0])), sep="\n")
