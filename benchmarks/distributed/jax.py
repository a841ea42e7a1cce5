"""Steps on JAX with several devices: virtual ones, or one in each of two processes.

`distributed` runs it. Devices are set up once a process; so each number of them has its own.
"""

import os
import re
import sys
from collections.abc import Callable
from typing import Any

import jax
import keras
from jax.sharding import NamedSharding, PartitionSpec

from benchmarks.distributed.common import (
    NAGD,
    NETWORKS,
    ONE,
    SGD,
    Step,
    distributed_networks,
    distributed_optimizers,
    lockstep,
    model_of,
    networks,
    optimizers,
)
from benchmarks.support import child, timing

# How variables and their slots lie on the devices.
REPLICATED = "DataParallel"  # whole on each; each has its part of the batch
COLUMNS = "ModelParallel"  # each has its columns of every kernel, and the whole batch
SHARDED = "ModelParallel, batch too"  # each has its columns, and its part of the batch


def devices(report: child.Report) -> None:
    """Reports the layouts of as many devices as there are, as one sample of each."""
    keras.distribution.set_distribution(None)
    count = jax.device_count()
    for network in networks(report.quick):
        steps: dict[str, Step] = {}
        sizes: dict[str, dict[str, Any]] = {}
        for layout in (REPLICATED, COLUMNS, SHARDED) if count > 1 else (REPLICATED,):
            where = f"{count} x {layout}" if count > 1 else ONE
            for name in (SGD, NAGD):
                made = step_of(network, optimizers()[name], layout)
                steps[f"{name}, {where}"], sizes[f"{name}, {where}"], _ = made
        times = timing.interleaved(steps, report.seconds, report.rounds)
        for name, row in timing.compared(times, []).items():
            report.row(network, name, **row, **sizes[name])


def processes(report: child.Report) -> None:
    """Reports steps of two processes, and of one alone, while the other waits."""
    place, coordinator = int(os.environ["PLACE"]), os.environ["COORDINATOR"]
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(coordinator, num_processes=2, process_id=place)
    for network in distributed_networks(report.quick):
        contestants: dict[str, tuple[Step | None, dict[str, Any]]] = {}
        size = 0
        for name, make in distributed_optimizers(report.quick).items():
            if name in (SGD, NAGD):
                alone = step_of(network, make, None)[0] if place == 0 else None
                contestants[f"{name}, {ONE}"] = alone, {}
            for layout in (REPLICATED, SHARDED):
                step, sizes, size = step_of(network, make, layout)
                contestants[f"{name}, two, {layout}"] = step, sizes
        lockstep(report, network, contestants, size, NETWORKS[network].steps, place == 0)


def distribution_of(layout: str) -> Any:
    """Returns Keras' distribution over all devices of all processes."""
    names = keras.distribution.list_devices()
    if layout == REPLICATED:
        # Each process feeds the part of the batch that it has; see `_placed`.
        return keras.distribution.DataParallel(devices=names, auto_shard_dataset=False)
    shape = (1, len(names)) if layout == COLUMNS else (len(names), 1)
    mesh = keras.distribution.DeviceMesh(shape, ("batch", "model"), names)
    layouts = keras.distribution.LayoutMap(mesh)
    axis = "model" if layout == COLUMNS else "batch"
    layouts[".*dense.*kernel"] = (None, axis)
    layouts[".*conv.*kernel"] = (None, None, None, axis)
    return keras.distribution.ModelParallel(
        layout_map=layouts, batch_dim_name="batch", auto_shard_dataset=False
    )


def step_of(
    network: str, make: Callable[[], Any], layout: str | None
) -> tuple[Step, dict[str, Any], int]:
    """Returns calls of a training step, what a device holds, and the bytes of the gradients."""
    distribution = distribution_of(layout) if layout else None
    keras.distribution.set_distribution(distribution)
    model = model_of(network)
    optimizer = make()
    optimizer.build(model.trainable_variables)
    # Copies, for the optimizer's own stay its own.
    variables, slots = (
        [jax.numpy.copy(v.value) for v in vs]
        for vs in (model.trainable_variables, optimizer.variables)
    )
    x, y = NETWORKS[network].data(model.output_shape[-1])
    data = _placed(x, distribution), _placed(y, distribution)

    def step(state: Any, x: Any, y: Any) -> Any:
        def loss(variables: Any) -> Any:
            return ((model.stateless_call(variables, [], x, training=True)[0] - y) ** 2).mean()

        variables, slots = state
        value, gradients = jax.value_and_grad(loss)(variables)
        return value, optimizer.stateless_apply(slots, gradients, variables)

    state = (variables, slots)
    # As Keras' trainer does: variables stay where they are, whatever would suit the compiler.
    places = jax.tree.map(lambda a: a.sharding, state)
    compiled = (
        jax.jit(step, donate_argnums=0, out_shardings=(None, places)).lower(state, *data).compile()
    )
    sizes = {
        "MB of weights": _megabytes(variables),
        "MB of slots": _megabytes(slots),
        **_collectives(compiled.as_text()),
    }
    gradients = sum(v.nbytes for v in variables)

    def call() -> None:
        nonlocal state
        value, state = compiled(state, *data)
        jax.block_until_ready((value, state))

    keras.distribution.set_distribution(None)
    return call, sizes, gradients


def _placed(values: Any, distribution: Any) -> Any:
    """Returns one batch, of which each device has its part."""
    if distribution is None:
        return jax.device_put(values, jax.local_devices()[0])
    mesh = distribution.device_mesh.backend_mesh
    spec = PartitionSpec(distribution.batch_dim_name)
    return jax.make_array_from_callback(
        values.shape, NamedSharding(mesh, spec), lambda index: values[index]
    )


def _megabytes(arrays: Any) -> float:
    """Returns what the first of this process' devices holds of them."""
    return round(sum(a.addressable_shards[0].data.nbytes for a in arrays) / 1e6, 3)


def _collectives(program: str) -> dict[str, int]:
    """Returns how many collective operations a compiled step has, by kind."""
    kinds = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
    counts = {k: len(re.findall(rf"\s{k}(?:-start)?\(", program)) for k in kinds}
    return {kind: count for kind, count in counts.items() if count}


if __name__ == "__main__":
    child.run({"devices": devices, "processes": processes}[sys.argv.pop(1)])
