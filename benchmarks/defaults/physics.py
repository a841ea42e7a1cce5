"""A task without data: a network that is to solve a differential equation."""

import functools

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from benchmarks.race.workload import Problem

VISCOSITY = 0.1 / np.pi


@keras.saving.register_keras_serializable(package="benchmarks")
class Burgers(keras.Model):
    """Trains so that u_t + u u_x = v u_xx; what is evaluated has u itself as its targets.

    At the beginning u = -sin(pi x), and at both ends it is 0.
    """

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Returns the mean square of what is wrong, or when it is evaluated, of the error."""
        if not training:
            return tf.reduce_mean(tf.square(y - y_pred))
        place, time = tf.split(tf.convert_to_tensor(x), 2, axis=1)
        with tf.GradientTape() as outer:
            outer.watch(place)
            with tf.GradientTape(persistent=True) as inner:
                inner.watch([place, time])
                u = self(tf.concat([place, time], 1), training=True)
            slope = inner.gradient(u, place)
            change = inner.gradient(u, time)
        within = change + u * slope - VISCOSITY * outer.gradient(slope, place)
        ends = tf.sign(place)
        first = self(tf.concat([place, 0 * time], 1), training=True) + tf.sin(np.pi * place)
        last = self(tf.concat([ends, time], 1), training=True)
        return sum(tf.reduce_mean(tf.square(wrong)) for wrong in (within, first, last))


def solution(place, time):
    """Returns u by the formula of Cole and Hopf, its integrals by Gauss' and Hermite's rule."""
    nodes, weights = np.polynomial.hermite.hermgauss(200)
    y = place - np.sqrt(4 * VISCOSITY * time) * nodes
    exponent = -np.cos(np.pi * y) / (2 * np.pi * VISCOSITY)
    density = weights * np.exp(exponent - exponent.max(axis=1, keepdims=True))
    return -(density * np.sin(np.pi * y)).sum(1, keepdims=True) / density.sum(1, keepdims=True)


@functools.cache
def burgers() -> Problem:
    """Returns points at which Burgers' equation is to hold, its solution at others, a network."""
    rng = np.random.default_rng(0)
    x, z = (rng.uniform([-1, 0], [1, 1], (count, 2)) for count in (1280, 512))

    def network():
        inputs = y = keras.Input((2,))
        for _ in range(3):
            y = layers.Dense(32, "tanh")(y)
        return Burgers(inputs, layers.Dense(1)(y))

    wanted = solution(z[:, :1], z[:, 1:])
    train = x.astype("float32"), np.zeros((len(x), 1), "float32")
    return Problem(network, train, (z.astype("float32"), wanted.astype("float32")), {})
