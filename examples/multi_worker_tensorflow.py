"""Trains with NAGD under MultiWorkerMirroredStrategy, in a custom loop that survives a worker.

Keras 3's `fit` fails under this strategy (keras-team/keras#20585); a loop of one's own works.

    python examples/multi_worker_tensorflow.py

starts two workers on this machine, all of them again from the last checkpoint if one dies, and
compares with training on the same batches in one process. On several machines, start it on each,
with an own index in TF_CONFIG, and with a folder that all of them see:

    export TF_CONFIG='{"cluster": {"worker": ["10.0.0.1:12345", "10.0.0.2:12345"]},
                       "task": {"type": "worker", "index": 0}}'
    python examples/multi_worker_tensorflow.py --output /shared/checkpoints

If a worker dies there, the others end with an error. Start all of them again, as schedulers of
clusters do: they go on from the last checkpoint, also if there are more of them now, or fewer.
"""

import argparse
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

from nagd_keras import NAGD, schedules

BATCH = 48  # images in a global batch, that of all replicas together
SAVE_EVERY = 20  # updates
LOWER_AT, LOWER_RATE = 60, 0.02  # the learning rate from that update on
# Replicas add up the gradients of a batch in another order. Each update rounds anew, and training
# carries it on: some ten units here. A learning rate that comes one update late shows at 800,000.
TOLERANCE = 512  # in units of float32 rounding, 2^-24 of a variable's largest element


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description="Trains under MultiWorkerMirroredStrategy, and survives a worker.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--epochs", type=int, default=4, help="in all, those before a restart included")
    add("--workers", type=int, default=2, help="processes to start, if there is no TF_CONFIG")
    add("--output", type=Path, help="folder of the checkpoints; if none, one for this run only")
    add("--timeout", type=int, default=60, help="seconds to wait for another worker")
    add("--restarts", type=int, default=2, help="how often to start again when a worker has died")
    add("--kill-at-step", type=int, help="the last worker kills itself there, once, for show")
    options = parser.parse_args(arguments)
    if min(options.epochs, options.workers, options.timeout, options.restarts + 1) < 1:
        parser.error("--epochs, --workers and --timeout must be at least 1, --restarts at least 0")
    if BATCH % options.workers:
        parser.error(f"--workers must divide the batch of {BATCH}, received {options.workers}")
    if "TF_CONFIG" in os.environ and options.output is None:
        parser.error("with TF_CONFIG, --output must name a folder that all workers see")
    try:
        if options.output is not None:
            options.output.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=options.output).close()
    except OSError as error:
        parser.error(f"cannot write into --output {options.output}: {error}")
    return options


def read_cluster(text: str) -> tuple[list[tuple[str, int]], int]:
    """Returns the host and port of all workers, the chief's first, and the place of this one."""
    try:
        config = json.loads(text)
        jobs, task = config["cluster"], config["task"]
        names = [(job, i) for job in ("chief", "worker") for i in range(len(jobs.get(job, [])))]
        addresses = [jobs[job][i].rsplit(":", 1) for job, i in names]
        place = names.index((task["type"], int(task["index"])))
        return [(host, int(port)) for host, port in addresses], place
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SystemExit(
            f"TF_CONFIG does not name the workers, and which of them this is ({error!r}). Received:"
            f' {text!r}. Expected: {{"cluster": {{"worker": ["host:port", ...]}}, '
            '"task": {"type": "worker", "index": 0}}. Unset it to start workers here.'
        ) from error


def meet(addresses: list[tuple[str, int]], place: int, timeout: float) -> None:
    """Waits until all workers can be reached.

    TensorFlow waits by itself, but for very long, and Python can do nothing meanwhile. So each
    worker listens at its port until it has reached all others, and then leaves it to TensorFlow,
    which answers those that are still to come.
    """
    deadline = time.monotonic() + timeout
    try:
        door = socket.create_server(("", addresses[place][1]))
    except OSError as error:
        raise SystemExit(f"Worker {place} cannot use its port of TF_CONFIG: {error}") from error
    with door:
        for host, port in addresses[:place] + addresses[place + 1 :]:
            reached = False
            while not reached:
                try:
                    socket.create_connection((host, port), timeout=1).close()
                    reached = True
                except OSError as error:
                    if time.monotonic() > deadline:
                        raise SystemExit(
                            f"Worker {place} could not reach the one at {host}:{port} within "
                            f"{timeout} seconds ({error}). Is it started, with the same cluster in "
                            "TF_CONFIG, and may this machine connect to that port? --timeout gives "
                            "it more time."
                        ) from error
                    time.sleep(0.2)


def train(options: argparse.Namespace, strategy: Any, output: Path, chief: bool) -> list[Any]:
    """Trains from the last checkpoint in a folder, if there is one; returns all arrays."""
    x, y = load_digits(return_X_y=True)
    x = np.asarray(x / 16, "float32")
    per_epoch = len(x) // BATCH
    # Every worker knows the order of all batches, so that it can take its share of those left.
    shuffled = [np.random.default_rng(epoch).permutation(len(x)) for epoch in range(options.epochs)]
    order = np.concatenate([each[: per_epoch * BATCH] for each in shuffled])

    keras.utils.set_random_seed(0)
    with strategy.scope():  # The variables that are made here have a copy on every replica.
        layers = [keras.layers.Dense(64, "tanh"), keras.layers.Dense(10, "softmax")]
        model = keras.Sequential([keras.Input((64,)), *layers])
        weights = model.trainable_variables
        optimizer = NAGD(0.1, momentum=schedules.SutskeverMomentum(max_momentum=0.95, period=20))
        optimizer.build(weights)  # so that the checkpoint finds all variables

    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer)
    latest = tf.train.latest_checkpoint(str(output))  # the chief's, for all workers
    if latest:
        checkpoint.restore(latest).assert_existing_objects_matched()
    first = int(optimizer.iterations.numpy())  # The updates are counted, and saved, there.
    if latest and chief:
        print(f"from {latest}: update {first}, epoch {first / per_epoch:.1f}", flush=True)

    def share(context: Any) -> Any:
        """Returns what this worker is to do of the batches that are left."""
        data = tf.data.Dataset.from_tensor_slices(order[first * BATCH :])
        data = data.shard(context.num_input_pipelines, context.input_pipeline_id)
        data = data.batch(context.get_per_replica_batch_size(BATCH))
        return data.map(lambda rows: (tf.gather(x, rows), tf.gather(y, rows))).prefetch(2)

    @tf.function
    def step(images: Any, labels: Any) -> Any:
        """Makes one update; returns the mean loss over the global batch."""

        def on_replica(images: Any, labels: Any) -> Any:
            with tf.GradientTape() as tape:
                losses = keras.losses.sparse_categorical_crossentropy(labels, model(images))
                # Divided by the global batch, since `apply` adds up the gradients of the replicas.
                loss = tf.nn.compute_average_loss(losses, global_batch_size=BATCH)
            optimizer.apply(tape.gradient(loss, weights), weights)
            return loss

        return strategy.reduce("SUM", strategy.run(on_replica, (images, labels)), axis=None)

    with tempfile.TemporaryDirectory() as discarded:
        # All workers save, since it may take all of them to read a variable, such as one that is
        # the sum over the replicas. Only what the chief saves is kept.
        folder = str(output) if chief else discarded
        manager = tf.train.CheckpointManager(checkpoint, folder, max_to_keep=3)
        batches = iter(strategy.distribute_datasets_from_function(share))
        losses = []
        for update in range(first, per_epoch * options.epochs):
            if update == options.kill_at_step:
                os.kill(os.getpid(), signal.SIGKILL)
            if update == LOWER_AT:  # Numbers can be set while training, on all workers alike.
                optimizer.learning_rate = LOWER_RATE
            losses.append(step(*next(batches)))
            done = update + 1
            if done % SAVE_EVERY == 0 or done == per_epoch * options.epochs:
                manager.save(checkpoint_number=done)
                if chief:
                    age, momentum = optimizer.age.numpy(), optimizer.momentum.numpy()
                    print(
                        f"update {done:4}, epoch {done / per_epoch:.1f}: "
                        f"loss {np.mean(losses):.4f}, age {age}, next momentum {momentum:.3f}",
                        flush=True,
                    )
                losses = []
    return [variable.numpy() for variable in [*model.variables, *optimizer.displacements]]


def work(options: argparse.Namespace) -> None:
    """Is the worker that TF_CONFIG describes."""
    addresses, place = read_cluster(os.environ["TF_CONFIG"])
    meet(addresses, place, options.timeout)
    # If another worker is stuck, waiting for it ends with an error, too.
    waits = tf.distribute.experimental.CommunicationOptions(timeout_seconds=options.timeout)
    strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=waits)
    if place != len(addresses) - 1:
        options.kill_at_step = None
    train(options, strategy, options.output, chief=place == 0)
    # All end together, lest TensorFlow takes those that are ready for dead.
    strategy.reduce("SUM", tf.constant(0.0), axis=None)


def launch(options: argparse.Namespace) -> None:
    """Starts the workers on this machine, and all of them again when one has died."""
    command = [sys.executable, __file__, *sys.argv[1:], f"--output={options.output}"]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # not without the `finally` below
    for left in range(options.restarts, -1, -1):
        doors = [socket.create_server(("", 0)) for _ in range(options.workers)]
        cluster = {"worker": [f"localhost:{door.getsockname()[1]}" for door in doors]}
        for door in doors:  # Its port is free, then.
            door.close()
        workers = []
        try:
            for index in range(options.workers):
                config = {"cluster": cluster, "task": {"type": "worker", "index": index}}
                # On the CPU, since each worker would take all GPUs of the machine.
                settings = {"TF_CONFIG": json.dumps(config), "CUDA_VISIBLE_DEVICES": "-1"}
                workers.append(subprocess.Popen(command, env={**os.environ, **settings}))
            while None in (codes := [worker.poll() for worker in workers]) and not any(codes):
                time.sleep(0.1)
        finally:  # Without the one that died, the others wait for it.
            for worker in workers:
                worker.kill()
                worker.wait()
        if not any(codes):
            return
        died = [f"worker {i} (exit code {code})" for i, code in enumerate(codes) if code]
        print(f"died: {', '.join(died)}; stopped all; {left} restarts left", flush=True)
        command.append("--kill-at-step=-1")  # It was shown.
    raise SystemExit("The workers did not come to the end; their errors are above.")


def compare(options: argparse.Namespace) -> None:
    """Trains in this process alone, and compares with what the workers have saved."""
    options.kill_at_step = None
    one = tf.distribute.get_strategy()  # the default, with one replica
    together = train(options, one, options.output, chief=False)  # which finds nothing left to do
    digest = hashlib.sha256(b"".join(value.tobytes() for value in together)).hexdigest()
    print(f"all bits of weights and displacements: {digest[:16]}")
    with tempfile.TemporaryDirectory() as empty:
        alone = train(options, one, Path(empty), chief=False)
    pairs = zip(alone, together, strict=True)
    units = 2**24 * np.max([np.max(np.abs(a - b)) / np.max(np.abs(a)) for a, b in pairs])
    print(f"one process: differs by {units:.0f} units of float32 rounding, at most {TOLERANCE} may")
    if not units <= TOLERANCE:
        raise SystemExit("The workers do not agree with one process.")


def main() -> None:
    """Runs the example."""
    if keras.backend.backend() != "tensorflow":
        raise SystemExit("tf.distribute needs the environment's KERAS_BACKEND=tensorflow.")
    options = parse_arguments()
    if "TF_CONFIG" in os.environ:
        work(options)
        return
    tf.config.set_visible_devices([], "GPU")  # as for the workers
    with tempfile.TemporaryDirectory() as folder:
        options.output = options.output or Path(folder)
        launch(options)
        compare(options)


if __name__ == "__main__":
    main()
