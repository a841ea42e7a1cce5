"""Files that are damaged, truncated or foreign are refused, or were not really damaged."""

import copy
import functools
import random
import zipfile

import h5py
import keras
import numpy as np
import pytest

from nagd_keras import NAGD, saving
from nagd_keras.state.archive import Saved
from tests.support.saving_cases import CASES, state

FLIPS = 200


@pytest.fixture(scope="module")
def trained():
    case = next(case for case in CASES if case.name == "average")
    model = case.start()
    for i in range(1, 5):
        case.step(model, i)
    return model


def load_model(path, trained):
    model = saving.load_model(path)
    model.optimizer.build(model.trainable_variables)  # which Keras' older format leaves to `fit`
    return model


def refused(path, load, trained, wanted):
    """Whether a file is refused with its name; else it must give what is wanted."""
    try:
        loaded = load(path, trained)
    except ValueError as error:
        return str(path) in str(error)
    assert state(loaded) == wanted
    return False


def load_weights(path, trained):
    saving.load_weights(another(trained), path)
    return another(trained)


@functools.cache
def another(trained):
    model = keras.models.clone_model(trained)
    model.compile(NAGD.from_config(trained.optimizer.get_config()), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


FILES = {
    "model.keras": (saving.save_model, load_model),
    "model.weights.h5": (saving.save_weights, load_weights),
    "model.h5": (lambda model, path: copy.deepcopy(model).save(path), load_model),
}


@pytest.fixture(params=FILES)
def file(request, trained, tmp_path):
    save, load = FILES[request.param]
    path = tmp_path / request.param
    save(trained, path)
    return path, load


@pytest.mark.parametrize("file", ["model.keras"], indirect=True)
def test_flipped_bytes(file, trained):
    path, load = file
    content, wanted = path.read_bytes(), state(trained)
    assert state(load(path, trained)) == wanted
    choice = random.Random(0)
    count = 0
    for _ in range(FLIPS):
        damaged = bytearray(content)
        damaged[choice.randrange(len(damaged))] ^= choice.randrange(1, 256)
        path.write_bytes(damaged)
        count += refused(path, load, trained, wanted)
    print(f"{path.name}: {count} of {FLIPS} refused")
    assert count > 0.9 * FLIPS  # A flip in zip's notes of times and versions changes nothing.


def test_truncated(file, trained):
    path, load = file
    content, wanted = path.read_bytes(), state(trained)
    for length in np.linspace(0, len(content) - 1, 20).astype(int):
        path.write_bytes(content[:length])
        with pytest.raises(saving.DamagedFileError, match=str(path)):
            load(path, trained)
    path.write_bytes(content)
    assert state(load(path, trained)) == wanted


@pytest.mark.parametrize("file", ["model.weights.h5", "model.h5"], indirect=True)
def test_bytes_after_the_end_do_not_matter(file, trained):
    """As the checksum that was written there once."""
    path, load = file
    path.write_bytes(path.read_bytes() + b"\nnagd_keras sha256 " + 64 * b"0")
    assert state(load(path, trained)) == state(trained)


@pytest.mark.parametrize("kind", ["text", "zip", "hdf5"])
def test_foreign(file, trained, kind):
    path, load = file
    path.unlink()
    if kind == "text":
        path.write_text("This is no model.")
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme", "This is no model.")
    else:
        with h5py.File(path, "w") as other:
            other["numbers"] = [1.0, 2.0]
    with pytest.raises(ValueError, match=str(path)):
        load(path, trained)


def test_flipped_bytes_of_a_state(trained):
    """As Keras' own loading sees them, which knows no checksums of a file."""
    store: dict = {}
    trained.optimizer.save_own_variables(store)
    wanted = Saved.read(store)
    places = [(key, i) for key, array in store.items() for i in range(array.nbytes)]
    choice = random.Random(0)
    for _ in range(FLIPS):
        key, i = choice.choice(places)
        array = store[key].copy()
        array.reshape(-1).view(np.uint8)[i] ^= choice.randrange(1, 256)
        with pytest.raises(ValueError, match="is damaged"):
            Saved.read({**store, key: array})
    assert list(Saved.read(store).arrays) == list(wanted.arrays)


def test_a_state_that_lacks_an_array_or_is_of_a_newer_format(trained, monkeypatch):
    store: dict = {}
    trained.optimizer.save_own_variables(store)
    del store["nagd_0"]
    with pytest.raises(ValueError, match="it lacks the"):
        trained.optimizer.load_own_variables(store)
    monkeypatch.setattr("nagd_keras.state.archive.FORMAT", 3)
    trained.optimizer.save_own_variables(store)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="has format 3"):
        trained.optimizer.load_own_variables(store)
