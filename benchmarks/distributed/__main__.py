"""What a step costs on more than one device: python -m benchmarks.distributed.

Two cores of one machine stand for all devices, so no step can become faster than those; what is
measured is what a second replica or process adds. See benchmarks/README.md, and
docs/scaling.md, whose tables `--paper` prints.
"""

import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.distributed import scaling
from benchmarks.distributed.common import ONE, ROUNDS, beside_one
from benchmarks.support import environment, session, timing

PATIENCE = 600  # seconds, after which processes that wait for each other are given up
REPEATS = 3  # of processes that each have another number of devices
Rows = session.Rows
QUICK = ["--quick", "--rounds", "3"]


class Section(NamedTuple):
    """One part: the backend that must be installed, the title, and what yields its rows."""

    backend: str
    title: str
    rows: Callable[[list[str], bool], Rows]


def replicas(options: list[str], quick: bool) -> Rows:
    """Yields steps of one process with one TensorFlow device or two."""
    yield from _together([["tensorflow", "replicas", "--seconds", "8", *options]], [{}])


def tensorflow_processes(options: list[str], quick: bool) -> Rows:
    """Yields steps of two TensorFlow workers."""
    workers = [f"127.0.0.1:{port}" for port in _ports(2)]
    tasks = [
        {"cluster": {"worker": workers}, "task": {"type": "worker", "index": i}} for i in range(2)
    ]
    command = ["tensorflow", "processes", *options]
    yield from _together([command] * 2, [{"TF_CONFIG": json.dumps(task)} for task in tasks])


def jax_processes(options: list[str], quick: bool) -> Rows:
    """Yields steps of two JAX processes."""
    coordinator = f"127.0.0.1:{_ports(1)[0]}"
    places = [{"COORDINATOR": coordinator, "PLACE": str(i)} for i in range(2)]
    yield from _together([["jax", "processes", *options]] * 2, places)


def jax_devices(options: list[str], quick: bool) -> Rows:
    """Yields steps of one JAX process with 1, 2 or 4 devices: medians over processes."""
    times: dict[str, timing.Times] = {}
    rest: dict[tuple[str, str], dict[str, Any]] = {}
    counts = [1, 2] if quick else [1, 2, 4]
    rounds = [] if "--rounds" in options else ["--rounds", str(ROUNDS)]
    shuffle = random.Random(0).shuffle
    for _ in range(1 if quick else REPEATS):
        shuffle(counts)
        for count in counts:
            settings = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={count}"}
            command = ["jax", "devices", *options, *rounds]
            for row in _together([command], [settings]):
                times.setdefault(row["table"], {}).setdefault(row["contestant"], []).append(
                    row["ms"] / 1e3
                )
                known = "table", "contestant", "ms", "whole ms", "rounds"
                rest[row["table"], row["contestant"]] = {
                    key: value for key, value in row.items() if key not in known
                }
    for name, each in times.items():
        order = sorted(each, key=lambda contestant: (not contestant.endswith(ONE), contestant))
        for contestant, row in beside_one({key: each[key] for key in order}).items():
            yield {"table": name, "contestant": contestant, **row, **rest[name, contestant]}


SECTIONS = {
    "replicas": Section("tensorflow", "TensorFlow: one device, and two replicas", replicas),
    "processes": Section("tensorflow", "TensorFlow: two processes", tensorflow_processes),
    "devices_jax": Section("jax", "JAX: virtual devices", jax_devices),
    "processes_jax": Section("jax", "JAX: two processes", jax_processes),
}


def main() -> int:
    """Measures, prints, and writes; returns the number of sections that failed."""
    parser = session.parser("distributed", __doc__, SECTIONS)
    parser.add_argument("--paper", action="store_true", help="print the tables of docs/scaling.md")
    arguments = parser.parse_args()
    if arguments.paper:
        print(scaling.markdown())
        return 0
    options = QUICK if arguments.quick else []
    if arguments.rounds:
        options = [*options, "--rounds", str(arguments.rounds)]
    sections = {name: SECTIONS[name] for name in arguments.only or SECTIONS}
    result = session.measured(
        sections, lambda name: sections[name].rows(options, arguments.quick), {}, width=52
    )
    path = arguments.output / "distributed.json"
    session.write(result, path)
    print(f"\n{result['environment']['seconds']} s, {path}")
    return len(result["failed"])


def _together(commands: list[list[str]], settings: list[dict[str, str]]) -> Rows:
    """Yields the rows of processes that run at the same time; ends all when one fails.

    Each command begins with a module of this package, which has the name of its backend.
    """
    common = {**session.CPU, "KERAS_BACKEND": commands[0][0]}
    with tempfile.TemporaryFile("w+") as rows, tempfile.TemporaryFile("w+") as errors:
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", f"benchmarks.distributed.{command[0]}", *command[1:]],
                cwd=environment.ROOT,
                env={**os.environ, **common, **more},
                stdout=rows,
                stderr=errors,
                text=True,
            )
            for command, more in zip(commands, settings, strict=True)
        ]
        try:
            statuses = _statuses(processes)
        finally:
            for process in processes:
                process.kill()
                process.wait()
        if any(status != 0 for status in statuses):
            raise session.failure(statuses, errors)
        rows.seek(0)
        yield from (json.loads(line) for line in rows if line.startswith("{"))


def _statuses(processes: list[subprocess.Popen[str]]) -> list[int | None]:
    """Returns how the processes ended; None of one that still runs when another failed."""
    end = time.monotonic() + PATIENCE
    while True:
        statuses = [process.poll() for process in processes]
        if None not in statuses or any(statuses) or time.monotonic() > end:
            return statuses
        time.sleep(0.05)


def _ports(count: int) -> list[int]:
    """Returns ports that are free."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


if __name__ == "__main__":
    sys.exit(main())
