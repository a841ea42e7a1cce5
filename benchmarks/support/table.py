"""Rows as aligned text, printed as they come."""

from typing import Any

HIDDEN = "rounds", "whole ms"


def line(row: dict[str, Any], named: int = 28) -> str:
    """Returns a row: each number with its name, as different rows have different ones."""
    name = f"  {row['contestant']:<{named}}"
    if "error" in row:
        return f"{name}{row['error']}"
    cells = []
    for key, value in row.items():
        if key in ("section", "table", "contestant", *HIDDEN) or key.startswith("quartiles"):
            continue
        cells.append(_cell(key, value, row.get(f"quartiles{key.removeprefix('ratio')}")))
    if "ms" not in row and "whole ms" in row:
        cells.append(f"{row['whole ms']:9.3f} ms")
    return name + "".join(cells).rstrip()


def _cell(key: str, value: Any, quartiles: Any) -> str:
    if key.startswith("ratio to "):
        known = quartiles and quartiles != [1, 1]
        spread = f"({quartiles[0]:.2f} to {quartiles[1]:.2f})" if known else ""
        return f"{value:7.2f} {spread:<14} of {key.removeprefix('ratio to ')}"
    if key == "ms" or key.endswith(" ms"):
        return f"{value:9.3f} {key}"
    if key.startswith("of the "):
        return f"{100 * value:6.0f}% {key}"
    return f"{value:9,} {key}"
