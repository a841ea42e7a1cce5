"""Trains over several processes with JAX, and shows that they do what one process does.

Each process feeds its share of every batch to its devices; JAX adds the gradients up over all of
them, so that one update of NAGD is that of the whole batch. This starts two on this machine:

    python examples/multi_process_jax.py

On a cluster the same program runs once on each machine, with the address of the first one and its
own number, or with NAGD_COORDINATOR, NAGD_PROCESSES and NAGD_PROCESS in the environment:

    python examples/multi_process_jax.py --coordinator 10.0.0.1:1234 --processes 2 --process 0
    python examples/multi_process_jax.py --coordinator 10.0.0.1:1234 --processes 2 --process 1

GPUs are used where JAX finds them, else `--devices` parts of the CPU. With `--model-parallel` the
variables of the hidden layers are split over the devices of each process, and with them NAGD's
displacements, its one slot for each variable.

It needs `pip install "nagd-keras[jax,examples]"`: scikit-learn brings the images, and TensorFlow,
beside JAX, the tf.data pipeline, the only kind of data that Keras divides among processes.
"""

import argparse
import os
import socket
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

# Keras reads it once, when it is imported.
if os.environ.setdefault("KERAS_BACKEND", "jax") != "jax":
    raise SystemExit(
        "This example is for Keras' JAX backend, and the environment says KERAS_BACKEND="
        f"{os.environ['KERAS_BACKEND']}. Unset it, or set KERAS_BACKEND=jax."
    )
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
try:
    import jax
    import keras
    import numpy as np
    import tensorflow as tf
    from jax.experimental import multihost_utils
    from sklearn.datasets import load_digits

    from nagd_keras import NAGD, saving
except ImportError as error:
    needs = f'This example needs {error.name}: pip install "nagd-keras[jax,examples]"'
    raise SystemExit(needs) from error

BATCH = 32  # of all processes together
# Several devices add up the same float32 gradients in another order. Each update rounds anew, by
# 6e-8 of a value, and training carries on what was rounded: about 1e-6 after a hundred updates, and
# 2e-6 after a thousand. The same images in other batches make a difference of 1.
TOLERANCE = 1e-4


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line, and what it leaves out from the environment."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    get, add = os.environ.get, parser.add_argument
    add("--epochs", type=positive, default=3, help="epochs of each run")
    add("--processes", type=positive, default=get("NAGD_PROCESSES", "2"), help="in all")
    add("--devices", type=positive, default=2, help="parts of the CPU that each process has")
    add("--model-parallel", action="store_true", help="split the hidden layers' variables")
    add("--coordinator", default=get("NAGD_COORDINATOR"), help="host:port of the first process")
    add("--process", type=int, default=get("NAGD_PROCESS"), help="the number of this one, from 0")
    add("--timeout", type=positive, default=60, help="seconds to wait for the other processes")
    add("--output", type=Path, default=None, help="folder where the first process saves the model")
    options = parser.parse_args(arguments)
    if (options.coordinator is None) != (options.process is None):
        parser.error("--coordinator and --process go together; without both, all are started here")
    if not 0 <= (options.process or 0) < options.processes:
        parser.error(f"--process must be from 0 to {options.processes - 1}")
    if BATCH % (options.processes * options.devices):
        parser.error(f"the batch of {BATCH} must divide among --processes times --devices")
    return options


def positive(text: str) -> int:
    """Reads an integer of at least 1."""
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, received {text}")
    return value


def start_all(options: argparse.Namespace, arguments: list[str]) -> int:
    """Starts the processes on this machine; returns 0, or the code of one that failed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, __file__, *arguments, "--coordinator", address, "--process"]
    started = [subprocess.Popen([*command, str(i)]) for i in range(options.processes)]
    try:
        while None in (codes := [process.poll() for process in started]) and not any(codes):
            time.sleep(0.1)
        return next((code for code in codes if code), 0)
    finally:  # One that failed, or Ctrl-C, ends them all.
        for process in started:
            process.kill()


def join(options: argparse.Namespace) -> None:
    """Meets the other processes, before JAX computes anything."""
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={options.devices}"
    jax.config.update("jax_cpu_collectives_implementation", "gloo")  # between CPUs
    address, count, number = options.coordinator, options.processes, options.process

    def give_up() -> None:
        print(
            f"Process {number} of {count} did not meet all others at {address} within "
            f"{options.timeout} s. Start each, from 0 to {count - 1}, with the same --coordinator "
            "and --processes, and see that the first one's port can be reached.",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)

    # Where a process is missing, JAX aborts the others without an exception. This timer is first.
    timer = threading.Timer(options.timeout, give_up)
    timer.daemon = True
    timer.start()
    # What `keras.distribution.initialize` does, which has no timeout.
    jax.distributed.initialize(address, count, number, initialization_timeout=options.timeout + 60)
    timer.cancel()


def make_distribution(options: argparse.Namespace) -> Any:
    """Returns how variables and batches lie on the devices of all processes."""
    devices = keras.distribution.list_devices()
    if not options.model_parallel:
        return keras.distribution.DataParallel(devices=devices)
    # Between machines go the gradients only; what is split stays within one, where links are fast.
    shape = (options.processes, len(devices) // options.processes)
    mesh = keras.distribution.DeviceMesh(shape, ["batch", "model"], devices)
    layout = keras.distribution.LayoutMap(mesh)
    layout[".*hidden.*/kernel"] = (None, "model")
    layout[".*hidden.*/bias"] = ("model",)
    # Nothing needs to be said of the displacements: they lie as their variables do.
    return keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")


def train(epochs: int) -> tuple[Any, list[np.ndarray]]:
    """Trains as the present distribution says; returns the model, and all values of all epochs."""
    keras.utils.set_random_seed(0)  # Each process makes the same weights and the same batches.
    x, y = load_digits(return_X_y=True)
    data = tf.data.Dataset.from_tensor_slices((np.asarray(x / 16, "float32"), y))
    # The batches of all processes together: `fit` takes the share of this one.
    batches = data.shuffle(len(y), seed=0).repeat().batch(BATCH)
    steps = len(y) // BATCH

    layers = [keras.layers.Dense(64, "tanh", name=f"hidden_{i}") for i in range(2)]
    model = keras.Sequential([keras.Input((64,)), *layers, keras.layers.Dense(10, name="logits")])
    rising = keras.optimizers.schedules.PolynomialDecay(0.5, max(1, epochs * steps // 2), 0.95)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=NAGD(0.02, momentum=rising), loss=loss)

    values: list[np.ndarray] = []
    note = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: values.extend(map(whole, state(model)))
    )
    # The data is shuffled already.
    settings = {"steps_per_epoch": steps, "shuffle": False, "callbacks": [note]}
    model.fit(batches, epochs=epochs, verbose=0 if jax.process_index() else 2, **settings)
    return model, values


def state(model: Any) -> list[Any]:
    """Returns the variables of the model and of its optimizer."""
    return [*model.variables, *model.optimizer.variables]


def whole(variable: Any) -> np.ndarray:
    """Returns all of a variable, of which a process may hold a part; all processes must ask."""
    value = variable.value
    here = value.is_fully_addressable or value.is_fully_replicated
    return np.asarray(value if here else multihost_utils.process_allgather(value, tiled=True))


def print_bytes(model: Any) -> None:
    """Prints what each variable and its displacement take on each device of this process."""
    print(f"{'bytes on each device of the first process':<44}{'variable':>16}{'displacement':>16}")
    for pair in zip(model.trainable_variables, model.optimizer.displacements, strict=True):
        shards = [[str(x.data.nbytes) for x in v.value.addressable_shards] for v in pair]
        name = f"{pair[0].path}, {pair[0].value.nbytes} in all"
        print(f"{name:<44}" + "".join(f"{' '.join(each):>16}" for each in shards))


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the largest difference, relative to the largest value."""
    a, b = (np.nan_to_num(x, nan=-1) for x in (a, b))  # In NAGD's numbers a NaN stands for none.
    return float(np.max(abs(a - b)) / (np.max(abs(b)) or 1))


def save(model: Any, values: list[np.ndarray], folder: Path) -> None:
    """Saves values by a model of this process alone; any number of processes can load them."""
    for variable, value in zip(state(model), values, strict=True):
        variable.assign(value)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "multi_process.keras"
    saving.save_model(model, path)
    loaded = saving.load_model(path)
    for variable, value in zip(state(loaded), values, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value, err_msg=variable.path)
    print(f"Saved, and loaded again by one process: {path}, age {int(loaded.optimizer.age)}")


def main(arguments: list[str]) -> int:
    """Runs the example; returns the exit code."""
    options = parse_arguments(arguments)
    if options.process is None:
        return start_all(options, arguments)
    join(options)
    try:
        with make_distribution(options).scope():
            model, values = train(options.epochs)
    except Exception:
        traceback.print_exc()
        os._exit(1)  # JAX would wait for the others before it lets this process end.
    if options.process > 0:
        return 0
    print_bytes(model)
    print("\nThe same in the first process alone, on one device:")
    alone, wanted = train(options.epochs)
    worst = max(map(difference, values, wanted))
    print("After each epoch, of all variables of model and optimizer:")
    print(f"largest relative difference {worst:.1e}, tolerance {TOLERANCE:.0e}")
    if options.output is not None:
        save(alone, values[-len(state(alone)) :], options.output)
    return int(not worst <= TOLERANCE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
