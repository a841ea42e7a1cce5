"""What an update takes: time, of all contestants in turn so that noise meets all, and memory."""

import math
import statistics
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from benchmarks.race.contestants import Draw, of_workload
from benchmarks.race.trial import at_once, batches, compiled
from benchmarks.race.workload import Problem, Workload
from benchmarks.support import timing


def measured(
    workload: Workload,
    problem: Problem,
    draws: dict[str, Draw],
    models: dict[str, keras.Model],
    rounds: int,
) -> dict[str, Any]:
    """Returns the milliseconds of an update of each, and its state's bytes a weight.

    The time is the median over some rounds.

    Args:
        workload: what is trained.
        problem: its data.
        draws: settings of each.
        models: those of contestants that were trained here; the others are made.
        rounds: how often each has its turn.
    """
    calls, sizes = {}, {}
    for who, each in of_workload(full_batch=not workload.batch).items():
        model = models.get(who)
        if model is None:
            model = compiled(workload, problem, each, draws[who], seed=0)
        sizes[who] = round(_bytes(model), 2)
        calls[who] = _updates(model, batches(problem.train, workload.batch, workload.updates, 0))
    times = timing.interleaved(calls, 0.0, rounds)
    median = {who: 1e3 * statistics.median(each) / at_once(workload) for who, each in times.items()}
    ms = {who: round(each, 4) for who, each in median.items()}
    return {"ms": ms, "bytes": sizes, "rounds": rounds}


def _bytes(model: keras.Model) -> float:
    """Returns how many bytes of the optimizer's state there are for each weight that is trained."""
    state = sum(math.prod(v.shape) * tf.as_dtype(v.dtype).size for v in model.optimizer.variables)
    return state / sum(math.prod(v.shape) for v in model.trainable_variables)


def _updates(model: keras.Model, data: tf.data.Dataset) -> Callable[[], dict[str, tf.Tensor]]:
    """Returns a function that updates a model as often as `fit` does at once."""
    model.make_train_function()
    iterator = iter(data.repeat())
    return lambda: model.train_function(iterator)
