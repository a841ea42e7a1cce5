"""Training steps on TensorFlow without a model: gradients made in the graph, then an update."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

BASE = "no update"
SGD = "Keras SGD"
CONTRACTED = 8


def keras_sgd(**settings: Any) -> Any:
    """Returns the optimizer that everything is compared with."""
    return keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True, **settings)


def variables_of(shapes: Sequence[tuple[int, ...]]) -> list[Any]:
    """Returns variables of ones, the largest of which share nothing."""
    return [keras.Variable(keras.ops.ones(shape)) for shape in shapes]


def nested(step: Callable[[], Any], jit: bool = False) -> Callable[[], Any]:
    """Returns a graph function within another, as `fit` makes them."""
    inner = tf.function(step, autograph=False, jit_compile=jit)
    return tf.function(lambda: inner(), autograph=False)


def training_step(variables: Sequence[Any], optimizer: Any = None, jit: bool = False) -> Any:
    """Returns a compiled step: gradients of the variables, and an update unless there is none.

    Gradients that were given as constants or variables would be copied by some kernels and not by
    others. Those that are made here are the update's to use, as in training.
    """
    if optimizer is not None:
        optimizer.build(variables)
    gradients_of = _products(variables) if jit else _multiples(variables)

    def step() -> Any:
        gradients = gradients_of()
        # Uses them all, so that without an update none is left out.
        sink = tf.add_n([tf.reshape(g, (-1,))[0] for g in gradients])
        if optimizer is not None:
            optimizer.apply(gradients, variables)
        return sink

    return nested(step, jit)


def _multiples(variables: Sequence[Any]) -> Callable[[], list[Any]]:
    scale = tf.Variable(1e-3)
    return lambda: [scale * v.value for v in variables]


def _products(variables: Sequence[Any]) -> Callable[[], list[Any]]:
    """Gradients that XLA does not make part of the update's loop: products, as a layer's are."""
    factors = [
        [tf.Variable(tf.fill((CONTRACTED, n), 1e-3)) for n in v.shape] if len(v.shape) == 2 else []
        for v in variables
    ]
    scale = tf.Variable(1e-3)
    return lambda: [
        tf.matmul(*f, transpose_a=True) if f else scale * v.value
        for f, v in zip(factors, variables, strict=True)
    ]
