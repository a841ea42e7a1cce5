"""One training run, as people make it."""

import time
from typing import Any

import keras

from benchmarks.defaults.contestants import Contestant
from benchmarks.defaults.task import Task
from benchmarks.race.workload import Problem, paired


def validated(model: keras.Model, problem: Problem) -> float:
    """Returns the loss of what is not trained with."""
    x, y = paired(problem.examined)
    return model.evaluate(x, y, batch_size=1024, verbose=0, return_dict=True)["loss"]


def train(task: Task, problem: Problem, contestant: Contestant, seed: int) -> dict[str, Any]:
    """Trains; returns the validation loss before and at the end, and the losses of the epochs."""
    began = time.monotonic()
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    model = problem.network()
    optimizer = contestant.make(task.updates(problem))
    model.compile(optimizer=optimizer, jit_compile=False, **problem.settings)
    untrained = validated(model, problem)
    x, y = paired(problem.train)
    callbacks = contestant.callbacks(model, x, y, task.batch)
    history = model.fit(x, y, task.batch, task.epochs, verbose=0, callbacks=callbacks).history
    with contestant.point(model):
        end = validated(model, problem)
    # Where a callback chooses the learning rate: what it was at the ends of the epochs.
    rates = history.get("learning_rate")
    return {
        "untrained": _short(untrained),
        "end": _short(end),
        "epochs": [_short(loss) for loss in history["loss"]],
        **({"rates": [_short(rate) for rate in rates]} if rates else {}),
        "seconds": round(time.monotonic() - began, 2),
    }


def _short(number: float) -> float:
    return float(f"{number:.5g}")
