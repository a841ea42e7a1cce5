"""Training runs that are interrupted and go on in other processes, for `state/test_resume.py`.

    python -m tests.support.resume_runs FOLDER EPOCH

trains every case until the middle of that epoch (to the end, if there is no such epoch), from the
backup that FOLDER holds, and writes what was logged, and at the end the weights, into FOLDER.
"""

import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np

from nagd_keras import callbacks, schedules
from tests.support.drivers import to_float64
from tests.support.training import BATCH, STEPS, Way, data, nagd

EPOCHS = 6
CASES: dict[str, Any] = {
    "momentum scheduler": lambda: [
        callbacks.MomentumScheduler(lambda epoch, momentum: min(0.95, momentum + 0.03))
    ],
    "one cycle": lambda: [callbacks.OneCycle(0.05, momentum=(0.95, 0.85))],
    "one cycle to its own rate": lambda: [callbacks.OneCycle()],
    "one cycle of given length": lambda: [callbacks.OneCycle(0.05, total_steps=EPOCHS * STEPS)],
    "restart on epochs": lambda: [callbacks.AdaptiveRestart()],
    "restart on batches": lambda: [callbacks.AdaptiveRestart(every_n_batches=2)],
    "stop": lambda: [callbacks.StopAtTolerance(relative_loss_change=0.6, patience=4)],
    "stop by gradient": lambda: [callbacks.StopAtTolerance(gradient_norm=1e-9)],
    "evaluate at the iterate": lambda: [callbacks.EvaluateAtIterate()],
    "everything": lambda: [
        callbacks.EvaluateAtIterate(),
        callbacks.OneCycle(0.05, momentum=(0.95, 0.85)),
        callbacks.AdaptiveRestart("val_loss"),
    ],
    "schedules": lambda: [],
}
SETTINGS: dict[str, Any] = {
    "restart on epochs": {"learning_rate": 0.2, "momentum": 0.97},
    "restart on batches": {"learning_rate": 0.2, "momentum": 0.97},
    "schedules": {
        "learning_rate": schedules.LinearWarmup(0.05, steps=10),
        "momentum": schedules.Piecewise([20], [schedules.NesterovMomentum(), 0.9]),
        "weight_decay": schedules.OneCycle(0.0, 0.1, 0.0, EPOCHS * STEPS),
        "learning_rate_multipliers": {"out/": 0.5},
    },
}
SAVED_AFTER = {"restart on epochs", "stop", "stop by gradient", "everything"}
WAYS = {"mixed float16": Way("mixed float16", policy="mixed_float16")}


class Interruption(keras.callbacks.Callback):
    """Ends the run in the middle of an epoch."""

    def __init__(self, epoch: int | None) -> None:
        super().__init__()
        self._epoch = epoch
        self._now = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._now = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._now == self._epoch and batch >= STEPS // 2:
            raise InterruptedError


def names() -> list[str]:
    return [*CASES, *(f"everything, {way}" for way in WAYS)]


def run(name: str, interrupt_at: int | None, folder: Path | None = None) -> dict[str, Any]:
    """Trains one case; returns the logs of each epoch, and the final variables."""
    case, _, way = name.partition(", ")
    model = WAYS.get(way, Way("plain")).start(**SETTINGS.get(case, {"learning_rate": 0.05}))
    log = Log()
    backup = [] if folder is None else [keras.callbacks.BackupAndRestore(folder / name)]
    listed = [*CASES[case](), callbacks.HyperparameterMonitor(norms=True)]
    # Those that change the optimizer at the end of an epoch must do so before it is saved.
    listed = [*listed, *backup] if case in SAVED_AFTER else [*backup, *listed]
    done = True
    try:
        model.fit(
            *data(),
            batch_size=BATCH,
            epochs=EPOCHS,
            shuffle=False,
            verbose=0,
            validation_data=data(),
            callbacks=[*listed, log, Interruption(interrupt_at)],
        )
    except InterruptedError:
        done = False
    variables = [*model.variables, *nagd(model).variables]
    return {
        "logs": log.epochs,
        # As text, for which one NaN is like another.
        "variables": [repr(to_float64(v).tolist()) for v in variables] if done else None,
    }


class Log(keras.callbacks.Callback):
    """Keeps the logs of epochs, which History loses with the process."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: dict[str, dict[str, float]] = {}

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epochs[str(epoch)] = {key: float(np.float64(x)) for key, x in (logs or {}).items()}


if __name__ == "__main__":
    where, epoch = Path(sys.argv[1]), int(sys.argv[2])
    results = {name: run(name, epoch, where / "backup") for name in names()}
    (where / f"{epoch}.json").write_text(json.dumps(results))
