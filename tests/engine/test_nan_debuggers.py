"""The debuggers that look for a NaN find none of the optimizer's own."""

import math

import keras
import numpy as np
import pytest

from nagd_keras import NAGD, callbacks, schedules
from tests.family import BRIEF
from tests.support.training import BATCH, data, network

BACKEND = keras.backend.backend()
SETTINGS = {
    **{member.name: member.settings for member in BRIEF},
    **{
        f"{scheme} without momentum": {"restart": scheme, "momentum": 0.0}
        for scheme in ("speed", "gradient")
    },
    "delayed momentum": {"restart": "speed", "momentum": schedules.NesterovMomentum(delay=2)},
}


@pytest.fixture(autouse=True)
def _debugger():
    if BACKEND == "tensorflow":
        import tensorflow as tf

        tf.debugging.enable_check_numerics()
        yield
        tf.debugging.disable_check_numerics()
    elif BACKEND == "jax":
        import jax

        with jax.debug_nans(True):
            yield
    else:
        import torch

        with pytest.warns(UserWarning, match="Anomaly Detection"):
            debugger = torch.autograd.detect_anomaly()
        with debugger:
            yield


def watchers():
    return [
        callbacks.DivergenceGuard(),
        callbacks.AdaptiveRestart(every_n_batches=2),
        callbacks.HyperparameterMonitor(norms=True, every_n_batches=1),
        callbacks.StopAtTolerance(gradient_norm=0.0, relative_loss_change=0.0),
    ]


@pytest.mark.keep(1)
@pytest.mark.parametrize("name", SETTINGS)
def test_nothing_to_see(name, tmp_path):
    """In training, with callbacks, and after loading."""
    settings = SETTINGS[name]
    if "learning_rate_multipliers" in settings:
        settings = {"learning_rate_multipliers": {"hidden": 0.5, "out": 0.0}}
    model = network(NAGD(**settings), jit_compile=False)
    fit = {"epochs": 2, "batch_size": BATCH, "verbose": 0}
    model.fit(*data(), callbacks=watchers(), **fit)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    again.fit(*data(), callbacks=[callbacks.EvaluateAtIterate()], **fit)
    assert int(again.optimizer.iterations) > 0


def test_a_norm_that_is_not_known():
    optimizer = NAGD()
    assert math.isnan(optimizer.gradient_norm)
    optimizer.build([keras.Variable(np.ones(2, "float32"))])
    assert math.isnan(optimizer.gradient_norm)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="there, functions are compiled within others")
@pytest.mark.parametrize("direction", ["gradient", "adaptive", "orthogonal"])
def test_what_is_compiled(monkeypatch, direction):
    """XLA does not know the operations of a debugger, which may come after a first step."""
    import tensorflow as tf

    from nagd_keras.engine.kernels import tensorflow as kernels
    from nagd_keras.engine.kernels import tensorflow_directions

    monkeypatch.setattr(kernels, "LARGE", 1)
    monkeypatch.setattr(tensorflow_directions, "FUSED", 1)
    tf.debugging.disable_check_numerics()
    x = keras.Variable(np.ones((4, 3), "float32"), name="kernel")
    optimizer = NAGD(0.5, 0.0, direction=direction)
    optimizer.build([x])
    for _ in range(2):
        step = tf.function(lambda g: optimizer.apply([g]), autograph=False)
        step(tf.ones((4, 3)))
        tf.debugging.enable_check_numerics()
    assert int(optimizer.age) == 2
