"""Seconds of the first step on TensorFlow, to be traced and compiled, each in its own process."""

import subprocess
import sys
import time

from benchmarks.support import child

TABLE = "ResNet-50's 214 variables"
CONTESTANTS = {"no update": None, "Keras SGD": "sgd", "NAGD": "nagd"}


def measure(report: child.Report) -> None:
    """Reports the first step and, to compare with, the third."""
    for name, kind in CONTESTANTS.items():
        command = [sys.executable, "-m", "benchmarks.update.first_step", "--alone", str(kind)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            last = (made.stderr.strip().splitlines() or ["?"])[-1]
            report.row(TABLE, name, error=last[:300])
            continue
        build, first, third = map(float, made.stdout.split()[-3:])
        numbers = {"build s": round(build, 2), "first step s": round(first, 2)}
        report.row(TABLE, name, **numbers, **{"third step ms": round(1e3 * third, 2)})


def _alone(kind: str) -> None:
    from benchmarks.update.models import MODELS
    from benchmarks.update.tensorflow_steps import keras_sgd, training_step, variables_of
    from nagd_keras import NAGD

    optimizer = {"None": lambda: None, "sgd": keras_sgd, "nagd": NAGD}[kind]()
    variables = variables_of(MODELS[TABLE])
    times = [time.perf_counter()]
    step = training_step(variables, optimizer)
    for _ in range(3):
        times.append(time.perf_counter())
        step()
    times.append(time.perf_counter())
    print(times[1] - times[0], times[2] - times[1], times[4] - times[3])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--alone"]:
        _alone(sys.argv[2])
    else:
        child.run(measure)
