"""What DivergenceGuard adds to a step of `fit`, by model and by where states are kept.

    python -m benchmarks.guard
    python -m benchmarks.guard --rates  (see `rates.py`)

The same model is fitted with one guard after the other, in an order that is shuffled each round, on
the backend that Keras is set to. Timed is the second epoch of each fit: in the first the guard
takes the state of the beginning, which is measured apart.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks.guard import rates
from benchmarks.support import environment, timing
from benchmarks.support.cells import Cells
from benchmarks.support.table import line
from nagd_keras import NAGD
from nagd_keras.callbacks import DivergenceGuard

BASE = "without"


def digits(rng: np.random.Generator) -> tuple[Any, Any, Any, int]:
    """Returns the network of examples/digits.py, and batches of 32."""
    layers = [
        keras.Input((64,)),
        keras.layers.Dense(64, activation="tanh"),
        keras.layers.Dense(32, activation="tanh"),
        keras.layers.Dense(10, activation="softmax"),
    ]
    x, y = rng.normal(size=(32 * 100, 64)), rng.integers(10, size=32 * 100)
    return keras.Sequential(layers), x.astype("float32"), y, 32


def wide(rng: np.random.Generator) -> tuple[Any, Any, Any, int]:
    """Returns a network of 10 million weights, and batches of 128."""
    layers = [
        keras.Input((1024,)),
        keras.layers.Dense(3072, activation="relu"),
        keras.layers.Dense(2176, activation="relu"),
        keras.layers.Dense(10, activation="softmax"),
    ]
    x, y = rng.normal(size=(128 * 10, 1024)), rng.integers(10, size=128 * 10)
    return keras.Sequential(layers), x.astype("float32"), y, 128


def convolutional(rng: np.random.Generator) -> tuple[Any, Any, Any, int]:
    """Returns a small network with normalization, and batches of 32."""
    layers = [keras.Input((28, 28, 1))]
    for filters in (16, 32, 64):
        layers += [
            keras.layers.Conv2D(filters, 3, strides=2, use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
        ]
    layers += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10, "softmax")]
    x, y = rng.normal(size=(32 * 30, 28, 28, 1)), rng.integers(10, size=32 * 30)
    return keras.Sequential(layers), x.astype("float32"), y, 32


MODELS = {
    "the network of digits.py, 6 variables": digits,
    "10 M weights, 6 variables": wide,
    "convolutions and normalization, 17 variables": convolutional,
}


def guards() -> dict[str, dict[str, Any]]:
    """Returns the settings of the contestants."""
    return {
        "memory, every batch": {},
        "memory, patience=2": {"patience": 2},
        "memory, every 10 batches": {"snapshot_every": 10},
    }


class Clock(keras.callbacks.Callback):
    """Stands last, and notes how long each epoch takes, other callbacks included."""

    def on_train_begin(self, logs: Any = None) -> None:
        """Begins anew."""
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the clock."""
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Reads it."""
        self.seconds.append(time.perf_counter() - self._began)


def measured(
    make: Callable[..., Any], seconds: float, rounds: int | None
) -> tuple[timing.Times, timing.Times, int]:
    """Returns the seconds of first epochs, those of steps of second ones, and the steps in one."""
    keras.utils.set_random_seed(0)
    model, x, y, size = make(np.random.default_rng(0))
    steps = len(x) // size // (5 if rounds else 1)
    x, y = x[: steps * size], y[: steps * size]
    model.compile(NAGD(1e-4), "sparse_categorical_crossentropy")
    names = [BASE, *guards()]
    starts: timing.Times = {name: [] for name in names}
    times: timing.Times = {name: [] for name in names}
    order, shuffle, clock = list(names), random.Random(0).shuffle, Clock()
    began = time.perf_counter()
    done = -1  # The first round traces.
    while done < rounds if rounds else done < 3 or time.perf_counter() - began < seconds:
        shuffle(order)
        for name in order:
            callbacks: list[Any] = [clock]
            if name != BASE:
                # Labels are random, and so may be the losses of so few batches.
                settings = {"spike_threshold": 100.0, "verbose": 0, **guards()[name]}
                callbacks.insert(0, DivergenceGuard(**settings))
            model.fit(x, y, size, 2, callbacks=callbacks, shuffle=False, verbose=0)
            if done >= 0:
                starts[name].append(clock.seconds[0])
                times[name].append(clock.seconds[1] / steps)
        done += 1
    return starts, times, steps


def train_at_rates(options: argparse.Namespace) -> None:
    """Prints a table for each direction."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.json" if options.quick else rates.RESULTS
        tasks, epochs = (rates.QUICK, 1) if options.quick else (rates.TASKS, None)
        for direction in options.direction or rates.DIRECTIONS:
            plan = rates.Plan(direction, not options.constant, options.seed, epochs)
            rates.report(Cells(path), plan, tasks)


def main() -> None:
    """Prints a table for each model, or what becomes of learning rates that are too high."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.guard", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="for each table")
    parser.add_argument("--quick", action="store_true", help="one short round, to see that it runs")
    parser.add_argument("--rates", action="store_true", help="rates that are too high, instead")
    parser.add_argument("--constant", action="store_true", help="of these: without OneCycle")
    parser.add_argument("--direction", choices=rates.DIRECTIONS, action="append", help="of these")
    parser.add_argument("--seed", type=int, default=1, help="of these")
    options = parser.parse_args()
    if options.rates:
        train_at_rates(options)
        return
    print(*(f"{key}: {value}" for key, value in environment.described().items()), sep="\n")
    print(f"backend: {keras.backend.backend()}")
    for title, make in MODELS.items():
        starts, times, steps = measured(make, options.seconds, 1 if options.quick else None)
        print(f"\n{title}: a step, of {steps} in an epoch, {len(times[BASE])} rounds")
        start = {name: statistics.median(each) for name, each in starts.items()}
        for name, row in timing.compared(times, [BASE]).items():
            row["start ms"] = round(1e3 * (start[name] - start[BASE]), 1)
            print(line({"contestant": name, **row}))


if __name__ == "__main__":
    main()
