"""A model trained with NAGD is served without Keras and without nagd_keras."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from nagd_keras import callbacks
from tests.support.limits import needs, reason
from tests.support.saving_cases import CASES, batch, state
from tests.support.tolerances import TRAJECTORY, assert_close

pytestmark = [
    needs("export as a SavedModel"),
    # Keras' `export` gives it to JAX, which deprecates it.
    pytest.mark.filterwarnings("ignore:The `native_serialization` parameter:DeprecationWarning"),
]
tf = pytest.importorskip("tensorflow")

SERVER = Path(__file__).parents[1] / "support" / "export_served.py"
X = np.concatenate([batch(number)[0] for number in range(1, 4)])
# To the bit; but JAX and TensorFlow bring two versions of XLA, which sum the four to eight products
# of a matrix in another order or unrounded, and have each its own tanh.
ROOM = TRAJECTORY["float32"] if keras.backend.backend() == "jax" else 0.0
# The ways, by name: what writes a SavedModel of a model at a path.
WAYS = {
    "exported": lambda model, path: model.export(path, verbose=False),
    "saved": lambda model, path: tf.saved_model.save(model, path),
}
if reason("a model of TensorFlow's"):
    del WAYS["saved"]
NAMES = ("plain", "everything")  # of which the latter is kept at the iterate


def trained(name):
    case = next(case for case in CASES if case.name == name)
    model = case.start()
    for number in range(1, 6):
        case.step(model, number)
    return case, model


def predictions(model):
    """Those of a compiled function, as a server's are."""
    if keras.backend.backend() == "jax":
        return model.predict(X, batch_size=len(X), verbose=0)
    return tf.function(lambda x: model(x, training=False))(X).numpy()


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    """The predictions of all models that were written, and what became of those models."""
    return write(tmp_path_factory.mktemp("exports"))


def write(folder):
    found, states = {}, {}
    for name in NAMES:
        case, model = trained(name)
        before = state(model)
        for way, write_to in WAYS.items():
            key = f"{name}-{way}"
            found[key] = predictions(model)
            write_to(model, str(folder / key))
            states[key] = state(model) == before
    case, model = trained("plain")
    _, other = trained("plain")
    before = state(model)
    found["look-ahead"] = predictions(model)
    for way, write_to in WAYS.items():
        with callbacks.at_iterate(model):
            found[f"iterate-{way}"] = predictions(model)
            write_to(model, str(folder / f"iterate-{way}"))
        states[f"iterate-{way}"] = state(model) == before
    for number in range(6, 9):
        case.step(model, number)
        case.step(other, number)
    states["trained on"] = state(model) == state(other)
    return folder, found, states


@pytest.fixture(scope="module")
def served(wanted):
    folder, found, _ = wanted
    np.save(folder / "x.npy", X)
    process = subprocess.run(
        [sys.executable, str(SERVER), str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return {name: np.load(folder / f"{name}.npy") for name in found if name != "look-ahead"}


KEYS = [f"{name}-{way}" for name in (*NAMES, "iterate") for way in WAYS]


@pytest.mark.long
@pytest.mark.parametrize("key", KEYS)
def test_the_same_predictions_without_keras(wanted, served, key):
    assert served[key].dtype == wanted[1][key].dtype
    assert_close(served[key], wanted[1][key], ROOM)


@pytest.mark.keep(1)
@pytest.mark.parametrize("key", [*KEYS, "trained on"])
def test_the_model_and_its_optimizer_are_left_as_they_were(wanted, key):
    assert wanted[2][key]


@pytest.mark.long
@pytest.mark.parametrize("way", WAYS)
def test_the_iterate_is_another_point(wanted, served, way):
    ahead = wanted[1]["look-ahead"]
    assert (served[f"iterate-{way}"] != ahead).mean() > 0.9
    assert_close(served[f"plain-{way}"], ahead, ROOM)
