"""What an experiment is, and how one cell of it is trained: in pieces, each of which is kept."""

import contextlib
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras

from benchmarks.sutskever2013.columns import NESTEROV, Column
from nagd_keras import callbacks, saving


class Experiment(NamedTuple):
    """A network, its data, and the columns that are tried.

    Attributes:
        columns: the methods.
        rates: the learning rates, from which short runs choose.
        updates: of a long run.
        piece: updates between two readings of the error.
        short: updates of the runs that choose a learning rate.
        model: makes a network, with its loss and its error, for a seed.
        schedule: makes a momentum schedule for a column and a number of updates.
        batches: yields the batches of a piece, for a seed and the number of the piece.
        examined: inputs and targets of which the error is reported.
    """

    columns: list[Column]
    rates: tuple[float, ...]
    updates: int
    piece: int
    short: int
    model: Callable[[int], tuple[keras.Model, dict[str, Any]]]
    schedule: Callable[[Column, int], Any]
    batches: Callable[[int, int], Any]
    examined: tuple[Any, Any]


class Cell(NamedTuple):
    """One training run of an experiment."""

    column: Column
    rate: float
    updates: int
    seed: int

    def key(self) -> str:
        """Returns the name in the results."""
        return f"{self.column}, {self.rate:g}, {self.updates} updates, seed {self.seed}"


def train(experiment: Experiment, cell: Cell, folder: Path) -> dict[str, Any]:
    """Trains one cell, from where it was interrupted; returns its errors, one for each piece.

    It ends early if the error is not finite. What is kept between pieces is one file each of
    weights and of errors; the second names the piece that the first must be of.
    """
    model, settings = experiment.model(cell.seed)
    schedule = experiment.schedule(cell.column, cell.updates)
    model.compile(optimizer=cell.column.optimizer(cell.rate, schedule), **settings)
    model.optimizer.build(model.trainable_variables)
    weights, notes = folder / "piece.weights.h5", folder / "piece.json"
    found: dict[str, Any] = {"key": cell.key(), "errors": [], "seconds": 0.0}
    if weights.exists() and notes.exists():
        kept = json.loads(notes.read_text())
        if kept["key"] == cell.key():
            saving.load_weights(model, weights)
            done = int(model.optimizer.iterations.numpy()) // experiment.piece
            found = {**kept, "errors": kept["errors"][:done]}
    pieces = math.ceil(cell.updates / experiment.piece)
    bar = keras.utils.Progbar(cell.updates, stateful_metrics=["error"])
    for piece in range(len(found["errors"]), pieces):
        began = time.monotonic()
        updates = min(experiment.piece, cell.updates - piece * experiment.piece)
        model.fit(
            experiment.batches(cell.seed, piece),
            steps_per_epoch=updates,
            initial_epoch=piece,
            epochs=piece + 1,
            shuffle=False,  # Batches are, already.
            verbose=0,
        )
        found["errors"].append(error(model, experiment, cell.column))
        found["seconds"] += time.monotonic() - began
        last = piece + 1 == pieces or not math.isfinite(found["errors"][-1])
        done = piece * experiment.piece + updates
        bar.update(done, [("error", found["errors"][-1])], finalize=last)
        if last:
            break
        # In this order: weights of a piece whose error is missing would be trained on too far.
        notes.write_text(json.dumps(found))
        saving.save_weights(model, weights)
    for path in (weights, notes):
        path.unlink(missing_ok=True)
    return {"errors": found["errors"], "seconds": round(found["seconds"], 1)}


def error(model: keras.Model, experiment: Experiment, column: Column) -> float:
    """Returns the error at the iterate, which is what either method is asked for."""
    inputs, targets = experiment.examined
    place = callbacks.at_iterate(model) if column.method == NESTEROV else contextlib.nullcontext()
    with place:
        found = model.evaluate(inputs, targets, batch_size=1000, verbose=0, return_dict=True)
    return float(found["error"])
