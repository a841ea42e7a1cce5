"""What an update costs on an accelerator: python -m benchmarks.accelerator.

JAX and PyTorch, each in a process of its own and with a share of the time. See
benchmarks/README.md for what is measured.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from typing import NamedTuple

from benchmarks.accelerator import bandwidth
from benchmarks.accelerator.budget import Clock
from benchmarks.support import environment, session

SECONDS = 330.0  # of all
GRACE = 0.05  # of a process' time: what it may be late before it is stopped
PARTS = "bandwidth", "orthogonal", "adaptive", "decisions", "small"


class Section(NamedTuple):
    """One backend: its title, Keras' name of it, and its part of the time."""

    title: str
    backend: str
    weight: float


# PyTorch compiles nothing, and leaves JAX what it does not need.
SECTIONS = {
    "torch": Section("PyTorch: updates on the device", "torch", 0.4),
    "jax": Section("JAX: updates on the device", "jax", 0.6),
}


def main() -> int:
    """Measures, prints, and writes; returns the number of sections that failed, or 1 for none."""
    parser = session.parser("accelerator", __doc__, SECTIONS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of all, at most")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, metavar="PART")
    arguments = parser.parse_args()
    clock = Clock.of(arguments.seconds)
    sections = {name: SECTIONS[name] for name in arguments.only or SECTIONS}
    weights = [section.weight for section in sections.values()]

    def rows_of(name: str) -> session.Rows:
        behind = weights[[*sections].index(name) :]
        return _rows(sections[name].backend, clock.first(behind), arguments)

    result = session.measured(sections, rows_of, {}, width=34)
    path = arguments.output / "accelerator.json"
    session.write(result, path)
    if not arguments.quick:
        print("", *bandwidth.verdicts(result["rows"]), sep="\n")
    print(f"\n{result['environment']['seconds']} s, {path}")
    return len(result["failed"]) or not any("ms" in row for row in result["rows"])


def _rows(backend: str, clock: Clock, arguments: argparse.Namespace) -> session.Rows:
    """Yields the rows of a backend; where its process breaks, another makes the parts behind."""
    parts = list(arguments.parts)
    while parts:
        begun = None
        try:
            for row in _process(backend, parts, clock, arguments):
                if "begun" in row:
                    begun = row["begun"]
                    parts = parts[parts.index(begun) + 1 :]
                else:
                    yield row
            return
        except RuntimeError as error:
            if begun is None or not parts or not clock.left():
                raise
            yield {"table": begun, "contestant": "what is missing", "error": str(error)}


def _process(
    backend: str, parts: list[str], clock: Clock, arguments: argparse.Namespace
) -> session.Rows:
    """Yields what a process says, which is stopped when its time is over."""
    until = clock.earlier(GRACE * clock.left()).until
    command = [sys.executable, "-m", "benchmarks.accelerator.parts", "--until", str(until)]
    command += ["--parts", *parts, *(["--quick"] if arguments.quick else [])]
    command += ["--rounds", str(arguments.rounds)] if arguments.rounds else []
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command,
            cwd=environment.ROOT,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "KERAS_BACKEND": backend},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert process.stdout is not None
        stop = threading.Timer(clock.left(), process.kill)
        stop.start()
        try:
            with process:
                for line in process.stdout:
                    if line.startswith("{"):
                        yield json.loads(line)
        finally:
            stop.cancel()
        if process.returncode and not clock.left():
            raise RuntimeError("stopped: its time was over; what it had said is kept")
        if process.returncode:
            raise session.failure(process.returncode, errors)


if __name__ == "__main__":
    sys.exit(main())
