"""Peak memory of updates of the large variable on TensorFlow, each optimizer in its own process."""

import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from benchmarks.support import child

TABLE = "one variable of 25 M"
BASE = "no update"
CONTESTANTS = {
    BASE: None,
    "Keras SGD": "sgd",
    "NAGD": "nagd",
    'NAGD, slot_dtype="bfloat16"': "bfloat16",
}
CALLS = 5


def measure(report: child.Report) -> None:
    """Reports the peak up to the second step, that of later ones, and what is the update's."""
    base = None
    for name, kind in CONTESTANTS.items():
        command = [sys.executable, "-m", "benchmarks.update.memory", "--alone", str(kind)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            last = (made.stderr.strip().splitlines() or ["?"])[-1]
            report.row(TABLE, name, error=last[:300])
            continue
        peak, later = map(float, made.stdout.split()[-2:])
        base = later if base is None else base
        numbers = {"peak MB": round(peak), "later peak MB": round(later)}
        report.row(TABLE, name, **numbers, **{"adds MB": round(later - base)})


def _alone(kind: str) -> None:
    from benchmarks.update.models import MODELS
    from benchmarks.update.tensorflow_steps import keras_sgd, training_step, variables_of
    from nagd_keras import NAGD

    optimizer = {
        "None": lambda: None,
        "sgd": keras_sgd,
        "nagd": NAGD,
        "bfloat16": lambda: NAGD(slot_dtype="bfloat16"),
    }[kind]()
    step = training_step(variables_of(MODELS[TABLE]), optimizer)
    step()
    step()
    whole = _peak()
    # The peak so far is that of the start and of the compiler; forget it, where that is possible.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    for _ in range(CALLS):
        step()
    print(whole, _peak())


def _peak() -> float:
    """Returns the megabytes that this process has had at most."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


if __name__ == "__main__":
    if sys.argv[1:2] == ["--alone"]:
        _alone(sys.argv[2])
    else:
        child.run(measure)
