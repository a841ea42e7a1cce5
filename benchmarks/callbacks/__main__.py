"""What a callback adds to a step of `fit`, by model: python -m benchmarks.callbacks.

The same model is fitted with one callback after the other, in an order that is shuffled each round,
on the backend that Keras is set to. Timed is the second epoch of each fit: in the first a guard
takes the state of the beginning.
"""

import argparse
import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np

from benchmarks.support import environment, timing
from benchmarks.support.table import line
from nagd_keras import NAGD, callbacks

BASE = "without"
# Labels are random, and so may be the losses of so few batches.
guard = partial(callbacks.DivergenceGuard, spike_threshold=100.0, verbose=0)
MADE: dict[str, Callable[[], Any]] = {
    "DivergenceGuard": guard,
    "DivergenceGuard, patience=2": partial(guard, patience=2),
    "DivergenceGuard, every 10 batches": partial(guard, snapshot_every=10),
    "HyperparameterMonitor": callbacks.HyperparameterMonitor,
    "HyperparameterMonitor, every batch": partial(callbacks.HyperparameterMonitor, 1),
    "OneCycle": callbacks.OneCycle,
    "EvaluateAtIterate": callbacks.EvaluateAtIterate,
    "AdaptiveRestart, every batch": partial(callbacks.AdaptiveRestart, every_n_batches=1),
}


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


class Clock:
    """How long the epochs of a fit take, with all that callbacks between its two do."""

    def __init__(self) -> None:
        """Makes the two callbacks."""
        self.first, self.last = keras.callbacks.Callback(), keras.callbacks.Callback()
        self.seconds: list[float] = []
        self.first.on_epoch_begin = self._begin
        self.last.on_epoch_end = self._end

    def _begin(self, epoch: int, logs: Any = None) -> None:
        self._began = time.perf_counter()

    def _end(self, epoch: int, logs: Any = None) -> None:
        self.seconds.append(time.perf_counter() - self._began)


def measured(
    make: Callable[..., Any], seconds: float, rounds: int | None
) -> tuple[timing.Times, int]:
    """Returns the seconds of steps of second epochs, and the steps in one."""
    keras.utils.set_random_seed(0)
    model, x, y, size = make(np.random.default_rng(0))
    steps = len(x) // size // (5 if rounds else 1)
    x, y = x[: steps * size], y[: steps * size]
    model.compile(NAGD(1e-4), "sparse_categorical_crossentropy")
    names = [BASE, *MADE]
    times: timing.Times = {name: [] for name in names}
    order, shuffle = list(names), random.Random(0).shuffle
    began = time.perf_counter()
    done = -1  # The first round traces.
    while done < rounds if rounds else done < 3 or time.perf_counter() - began < seconds:
        shuffle(order)
        for name in order:
            made = [] if name == BASE else [MADE[name]()]
            clock = Clock()
            made = [clock.first, *made, clock.last]
            model.fit(x, y, size, 2, callbacks=made, shuffle=False, verbose=0)
            if done >= 0:
                times[name].append(clock.seconds[1] / steps)
        done += 1
    return times, steps


def main() -> None:
    """Prints a table for each model."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.callbacks", description=__doc__)
    parser.add_argument("--seconds", type=float, default=90.0, help="for each table")
    parser.add_argument("--quick", action="store_true", help="one short round, to see that it runs")
    options = parser.parse_args()
    print(*(f"{key}: {value}" for key, value in environment.described().items()), sep="\n")
    print(f"backend: {keras.backend.backend()}")
    for title, make in MODELS.items():
        times, steps = measured(make, options.seconds, 1 if options.quick else None)
        print(f"\n{title}: a step, of {steps} in an epoch, {len(times[BASE])} rounds")
        for name, row in timing.compared(times, [BASE]).items():
            print(line({"contestant": name, **row}, 36))


if __name__ == "__main__":
    main()
