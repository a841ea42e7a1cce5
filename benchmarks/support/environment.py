"""Where something was measured: the machine, its load, and the versions; and what is missing."""

import datetime
import os
import platform
import subprocess
from importlib import metadata, util
from pathlib import Path

from benchmarks.support import limit

PEERS = "tensorflow", "jax", "optax", "torch", "matplotlib"
PACKAGES = "nagd-keras", "keras", "numpy", "tensorflow", "tensorflow-cpu", "jax", "optax", "torch"
ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def missing() -> list[str]:
    """Returns the names of what could be measured, or used, and is not installed."""
    names = [name for name in PEERS if util.find_spec(name) is None]
    return names if limit.compiler() else [*names, "a C compiler"]


def described() -> dict[str, object]:
    """Returns what identifies a measurement."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "system": platform.system(),
        "machine": platform.machine(),
        "CPU": _cpu(),
        "cores": cores(),
        "load before": load(),
        "Python": platform.python_version(),
        **{name: version for name in PACKAGES if (version := _version(name))},
        "commit": _commit(),
    }


def load() -> float | None:
    """Returns the processes that ran or wanted to, on the average of the last minute."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def cores() -> int:
    """Returns the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return made.stdout.strip()
