"""What torch_sgd_table.py and optax_sgd_table.py run on: the gradient of a quadratic, in NumPy.

A convolution's kernel, a square matrix and a bias. As in a network, nothing in their shapes tells
the order of the axes.
"""

import numpy as np

from tests.support.problems import random_quadratic

FIRST, STEPS = 7, 100  # the steps before the state is taken, and after
RATE, MOMENTUM = 0.2, 0.9
TORCH_SHAPES = [(2, 2, 1, 3), (3, 3), (3,)]  # (out, in, height, width), (out, in), (out,)
OPTAX_SHAPES = [(1, 3, 2, 2), (3,), (3, 3)]  # conv/kernel, dense/bias, dense/weight, sorted
_N = sum(int(np.prod(shape)) for shape in TORCH_SHAPES)
_PROBLEM = random_quadratic(np.random.default_rng(5), _N, condition=30.0)


def start(shapes):
    """Where the runs begin, as float32 arrays."""
    x = np.random.default_rng(6).normal(size=_N).astype(np.float32)
    return _split(x, shapes)


def gradient(arrays):
    """The gradient at arrays of some shapes: computed in float64, rounded to float32."""
    x = np.concatenate([np.ravel(a) for a in arrays]).astype(np.float64)
    return _split(_PROBLEM.gradient(x).astype(np.float32), [np.shape(a) for a in arrays])


def _split(x, shapes):
    parts = np.split(x, np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def decimals(array):
    """The elements of a float32 array as the shortest decimals that give them back."""
    return [float(str(x)) for x in np.ravel(np.asarray(array, np.float32))]


def arrays(numbers, shapes):
    """The reverse of `decimals` for several arrays, one after the other."""
    return _split(np.asarray(numbers, np.float32), shapes)
