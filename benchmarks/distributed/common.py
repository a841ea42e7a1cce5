"""What the processes of `distributed` share: networks, steps in lockstep, bytes on the wire."""

import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.support import child, timing

SGD, NAGD = "Keras SGD", "NAGD"
ONE = "one"  # device or process: what the others are held against
ROUNDS = 11
Step = Callable[[], object]


class Network(NamedTuple):
    """One network, the shape of an example, and how much of it makes a measurement.

    Attributes:
        shape: of one example.
        batch: examples in the batch of all devices together.
        steps: between two readings of the clock, where processes go in step.
    """

    shape: tuple[int, ...]
    batch: int
    steps: int

    def data(self, outputs: int) -> tuple[Any, Any]:
        """Returns one batch of random examples and targets; times do not depend on them."""
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(self.batch, *self.shape)), rng.normal(size=(self.batch, outputs))
        return x.astype("float32"), y.astype("float32")


SMALL = "small: 6 variables, 6,570 weights, batch of 32"
COMPUTE = "compute-bound: convolutions, batch of 256"
UPDATE = "update-bound: one Dense of 4.2 M weights, batch of 8"
NETWORKS = {
    SMALL: Network((64,), 32, 50),
    COMPUTE: Network((8, 8, 1), 256, 2),
    UPDATE: Network((2048,), 8, 5),
}


def model_of(name: str) -> Any:
    """Returns a new model, of the same weights in every process."""
    import keras

    keras.utils.set_random_seed(0)
    dense, convolution = keras.layers.Dense, keras.layers.Conv2D
    layers = {
        # A last layer of another name stays whole where others are cut into columns.
        SMALL: [dense(64, "tanh"), dense(32, "tanh"), dense(10, name="classes")],
        COMPUTE: [
            *[convolution(n, 3, padding="same", activation="relu") for n in (32, 64)],
            keras.layers.GlobalAveragePooling2D(),
            dense(10, name="classes"),
        ],
        UPDATE: [dense(2048, use_bias=False)],
    }[name]
    return keras.Sequential([keras.Input(NETWORKS[name].shape), *layers])


def optimizers() -> dict[str, Callable[[], Any]]:
    """Returns what makes each contestant; so small a rate that no gradient ever vanishes."""
    import keras

    from nagd_keras import NAGD as Nesterov

    rate = 1e-5
    return {
        SGD: lambda: keras.optimizers.SGD(rate, 0.9, nesterov=True),
        NAGD: lambda: Nesterov(rate, 0.9),
        f"{NAGD}, restart and skip": lambda: Nesterov(
            rate, 0.9, restart="gradient", skip_nonfinite=True
        ),
        f"{NAGD}, global_clipnorm": lambda: Nesterov(rate, 0.9, global_clipnorm=1e6),
    }


def sent() -> int | None:
    """Returns the bytes that all processes have sent over the loopback device, or None.

    Over loopback each byte is counted once as sent and once as received; of the two, one is read.
    """
    try:
        lines = Path("/proc/net/dev").read_text().splitlines()
    except OSError:
        return None
    found = [line.split(":")[1].split() for line in lines if line.strip().startswith("lo:")]
    return int(found[0][8]) if found else None


def lockstep(
    report: child.Report,
    table: str,
    contestants: dict[str, tuple[Step | None, dict[str, Any]]],
    gradients: int,
    steps: int,
    reports: bool,
) -> None:
    """Times steps of two processes that must all make the same ones in the same order.

    Args:
        report: gives the number of rounds. No clock can say when to end: the processes would not
            agree.
        table: what the rows have in common.
        contestants: a step, or None where another process makes it alone; and more to report.
        gradients: their bytes.
        steps: between two readings of the clock.
        reports: whether this process gives the rows away.
    """
    rounds = report.rounds or ROUNDS
    steps = min(steps, 3) if report.quick else steps
    for step, _ in contestants.values():
        for _ in range(2 if step else 0):  # The first traces, the second touches the memory.
            step and step()
    idle = _idle() if reports else 0.0
    times: timing.Times = {name: [] for name in contestants}
    wire: dict[str, list[float]] = {name: [] for name in contestants}
    order = list(contestants)
    shuffle = random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            step = contestants[name][0]
            if step is None:
                continue
            step()  # so that the processes meet here, not within what is timed
            before, began = sent(), time.perf_counter()
            for _ in range(steps):
                step()
            passed, after = time.perf_counter() - began, sent()
            times[name].append(passed / steps)
            if before is not None and after is not None:
                wire[name].append((after - before - idle * passed) / steps)
    if not reports:
        return
    for name, row in beside_one({name: each for name, each in times.items() if each}).items():
        if wire[name]:
            # All that both send, for each of them.
            mine = max(0.0, statistics.median(wire[name]) / 2)
            row["kB sent"] = round(mine / 1e3, 2 if mine < 1e6 else 1)
            row["times gradients"] = round(mine / gradients, 3)
        report.row(table, name, **row, **contestants[name][1])


def beside_one(times: timing.Times) -> dict[str, dict[str, object]]:
    """Returns the rows of a table, each with its ratio to the same optimizer on one device."""
    rows = timing.compared(times, [name for name in times if name.endswith(f", {ONE}")])
    for name, row in rows.items():
        own = f"{name.split(',')[0]}, {ONE}"
        for key in [key for key in row if key.startswith(("ratio", "quartiles"))]:
            value = row.pop(key)
            if key.endswith(f" to {own}") and name != own:
                row[f"{key.split()[0]} to {ONE}"] = value
    return rows


def _idle(seconds: float = 0.3) -> float:
    """Returns the bytes a second that others send, or heartbeats."""
    before = sent()
    time.sleep(seconds)
    after = sent()
    return 0.0 if before is None or after is None else (after - before) / seconds


def networks(quick: bool) -> list[str]:
    """Returns the networks of one process."""
    return [SMALL] if quick else list(NETWORKS)


def distributed_networks(quick: bool) -> tuple[str, ...]:
    """Returns those of several processes, where what counts is the wire."""
    return (UPDATE,) if quick else (SMALL, UPDATE)


def distributed_optimizers(quick: bool) -> dict[str, Callable[[], Any]]:
    """Returns the optimizers of several processes."""
    names = list(optimizers())[1:3] if quick else list(optimizers())
    return {name: make for name, make in optimizers().items() if name in names}
