"""Trains as one of the workers of a cluster, and prints how far all are from one process.

`python -m tests.support.workers`, with the cluster in `TF_CONFIG`, for all workers at the same
time.
"""

import json
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from nagd_keras import NAGD
from tests.support.agreement import counters, deviation
from tests.support.replica_cases import SETTINGS, WORKERS
from tests.support.replicas import IDS, SPOILED, X, Y, network

BATCH, UPDATES = 8, 12


def train(name: str, strategy: Any) -> Any:
    """Trains with the whole batches, or with this worker's share of them."""
    case = SETTINGS[name]
    inputs = IDS if case.table else SPOILED if case.spoiled else X
    workers = strategy.num_replicas_in_sync
    place = strategy.cluster_resolver.task_id if workers > 1 else 0
    with strategy.scope():
        model = network(
            lambda: NAGD(0.125, case.momentum, **case.settings), case.table, case.constraint
        )
        optimizer, weights = model.optimizer, model.trainable_variables
        optimizer.build(weights)

    def on_replica(x: Any, y: Any) -> None:
        with tf.GradientTape() as tape:
            loss = keras.ops.sum(keras.ops.square(model(x) - y)) / BATCH
        optimizer.apply(tape.gradient(loss, weights), weights)

    @tf.function
    def step(x: Any, y: Any) -> None:
        strategy.run(on_replica, (x, y))

    for update in range(UPDATES):
        rows = np.arange(BATCH).reshape(workers, -1)[place] + BATCH * update % len(X)
        if update == UPDATES // 2:
            optimizer.momentum = case.momentum / 2
        step(tf.constant(inputs[rows]), tf.constant(Y[rows]))
    optimizer.finalize_variable_values(weights)
    return model


def main() -> dict[str, Any]:
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    found = {}
    for name in WORKERS:
        several = train(name, strategy)
        one = train(name, tf.distribute.get_strategy())
        found[name] = {
            "deviation": deviation(several, one),
            "counters": [counters(several), counters(one)],
        }
    # All end together, lest TensorFlow takes those that are ready for dead.
    strategy.reduce("SUM", tf.constant(0.0), axis=None)
    return found


if __name__ == "__main__":
    print("found:", json.dumps(main()))
