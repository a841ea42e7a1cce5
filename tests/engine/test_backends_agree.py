"""The three backends take the same 300 steps; where more than one of them is installed."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.backend_run import SETTINGS, STEPS

ROOT = Path(__file__).parents[2]
BACKENDS = [
    name for name in ("tensorflow", "jax", "torch") if importlib.util.find_spec(name) is not None
]
pytestmark = pytest.mark.skipif(
    len(BACKENDS) < 2, reason=f"there is no other backend here than {BACKENDS[0]}"
)
CLOSE = {"float32": 1e-6, "float64": 1e-12}


@pytest.fixture(scope="module")
def trajectories(tmp_path_factory):
    """All trajectories, by backend."""
    found = {}
    for backend in BACKENDS:
        file = tmp_path_factory.mktemp("trajectories") / f"{backend}.npz"
        subprocess.run(
            [sys.executable, "-m", "tests.support.backend_run", str(file)],
            env={**os.environ, "KERAS_BACKEND": backend, "JAX_ENABLE_X64": "1"},
            cwd=ROOT,
            check=True,
        )
        with np.load(file) as arrays:
            found[backend] = dict(arrays)
    return found


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("name", SETTINGS)
def test_the_same_steps(trajectories, name, dtype):
    first, *others = BACKENDS
    wanted = trajectories[first][f"{name}, {dtype}"]
    assert wanted.shape[0] == STEPS
    assert np.ptp(wanted, axis=0).min() > 0.1  # They lead somewhere.
    for other in others:
        error = (
            np.abs(trajectories[other][f"{name}, {dtype}"] - wanted).max() / np.abs(wanted).max()
        )
        assert error <= CLOSE[dtype], f"{other} and {first}"
