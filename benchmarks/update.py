"""What an update costs, beside its peers and its limit: python -m benchmarks.update.

Each section runs in a process of its own; see README.md for what they measure.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import environment, table
from benchmarks.sections import SECTIONS, Section

QUICK = 0.1  # seconds for a table
QUICK_ROUNDS = 3


def main() -> int:
    """Measures, prints, and writes; returns the number of sections that failed."""
    arguments = _arguments()
    described = environment.described()
    missing = environment.missing()
    for name, value in described.items():
        print(f"{name:<16}{value}")
    print(f"not installed: {', '.join(missing) or 'nothing'}")
    rows: list[dict[str, Any]] = []
    left_out, failed = {}, {}
    began = time.monotonic()
    for name in arguments.only or SECTIONS:
        section = SECTIONS[name]
        print(f"\n{section.title}", flush=True)
        if find_spec(section.backend) is None:
            left_out[name] = f"not installed: {section.backend}"
        elif arguments.quick and not section.quick and not arguments.only:
            left_out[name] = "left out of a quick run"
        if name in left_out:
            print(f"  {left_out[name]}")
            continue
        try:
            for row in _printed(_run(section, arguments)):
                rows.append({"section": name, **row})
        except RuntimeError as error:
            failed[name] = str(error)
            print(f"  failed: {error}")
    described["load after"] = environment.load()
    described["seconds"] = round(time.monotonic() - began)
    arguments.output.mkdir(parents=True, exist_ok=True)
    result = {
        "environment": described,
        "not installed": missing,
        "left out": left_out,
        "failed": failed,
        "rows": rows,
    }
    path = arguments.output / "update.json"
    path.write_text(_json(result))
    print(f"\n{described['seconds']} s, {path}", end="")
    if "matplotlib" in missing:
        print("; no figure: not installed: matplotlib")
    else:
        from benchmarks import figure

        print(f", {figure.draw(path)}")
    return len(failed)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.update", description=__doc__)
    parser.add_argument("--rounds", type=int, help="for each table, instead of what time allows")
    parser.add_argument("--quick", action="store_true", help="few rounds, to see that it runs")
    names = ", ".join(SECTIONS)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, metavar="SECTION", help=names)
    results = Path(__file__).parent / "results"
    parser.add_argument("--output", type=Path, default=results, metavar="FOLDER")
    return parser.parse_args()


def _run(section: Section, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yields the rows of a section while its process measures."""
    rounds = arguments.rounds or (QUICK_ROUNDS if arguments.quick else None)
    command = [sys.executable, "-m", f"benchmarks.{section.module}"]
    command += ["--seconds", str(QUICK if arguments.quick else section.seconds)]
    command += ["--rounds", str(rounds)] if rounds else []
    command += ["--quick"] if arguments.quick else []
    # The CPU: what is measured is the passes over its memory.
    settings = {
        "KERAS_BACKEND": section.backend,
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "CUDA_VISIBLE_DEVICES": "-1",
        "JAX_PLATFORMS": "cpu",
    }
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command,
            cwd=environment.ROOT,
            env={**os.environ, **settings},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert process.stdout is not None
        with process:
            for line in process.stdout:
                if line.startswith("{"):
                    yield json.loads(line)
        if process.returncode:
            errors.seek(0)
            last = (errors.read().strip().splitlines() or ["no message"])[-1]
            raise RuntimeError(f"exit status {process.returncode}: {last[:300]}")


def _printed(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    before = None
    for row in rows:
        if row["table"] != before:
            before = row["table"]
            rounds = f", {row['rounds']} rounds" if "rounds" in row else ""
            print(f" {before}{rounds}")
        print(table.line(row), flush=True)
        yield row


def _json(result: dict[str, Any]) -> str:
    """Returns JSON with a row in each line, so that two results can be compared by line."""
    rows = ",\n".join(f"  {json.dumps(row)}" for row in result["rows"])
    head = json.dumps({k: v for k, v in result.items() if k != "rows"}, indent=1)
    return f'{head[:-2]},\n "rows": [\n{rows}\n ]\n}}\n'


if __name__ == "__main__":
    sys.exit(main())
