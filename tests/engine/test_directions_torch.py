"""On PyTorch small variables of an elementwise direction take the steps that each takes alone."""

import keras
import numpy as np
import pytest

from nagd_keras import NAGD
from nagd_keras.directions import Adaptive
from nagd_keras.engine import groups

if keras.backend.backend() != "torch":
    pytest.skip("the others compile the formula", allow_module_level=True)

import torch

SHAPES = [(3, 4), (5,), (), (0, 2), (2, 3, 2), (7,)]


def trained(steps=12):
    rng = np.random.default_rng(0)
    variables = [keras.Variable(rng.normal(size=s).astype("float32")) for s in SHAPES]
    optimizer = NAGD(0.01, direction="adaptive", weight_decay=0.1)
    optimizer.build(variables)
    for _ in range(steps):
        gradients = [torch.tensor(rng.normal(size=s).astype("float32")) for s in SHAPES]
        gradients[1] = gradients[1].repeat_interleave(2)[::2]  # not contiguous
        optimizer.apply(gradients, variables)
    return [v.numpy() for v in (*variables, *optimizer.variables)]


@pytest.mark.parametrize("alone", ["by the formula", "in pieces"])
def test_joined_as_alone(monkeypatch, alone):
    with monkeypatch.context() as patched:
        patched.setattr(Adaptive, "direct_all", None)  # by which the formula would join them
        found = trained()
    monkeypatch.setattr(groups, "LESS", (-1, 1))
    if alone == "by the formula":
        monkeypatch.setattr("nagd_keras.engine.kernels.torch.same_shapes", lambda *_: False)
    wanted = trained()
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
