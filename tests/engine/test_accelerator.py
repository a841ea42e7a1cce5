"""On an accelerator updates are the reference's, decide alike, and are not waited for."""

from contextlib import nullcontext

import keras
import numpy as np
import pytest

from nagd_keras import NAGD
from nagd_keras.rules.newton_schulz import orthogonalized
from tests.directions.test_family import MOMENTUM, RATE, SHAPES, check, gradients, optimizer_of
from tests.directions.test_orthogonal import matrix
from tests.family import FAMILY
from tests.reference.family import Reference
from tests.support.drivers import DRIVERS, Run, to_float64
from tests.support.tolerances import TRAJECTORY

pytestmark = pytest.mark.accelerator

BACKEND = keras.backend.backend()
UPDATES = 20
DIRECTIONS = "gradient", "adaptive", "orthogonal"
SETTINGS = "", "restart, gradient", "skip"
MEMBERS = {
    m.name: m
    for m in FAMILY
    if m.name in (*DIRECTIONS, *SETTINGS)
    or m.name in [f"{d}, {s}" for d in DIRECTIONS for s in SETTINGS]
}
# As the backends name them; the first is float32's own arithmetic.
PRECISIONS = {"jax": ("float32", "bfloat16", None), "torch": ("highest", "high", "medium")}


def products(precision):
    """A context in which matrices are multiplied so. By itself JAX rounds their elements."""
    if BACKEND == "jax":
        import jax

        return jax.default_matmul_precision(precision)
    import torch

    torch.set_float32_matmul_precision(precision)
    return nullcontext()


@pytest.fixture(autouse=True)
def _float32_products():
    exact = PRECISIONS[BACKEND][0]
    with products(exact):
        yield
    products(exact)  # as PyTorch begins


def references(member, run):
    return Reference(member, run.look_ahead, np.float32(RATE), np.float32(MOMENTUM))


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("name", MEMBERS)
def test_every_step_is_the_references(name, driver, rng):
    """And restarts, and what is skipped."""
    member = MEMBERS[name]
    start = [rng.normal(size=shape) for shape in SHAPES]
    run = Run(optimizer_of(member), start, "float32", driver)
    reference = references(member, run)
    for step in range(UPDATES):
        found = gradients(member, run.look_ahead, step)
        run.step(found)
        reference.step(found)
        check(run, reference, f"step {step}")
    for counter in member.decides:
        assert getattr(reference, counter) > 0, "nothing is shown"


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("name", ["gradient", "adaptive"])
@pytest.mark.parametrize(("dtype", "size"), [("float32", 2**20 + 3), ("bfloat16", 2**10 + 3)])
def test_large_variables_and_those_of_16_bits(name, dtype, size, driver, rng):
    run = Run(optimizer_of(MEMBERS[name]), [rng.normal(size=size)], dtype, driver)
    reference = references(MEMBERS[name], run)
    for step in range(UPDATES):
        g = keras.ops.cast(run.look_ahead[0] - 0.2, dtype)
        run.step([g])
        reference.step([to_float64(g)])
        error = np.max(np.abs(run.look_ahead[0] - reference.ws[0]))
        assert error <= TRAJECTORY[dtype] * reference.largest[0], f"step {step}"


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("name", DIRECTIONS)
def test_matrices_of_16_bits_descend(name, driver, rng):
    run = Run(NAGD(0.05, 0.8, direction=name), [rng.normal(size=(48, 32))], "bfloat16", driver)
    before = np.linalg.norm(run.look_ahead[0])
    for _ in range(UPDATES):
        run.step(run.look_ahead)
    assert np.linalg.norm(run.look_ahead[0]) < 0.9 * before


@pytest.mark.parametrize("precision", PRECISIONS.get(BACKEND, ()))
@pytest.mark.parametrize("shape", [(64, 64), (60, 500), (512, 256)])
def test_products_as_the_device_makes_them(precision, shape, rng):
    with products(precision):
        for condition in (1, 100):
            g = keras.ops.convert_to_tensor(matrix(rng, *shape, condition), "float32")
            values = np.linalg.svd(to_float64(orthogonalized(g)), compute_uv=False)
            assert values.max() < 1.1
            assert values.min() > 0.85


# What is known to be waited for: the numbers that are added to the counters, and those that
# Keras' operations are handed, come from the host's memory.
@pytest.mark.xfail(reason="a step hands numbers to the device", strict=False)
@pytest.mark.skipif(BACKEND != "torch", reason="PyTorch tells what waits for the device")
@pytest.mark.parametrize("name", DIRECTIONS)
def test_no_step_waits_for_the_device(name, rng):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("only CUDA tells")
    run = Run(NAGD(direction=name), [rng.normal(size=shape) for shape in SHAPES], "float32")
    found = [torch.ones_like(v.value) for v in run.variables]
    with torch.no_grad():
        run.optimizer.apply(found, run.variables)
        torch.cuda.set_sync_debug_mode("error")
        try:
            run.optimizer.apply(found, run.variables)
        finally:
            torch.cuda.set_sync_debug_mode("default")
