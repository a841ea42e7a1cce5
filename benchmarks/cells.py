"""A file of results to which each training run is added when it is done, so none is made twice."""

import json
import math
import os
from pathlib import Path
from typing import Any

from benchmarks import environment

KEPT = "date", "CPU", "cores", "keras", "tensorflow-cpu"


class Cells:
    """What runs have found, by a group and a name; the file is replaced whole, a line for each."""

    def __init__(self, path: Path) -> None:
        """Reads what is there."""
        self._path = path
        self._groups: dict[str, dict[str, Any]] = {}
        if path.exists():
            self._groups = json.loads(path.read_text())

    def of(self, group: str, name: str) -> dict[str, Any] | None:
        """Returns what was found, or None; there, None stands for a number that is not finite."""
        return self._groups.get(group, {}).get(name)

    def add(self, group: str, name: str, found: dict[str, Any]) -> None:
        """Keeps what was found, and where."""
        where = environment.described()
        place = {key: where[key] for key in KEPT if key in where}
        self._groups.setdefault(group, {})[name] = _finite({**found, "where": place})
        groups = [
            f" {json.dumps(group)}: {{\n"
            + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in cells.items())
            + "\n }"
            for group, cells in self._groups.items()
        ]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        beside = self._path.with_suffix(".part")
        beside.write_text("{\n" + ",\n".join(groups) + "\n}\n")
        os.replace(beside, self._path)


def _finite(found: Any) -> Any:
    """Returns the same with None for NaN and infinity, which JSON does not have."""
    if isinstance(found, dict):
        return {key: _finite(value) for key, value in found.items()}
    if isinstance(found, list):
        return [_finite(value) for value in found]
    return None if isinstance(found, float) and not math.isfinite(found) else found
