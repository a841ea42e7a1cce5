"""Steps on TensorFlow: two replicas in a process, or a worker of two; `distributed` runs it."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from benchmarks.distributed.common import (
    NAGD,
    NETWORKS,
    ONE,
    SGD,
    Step,
    beside_one,
    distributed_networks,
    distributed_optimizers,
    lockstep,
    model_of,
    networks,
    optimizers,
)
from benchmarks.support import child, timing


def replicas(report: child.Report) -> None:
    """Reports one device and two, which share the machine's cores."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    strategies = {ONE: tf.distribute.get_strategy(), "two replicas": two}
    makers = {name: make for name, make in optimizers().items() if name in (SGD, NAGD)}
    for network in networks(report.quick):
        contestants = {
            f"{name}, {where}": step_of(network, make, strategy)[0]
            for name, make in makers.items()
            for where, strategy in strategies.items()
        }
        times = timing.interleaved(contestants, report.seconds, report.rounds)
        for name, row in beside_one(times).items():
            report.row(network, name, **row)


def processes(report: child.Report) -> None:
    """Reports steps of two workers, and of one alone, while the other waits."""
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=tf.distribute.experimental.CommunicationImplementation.RING
    )
    # Before anything else uses TensorFlow: the workers find each other at the start.
    two = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    first = json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 0
    for network in distributed_networks(report.quick):
        contestants: dict[str, tuple[Step | None, dict[str, Any]]] = {}
        size = 0
        for name, make in distributed_optimizers(report.quick).items():
            if name in (SGD, NAGD):
                alone = step_of(network, make, tf.distribute.get_strategy())[0] if first else None
                contestants[f"{name}, {ONE}"] = alone, {}
            step, size = step_of(network, make, two)
            contestants[f"{name}, two processes"] = step, {}
        lockstep(report, network, contestants, size, NETWORKS[network].steps, first)


def step_of(network: str, make: Callable[[], Any], strategy: Any) -> tuple[Step, int]:
    """Returns calls of a training step on one batch, and the bytes of the gradients.

    A loop of one's own, since `fit` does not go with several workers in Keras 3; and a batch that
    is there, since what feeds a model is not to be measured.
    """
    with strategy.scope():
        model = model_of(network)
        optimizer = make()
        optimizer.build(model.trainable_variables)
    x, y = NETWORKS[network].data(model.output_shape[-1])
    share = len(x) // strategy.num_replicas_in_sync

    def part(values: Any) -> Any:
        def of(context: Any) -> Any:
            start = context.replica_id_in_sync_group * share
            return tf.constant(values[start : start + share])

        return strategy.experimental_distribute_values_from_function(of)

    def one(x: Any, y: Any) -> Any:
        variables = [v.value for v in model.trainable_variables]
        with tf.GradientTape() as tape:
            # Replicas sum their gradients: each takes its part of the mean of all.
            loss = tf.reduce_mean(tf.square(model(x, training=True) - y)) * (share / total)
        optimizer.apply(tape.gradient(loss, variables), model.trainable_variables)
        return loss

    total = len(x)
    data = part(x), part(y)
    run = tf.function(lambda x, y: strategy.run(one, args=(x, y)))

    def call() -> None:
        for loss in strategy.experimental_local_results(run(*data)):
            loss.numpy()

    return call, sum(4 * int(v.value.shape.num_elements()) for v in model.trainable_variables)


if __name__ == "__main__":
    child.run({"replicas": replicas, "processes": processes}[sys.argv.pop(1)])
