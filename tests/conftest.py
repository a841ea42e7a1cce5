import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
# Else the first of several processes would take most of an accelerator's memory.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import hypothesis
import keras
import numpy as np
import pytest

from tests.support import accelerator, long
from tests.support.limits import reason

# The same examples on every run, and no deadline: the first call of an operation compiles it. JAX
# compiles each for every shape, which takes it as long for ten examples as the others for thirty.
EXAMPLES = 10 if keras.backend.backend() == "jax" else 30
hypothesis.settings.register_profile(
    "tests", deadline=None, derandomize=True, max_examples=EXAMPLES
)
hypothesis.settings.load_profile("tests")


@pytest.hookimpl(tryfirst=True)  # before pytest looks at the marks
def pytest_collection_modifyitems(items):
    long.mark(items)


def pytest_runtest_setup(item):
    if item.get_closest_marker("accelerator") and (why := accelerator.missing()):
        pytest.skip(why)


@pytest.fixture(autouse=True)
def _clean_keras():
    """Each test starts from the same seeds, and leaves Keras' global state as a new process has it.

    Not as the test found it: a fixture of its module may have changed it before.
    """
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def float64():
    if why := reason("float64"):
        pytest.skip(why)
    keras.config.set_floatx("float64")
