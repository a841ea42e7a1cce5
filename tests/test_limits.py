"""What a backend cannot do, it refuses with an error that says so; see `limits.py`."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest

from nagd_keras import NAGD
from tests.drivers import to_float64
from tests.limits import LIMITS
from tests.training import fit, network

BACKEND = keras.backend.backend()


@dataclass(frozen=True)
class Refused:
    """What is done, and what the error says: Keras', TensorFlow's or ours."""

    backend: str
    ability: str
    do: Callable[[Any], Any]
    error: type[Exception]
    match: str

    def __str__(self) -> str:
        return f"{self.backend}: {self.ability}"


def checkpoint(folder):
    tf = pytest.importorskip("tensorflow")
    tf.train.Checkpoint(model=network(NAGD()))


CASES = [
    Refused(
        "torch",
        "steps per execution",
        lambda folder: fit(network(NAGD(), steps_per_execution=2)),
        ValueError,
        r"must be 1 with the PyTorch backend.*Received: steps_per_execution=2",
    ),
    Refused(
        "torch",
        "TensorFlow's checkpoints",
        checkpoint,
        ValueError,
        "was expecting model to be a trackable object",
    ),
    Refused(
        "torch",
        "lazy updates",
        lambda folder: NAGD(sparse_updates="lazy"),
        ValueError,
        r"torch backend gradients do not tell which rows.*Received.*use the tensorflow backend",
    ),
]


@pytest.mark.parametrize("case", [case for case in CASES if case.backend == BACKEND], ids=str)
def test_what_is_refused(case, tmp_path):
    with pytest.raises(case.error, match=case.match):
        case.do(tmp_path)


def test_every_limit_has_its_reason():
    for ability, reasons in LIMITS.items():
        assert set(reasons) <= {"tensorflow", "jax", "torch"}, ability
        assert all(reasons.values()), ability


# What is wrong in silence, with any optimizer


@pytest.mark.skipif(BACKEND != "torch", reason=LIMITS["layers of the same path"]["torch"])
def test_layers_of_the_same_path_sum_their_gradients():
    """If this fails, Keras is mended, and the limit can go."""

    def stack(name):
        return keras.Sequential([keras.layers.Dense(2, name="same")], name=name)

    inputs = keras.Input((2,))
    model = keras.Model(inputs, stack("second")(stack("first")(inputs)))
    model.compile(optimizer=keras.optimizers.SGD(0.0), loss="mse")
    loaded = copy.deepcopy(model)  # where the paths lack the names of the stacks
    for each, parameters in ((model, 4), (loaded, 2)):
        assert len(list(each.parameters())) == parameters
        bias = each.trainable_variables[1]
        norms = []
        for _ in range(2):
            each.train_on_batch(np.eye(2), np.eye(2))
            norms.append(np.linalg.norm(to_float64(bias.value.grad)))
        assert norms[1] == pytest.approx(norms[0] * (1 if each is model else 2))
