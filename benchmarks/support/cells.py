"""A file of results to which each training run is added when it is done, so none is made twice."""

import contextlib
import fcntl
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.support import environment

KEPT = "date", "CPU", "cores", "Python", "keras", "tensorflow", "tensorflow-cpu", "jax"


def replace(path: Path, text: str) -> None:
    """Writes a file so that the old one or the new one is there whenever the process is killed."""
    beside = path.with_name(path.name + ".part")
    beside.write_text(text)
    os.replace(beside, path)


class Cells:
    """What runs have found, by a group and a name; the file is replaced whole, a line for each."""

    def __init__(self, path: Path) -> None:
        """Reads what is there."""
        self._path = path
        self._groups = self._read()

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            return json.loads(self._path.read_text()) if self._path.exists() else {}
        except ValueError as error:
            message = f"{self._path} is not JSON ({error}): mend it, or move it away to begin anew"
            raise ValueError(message) from error

    def of(self, group: str, name: str) -> dict[str, Any] | None:
        """Returns what was found, or None; there, None stands for a number that is not finite."""
        return self._groups.get(group, {}).get(name)

    def add(self, group: str, name: str, found: dict[str, Any]) -> None:
        """Keeps what was found, and where."""
        where = environment.described()
        place = {key: where[key] for key in KEPT if key in where}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(self._path.parent):  # Another process may be adding to it.
            self._groups = self._read()
            self._groups.setdefault(group, {})[name] = _finite({**found, "where": place})
            groups = [
                f" {json.dumps(group)}: {{\n"
                + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in cells.items())
                + "\n }"
                for group, cells in self._groups.items()
            ]
            replace(self._path, "{\n" + ",\n".join(groups) + "\n}\n")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lets one process at a time work in a folder."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def _finite(found: Any) -> Any:
    """Returns the same with None for NaN and infinity, which JSON does not have."""
    if isinstance(found, dict):
        return {key: _finite(value) for key, value in found.items()}
    if isinstance(found, list):
        return [_finite(value) for value in found]
    return None if isinstance(found, float) and not math.isfinite(found) else found
