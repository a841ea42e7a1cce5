"""What an experiment is, and how one cell of it is trained: in pieces, each of which is kept."""

import contextlib
import json
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras

from benchmarks.support.cells import replace
from benchmarks.sutskever2013.columns import CLASSICAL, Column
from nagd_keras import callbacks, saving


class Experiment(NamedTuple):
    """A network, its data, and the columns that are tried.

    Attributes:
        name: that of its results.
        columns: the methods.
        directed: those that the paper does not have; they get no long runs.
        rates: the learning rates, from which short runs choose.
        updates: of a long run.
        piece: updates between two readings of the error.
        short: updates of the runs that choose a learning rate.
        model: makes a network, with its loss and its error, for a seed.
        schedule: makes a momentum schedule for a column and a number of updates.
        batches: yields the batches of a piece, for a seed and the number of the piece.
        examined: inputs and targets of which the error is reported.
    """

    name: str
    columns: list[Column]
    directed: list[Column]
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

    It ends early if the error is not finite. What is kept between pieces is a file of weights and
    one of errors, which `forget` deletes.
    """
    model, settings = experiment.model(cell.seed)
    schedule = experiment.schedule(cell.column, cell.updates)
    model.compile(optimizer=cell.column.optimizer(cell.rate, schedule), **settings)
    model.optimizer.build(model.trainable_variables)
    weights, notes = kept(experiment, cell, folder)
    errors, seconds = [], []
    if weights.exists():
        saving.load_weights(model, weights)
        done = int(model.optimizer.iterations) // experiment.piece
        errors, seconds = (each[:done] for each in json.loads(notes.read_text()))
    pieces = math.ceil(cell.updates / experiment.piece)
    bar = keras.utils.Progbar(cell.updates, stateful_metrics=["error"])
    for piece in range(len(errors), pieces):
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
        errors.append(error(model, experiment, cell.column))
        seconds.append(time.monotonic() - began)
        last = piece + 1 == pieces or not math.isfinite(errors[-1])
        done = piece * experiment.piece + updates
        bar.update(done, [("error", errors[-1])], finalize=last)
        if last:
            break
        # In this order: weights of a piece whose error is missing would be trained on too far.
        replace(notes, json.dumps([errors, seconds]))
        saving.save_weights(model, weights)
    return {"errors": errors, "seconds": round(sum(seconds), 1)}


def kept(experiment: Experiment, cell: Cell, folder: Path) -> tuple[Path, Path]:
    """Returns the files of weights, and of errors and seconds, of a run that is not at its end."""
    stem = re.sub(r"[^\w.]+", "-", f"piece {experiment.name} {cell.key()}")
    return folder / f"{stem}.weights.h5", folder / f"{stem}.json"


def forget(experiment: Experiment, cell: Cell, folder: Path) -> None:
    """Deletes them: when the result is stored, and not before."""
    for path in kept(experiment, cell, folder):
        path.unlink(missing_ok=True)


def error(model: keras.Model, experiment: Experiment, column: Column) -> float:
    """Returns the error at the iterate, which is what either method is asked for."""
    inputs, targets = experiment.examined
    is_classical = column.method == CLASSICAL
    with contextlib.nullcontext() if is_classical else callbacks.at_iterate(model):
        found = model.evaluate(inputs, targets, batch_size=1000, verbose=0, return_dict=True)
    return float(found["error"])
