"""One run of a benchmark's sections: its options, what it prints, and what it keeps."""

import argparse
import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Protocol

from benchmarks.support import environment, table

# For the processes that measure. The CPU: what counts there is the passes over its memory.
CPU = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
Result = dict[str, Any]
Rows = Iterator[dict[str, Any]]


class Section(Protocol):
    """One part: its title, and the backend that must be installed."""

    title: str
    backend: str


def parser(name: str, doc: str | None, sections: Collection[str]) -> argparse.ArgumentParser:
    """Returns a parser with the options that all have."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=doc)
    made.add_argument("--rounds", type=int, help="for each table, instead of what is usual")
    made.add_argument("--quick", action="store_true", help="few rounds, to see that it runs")
    made.add_argument(
        "--only", nargs="+", choices=sections, metavar="SECTION", help=", ".join(sections)
    )
    made.add_argument("--output", type=Path, default=environment.RESULTS, metavar="FOLDER")
    return made


def measured(
    sections: Mapping[str, Section],
    rows_of: Callable[[str], Rows],
    left_out: dict[str, str],
    width: int = 28,
) -> Result:
    """Runs the sections but those left out, which come with the reason; prints what is found."""
    described, missing = environment.described(), environment.missing()
    print(*(f"{name:<16}{value}" for name, value in described.items()), sep="\n")
    print(f"not installed: {', '.join(missing) or 'nothing'}")
    rows: list[dict[str, Any]] = []
    left_out, failed = dict(left_out), {}
    began = time.monotonic()
    for name, section in sections.items():
        print(f"\n{section.title}", flush=True)
        if find_spec(section.backend) is None:
            left_out[name] = f"not installed: {section.backend}"
        if name in left_out:
            print(f"  {left_out[name]}")
            continue
        try:
            rows += ({"section": name, **row} for row in _printed(rows_of(name), width))
        except RuntimeError as error:
            failed[name] = str(error)
            print(f"  failed: {error}")
    described["load after"] = environment.load()
    described["seconds"] = round(time.monotonic() - began)
    head = {"environment": described, "not installed": missing}
    return head | {"left out": left_out, "failed": failed, "rows": rows}


def _printed(rows: Rows, width: int) -> Rows:
    before = None
    for row in rows:
        if row["table"] != before:
            before = row["table"]
            rounds = f", {row['rounds']} rounds" if "rounds" in row else ""
            print(f" {before}{rounds}")
        print(table.line(row, width), flush=True)
        yield row


def write(result: Result, path: Path) -> None:
    """Writes JSON with a row in each line, so that two results can be compared by line."""
    rows = ",\n".join(f"  {json.dumps(row)}" for row in result["rows"])
    head = json.dumps({k: v for k, v in result.items() if k != "rows"}, indent=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{head[:-2]},\n "rows": [\n{rows}\n ]\n}}\n')


def failure(statuses: Any, errors: IO[str]) -> RuntimeError:
    """Returns an error that says how processes ended, and the last that they said."""
    errors.seek(0)
    last = (errors.read().strip().splitlines() or ["no message"])[-1]
    return RuntimeError(f"exit status {statuses}: {last[:300]}")
