"""What a backend cannot do, it refuses with an error that says so; see `support/limits.py`."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest

from nagd_keras import NAGD
from tests.support.drivers import to_float64
from tests.support.limits import LIMITS, reason
from tests.support.training import fit, network

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


def save_by_tensorflow(folder):
    tf = pytest.importorskip("tensorflow")
    tf.saved_model.save(network(NAGD()), str(folder))


def frozen(optimizer):
    """Trains on after a layer was frozen."""
    model = network(optimizer)
    fit(model)
    model.layers[0].trainable = False
    model.compile(optimizer, "mse")
    fit(model)


def other_order(optimizer):
    model = network(optimizer)
    optimizer.build(model.trainable_variables[::-1])
    fit(model)


class Failing(keras.optimizers.SGD):
    def apply(self, *gradients_and_variables):
        raise OSError("failed")


def after_a_failed_step(folder):
    model = network(Failing())
    with pytest.raises(OSError, match="failed"):
        fit(model)
    model.get_weights()


class TwoOptimizers(keras.Sequential):
    def train_step(self, *data):
        self.second.apply([keras.ops.ones(())], [self.extra])
        return super().train_step(*data)


def second_optimizer(folder):
    model = TwoOptimizers([keras.Input((4,)), keras.layers.Dense(1)])
    model.extra, model.second = keras.Variable(1.0), keras.optimizers.SGD(0.1, 0.9)
    model.compile("sgd", "mse")
    fit(model)


# Where Keras refuses, it does so with its own optimizers as well.
OF_ANY = {"NAGD": NAGD, "Keras SGD": lambda: keras.optimizers.SGD(0.1, 0.9)}
CASES = [
    Refused(
        "jax",
        "a model of TensorFlow's",
        save_by_tensorflow,
        ValueError,
        "Expected an object of type `Trackable`",
    ),
    Refused(
        "jax",
        "TensorFlow's checkpoints",
        checkpoint,
        ValueError,
        "was expecting model to be a trackable object",
    ),
    Refused(
        "jax",
        "lazy updates",
        lambda folder: NAGD(sparse_updates="lazy"),
        ValueError,
        r"jax backend gradients do not tell which rows.*Received.*use the tensorflow backend",
    ),
    *(
        Refused(
            "jax",
            "frozen after it was built",
            lambda folder, make=make: frozen(make()),
            ValueError,
            r"Received len\(trainable_variables\) == 2 whereas the optimizer was built with 4",
        )
        for make in OF_ANY.values()
    ),
    *(
        Refused(
            "jax",
            "another order of the variables",
            lambda folder, make=make: other_order(make()),
            ValueError,
            "with a shape that matches the corresponding variable shape",
        )
        for make in OF_ANY.values()
    ),
    # These two are not clear, but Keras' own, and with any optimizer.
    Refused(
        "jax",
        "a model after a failed step",
        after_a_failed_step,
        TypeError,
        "'NoneType' object is not callable",
    ),
    Refused(
        "jax",
        "a second optimizer",
        second_optimizer,
        TypeError,
        "'NoneType' object is not callable",
    ),
    Refused(
        "jax",
        "float64",
        lambda folder: keras.ops.zeros(1, "float64"),
        UserWarning,
        "float64 .* is not available.*JAX_ENABLE_X64",
    ),
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


HERE = [
    case
    for case in CASES
    if case.backend == BACKEND and (case.ability != "float64" or reason("float64"))
]


@pytest.mark.parametrize("case", HERE, ids=str)
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
