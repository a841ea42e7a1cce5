"""One training run."""

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.race.contestants import Contestant, Draw
from benchmarks.race.workload import Problem, Workload, paired

READINGS = 20
STEPS_PER_EXECUTION = 20  # at most


class Judge(keras.callbacks.Callback):
    """Evaluates at each epoch's end, and ends a run whose numbers are not finite."""

    def __init__(self, problem: Problem, contestant: Contestant) -> None:
        """Takes what is examined, and at which point."""
        super().__init__()
        examined = tf.data.Dataset.from_tensor_slices(paired(problem.examined))
        self.examined, self.point = examined.batch(1024).cache(), contestant.point
        self.read: list[dict[str, float]] = []
        self.ended = False

    def on_epoch_end(self, epoch, logs=None):
        """Evaluates."""
        with self.point(self.model):
            found = self.model.evaluate(self.examined, verbose=0, return_dict=True)
        self.read.append({key: float(value) for key, value in found.items()})
        if not all(map(math.isfinite, self.read[-1].values())):
            self.ended = self.model.stop_training = True


def at_once(workload: Workload) -> int:
    """Returns how many updates are one execution: `fit` makes whole ones, so they must divide."""
    if keras.backend.backend() != "tensorflow":  # PyTorch makes one, and JAX would unroll them.
        return 1
    return math.gcd(workload.updates // READINGS, STEPS_PER_EXECUTION)


def compiled(
    workload: Workload, problem: Problem, contestant: Contestant, draw: Draw, seed: int
) -> keras.Model:
    """Returns a new model, compiled with the contestant's optimizer."""
    keras.utils.set_random_seed(seed)
    model = problem.network()
    model.compile(
        optimizer=contestant.make(draw, workload.updates),
        steps_per_execution=at_once(workload),
        jit_compile=keras.backend.backend() == "jax",
        **problem.settings,
    )
    # Before the first step is traced: Keras' ScheduleFreeAdamW copies the weights here, and copies
    # zeros where `fit` builds it while it traces.
    model.optimizer.build(model.trainable_variables)
    return model


def train(
    workload: Workload, problem: Problem, contestant: Contestant, draw: Draw, seed: int
) -> tuple[dict[str, Any], keras.Model]:
    """Trains, and returns what was read at each of some moments, and the model."""
    keras.backend.clear_session()
    model = compiled(workload, problem, contestant, draw, seed)
    between = workload.updates // READINGS
    judge = Judge(problem, contestant)
    model.fit(
        batches(problem.train, workload.batch, workload.updates, seed),
        steps_per_epoch=between,
        epochs=READINGS,
        callbacks=[*contestant.callbacks(), judge],
        shuffle=False,  # Batches are, already.
        verbose=0,
    )
    made = int(model.optimizer.iterations)
    if not judge.ended and made != workload.updates:
        raise RuntimeError(f"{made} updates were made, and {workload.updates} are the budget")
    found = {
        "settings": draw._asdict(),
        "updates": between,
        **{key: [float(f"{read[key]:.6g}") for read in judge.read] for key in judge.read[0]},
    }
    return found, model


def batches(arrays: tuple[np.ndarray, ...], batch: int, updates: int, seed: int) -> Any:
    """Returns batches of the data: passes through all of it, each in an order of its own."""
    tensors = [tf.constant(a) for a in arrays]
    if not batch:
        return tf.data.Dataset.from_tensors(paired(tensors)).cache().repeat(updates)
    count, rng = len(arrays[0]), np.random.default_rng(seed)
    passes = math.ceil(updates * batch / count)
    order = np.concatenate([rng.permutation(count) for _ in range(passes)])
    rows = tf.data.Dataset.from_tensor_slices(order[: updates * batch].reshape(updates, batch))
    return rows.map(lambda row: paired([tf.gather(t, row) for t in tensors])).prefetch(16)
