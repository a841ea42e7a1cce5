"""Hundreds of steps on every layout: the papers' formulas, one matrix after the other."""

import math

import keras
import numpy as np
import pytest

from nagd_keras import NAGD
from tests.reference import directions as reference
from tests.support.drivers import DRIVERS, LONG_RUNS, Run, to_float64
from tests.support.tolerances import TRAJECTORY, UNIT

STEPS = 300
GAIN = math.prod(a for a, _, _ in reference.POLAR_EXPRESS)  # of a tiny singular value


def whole(g):
    return [g]


def heads_beside(g):
    return [g[:, h] for h in range(g.shape[1])]


def one_by_one(g):
    return list(g)


def gates(g):
    return np.split(g, 4, axis=1)


def flat(g):
    return [g.reshape(-1, g.shape[-1])]


# The path and shape of each variable, and its matrices; None for what is no matrix.
LAYOUTS = {
    "dense/kernel": ((5, 7), whole),
    "dense_1/kernel": ((5, 7), whole),
    "tall/kernel": ((12, 3), whole),
    "conv/kernel": ((2, 3, 2, 5), flat),
    "attention/query/kernel": ((6, 2, 3), heads_beside),
    "attention/key/kernel": ((6, 2, 3), heads_beside),
    "attention/attention_output/kernel": ((2, 3, 6), one_by_one),
    "lstm/recurrent_kernel": ((4, 16), gates),
    "lstm/kernel": ((3, 16), gates),
    "experts/w": ((3, 4, 5), one_by_one),
    "embedding/embeddings": ((9, 4), None),
    "dense/bias": ((7,), None),
    "one/kernel": ((5, 1), None),
    "depthwise_conv2d/kernel": ((2, 2, 3, 1), None),
    "scale": ((), None),
}


def variables(rng):
    found = []
    for path, (shape, _) in LAYOUTS.items():
        *folders, name = path.split("/")
        scope = "/".join(folders)
        variable = keras.Variable(rng.normal(size=shape), name=name, dtype="float32")
        variable._path = f"{scope}/{name}" if scope else name  # As the layers of Keras have it.
        found.append(variable)
    return found


class Slow:
    """One variable: its matrices by themselves, each with slots of its own."""

    def __init__(self, start, cut, direction):
        self.w, self.s, self.cut = start, np.zeros_like(start), cut
        self.largest = np.abs(start).max()
        self.matrices = direction == "orthogonal" and cut is not None
        self.slots = [{} for _ in (cut(start) if self.matrices else [start])]

    def step(self, g, rate, mu, t):
        parts = self.cut(g) if self.matrices else [g]
        rule = reference.matrix if self.matrices else reference.adaptive
        found = []
        for n, part in enumerate(parts):
            d, self.slots[n] = rule(part, self.slots[n], t)
            found.append(d)
        direction = np.zeros_like(g)
        if self.matrices and self.cut is not flat:
            for view, d in zip(self.cut(direction), found, strict=True):
                view[...] = d
        else:
            direction = found[0].reshape(g.shape)
        length = rate * (1 - mu)
        self.s = mu * (self.s - length * direction)
        self.w = self.w - length * direction + self.s
        self.largest = max(self.largest, np.abs(self.w).max())


@pytest.mark.keep(2)
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("direction", ["adaptive", "orthogonal"])
def test_every_step_under_a_random_schedule(direction, driver, rng):
    steps = STEPS if driver == LONG_RUNS else STEPS // 10
    made = variables(rng)
    optimizer = NAGD(0.01, 0.5, direction=direction)
    run = Run.over(optimizer, made, driver)
    slow = [
        Slow(to_float64(v), cut, direction)
        for v, (_, cut) in zip(made, LAYOUTS.values(), strict=True)
    ]
    travelled = 0.0
    for t in range(1, steps + 1):
        rate, mu = rng.uniform(0.001, 0.05), rng.choice([0.0, 0.5, 0.8, 0.95])
        optimizer.learning_rate, optimizer.momentum = rate, mu
        gradients = [np.float32(rng.normal(size=v.shape) * 0.1) for v in made]
        run.step(gradients)
        travelled += rate
        for v, one, g in zip(made, slow, gradients, strict=True):
            one.step(np.float64(g), float(np.float32(rate)), float(np.float32(mu)), t)
            # The rounding of a matrix' small singular values is multiplied, as these are.
            gain = GAIN * 0.2 * max(v.shape) ** 0.5 if one.matrices else 0
            room = TRAJECTORY["float32"] * one.largest + UNIT["float32"] * travelled * gain
            error = np.abs(to_float64(v) - one.w).max()
            assert error <= room, f"{v.path}, update {t}"
