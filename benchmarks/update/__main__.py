"""What an update costs, beside its peers and its limit: python -m benchmarks.update.

Each section runs in a process of its own; see benchmarks/README.md for what they measure.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

from benchmarks.support import environment, session
from benchmarks.update.sections import SECTIONS, Section

QUICK = 0.1  # seconds for a table
QUICK_ROUNDS = 3


def main() -> int:
    """Measures, prints, and writes; returns the number of sections that failed."""
    arguments = session.parser("update", __doc__, SECTIONS).parse_args()
    sections = {name: SECTIONS[name] for name in arguments.only or SECTIONS}
    skipped = [x for x, section in sections.items() if arguments.quick and not section.quick]
    left_out = {} if arguments.only else dict.fromkeys(skipped, "left out of a quick run")
    result = session.measured(sections, lambda name: _run(sections[name], arguments), left_out)
    path = arguments.output / "update.json"
    session.write(result, path)
    print(f"\n{result['environment']['seconds']} s, {path}", end="")
    if "matplotlib" in result["not installed"]:
        print("; no figure: not installed: matplotlib")
    else:
        from benchmarks.update import figure

        print("", *figure.draw(path), sep=", ")
    return len(result["failed"])


def _run(section: Section, arguments: argparse.Namespace) -> session.Rows:
    """Yields the rows of a section while its process measures."""
    rounds = arguments.rounds or (QUICK_ROUNDS if arguments.quick else None)
    command = [sys.executable, "-m", f"benchmarks.update.{section.module}"]
    command += ["--seconds", str(QUICK if arguments.quick else section.seconds)]
    command += ["--rounds", str(rounds)] if rounds else []
    command += ["--quick"] if arguments.quick else []
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command,
            cwd=environment.ROOT,
            env={**os.environ, **session.CPU, "KERAS_BACKEND": section.backend},
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
            raise session.failure(process.returncode, errors)


if __name__ == "__main__":
    sys.exit(main())
