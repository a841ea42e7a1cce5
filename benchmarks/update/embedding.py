"""Embeddings on TensorFlow: a step whose gradients name the few rows that a batch looked up."""

import itertools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.support import child
from benchmarks.update.tensorflow_steps import BASE, SGD, keras_sgd, nested
from nagd_keras import NAGD

ROWS = 10**4, 10**5, 10**6
WIDTH = 64
BATCH = 256, 16
BATCHES = 8

OPTIMIZERS = {
    BASE: lambda: None,
    SGD: keras_sgd,
    "NAGD, dense": lambda: NAGD(sparse_updates="dense"),
    "NAGD, lazy": lambda: NAGD(sparse_updates="lazy"),
}


def measure(report: child.Report) -> None:
    """Reports whole steps, by the rows of the table."""
    first: dict[str, float] = {}
    for rows in ROWS[: 2 if report.quick else None]:
        table = f"{rows:,} rows of {WIDTH}"
        contestants = {}
        for name, make in OPTIMIZERS.items():
            try:
                contestants[name] = _step(rows, make())
            except (TypeError, ValueError) as error:
                report.failed(table, name, error)

        def growth(measured: dict[str, Any]) -> dict[str, dict[str, object]]:
            for name, row in measured.items():
                first.setdefault(name, row["ms"])
            return {
                name: {f"times {ROWS[0]:,} rows": round(row["ms"] / first[name], 2)}
                for name, row in measured.items()
            }

        report.race(table, contestants, [SGD], share=1.5, more=growth)


def _step(rows: int, optimizer: Any) -> Callable[[], None]:
    model = keras.Sequential(
        [
            keras.Input((BATCH[1],), dtype="int32"),
            keras.layers.Embedding(rows, WIDTH),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(1),
        ]
    )
    variables = model.trainable_variables
    if optimizer is not None:
        optimizer.build(variables)
    random = np.random.default_rng(0)
    batches = [tf.constant(random.integers(rows, size=BATCH), tf.int32) for _ in range(BATCHES)]
    ids = tf.Variable(batches[0], trainable=False)

    def step() -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(ids.value(), training=True) - 1.0))
        gradients = tape.gradient(loss, variables)
        if optimizer is None:
            values = [g.values if isinstance(g, tf.IndexedSlices) else g for g in gradients]
            return loss + tf.add_n([tf.reshape(v, (-1,))[0] for v in values])
        optimizer.apply(gradients, variables)
        return loss

    compiled = nested(step)
    following = itertools.cycle(batches)

    def call() -> None:
        ids.assign(next(following))
        compiled()

    return call


if __name__ == "__main__":
    child.run(measure)
