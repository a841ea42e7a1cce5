"""The Muons of other packages, as `fit` takes them, make the steps of Keras' Muon."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest

pytest.importorskip("scipy", reason="the race draws its trials with it")
pytest.importorskip("tensorflow", reason="the race's data are tf.data's")

from benchmarks.race import crosscheck
from benchmarks.race.contestants import ALL, Draw
from benchmarks.race.peers import PEERS
from benchmarks.support.cells import Cells

BACKEND = keras.backend.backend()


def end(make, draw, updates=40):
    """The last loss of a small network whose update t has the batch t."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(16, activation="tanh"), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((8,)), *layers])
    model.compile(make(draw, updates), "mse")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8 * updates, 8)).astype("float32")
    model.fit(x, x[:, :1] ** 2, batch_size=8, shuffle=False, verbose=0)
    return model.evaluate(x, x[:, :1] ** 2, verbose=0)


@pytest.mark.skipif(BACKEND not in PEERS, reason="TensorFlow has no Muon of its own")
@pytest.mark.parametrize("decays", [False, True])
def test_a_peer_trains_as_keras_muon_does(decays):
    if BACKEND == "jax":
        pytest.importorskip("optax")
    # Optax' other variables go along NAdam, and PyTorch's iteration is of 16 bits.
    tolerance = {"jax": 0.01, "torch": 0.003}[BACKEND]
    _, make = PEERS[BACKEND]
    for rest in (0.5, 0.05):
        draw = Draw(0.02, rest, decays)
        assert end(make, draw) == pytest.approx(end(ALL["Muon"].make, draw), rel=tolerance)


@pytest.mark.skipif(not crosscheck.RACE.exists(), reason="a source distribution has no results")
def test_each_has_the_best_setting_of_its_kind_and_what_is_there_is_not_run_again(tmp_path):
    race, cells = Cells(crosscheck.RACE), Cells(tmp_path / "results.json")
    for name, row, seed in crosscheck.todo(cells, "jax"):
        draw = crosscheck.setting(race, name, row.setting_of)
        assert draw._asdict() == race.of(name, f"{row.setting_of}, seed 1")["settings"]
        judged = crosscheck.WORKLOADS[name].judged
        cells.add(name, f"jax, {row.who}, seed {seed}", {judged: [9.0, float(seed)]})
    assert next(crosscheck.todo(cells, "jax"), None) is None
    assert "| JAX | Optax' Muon | 2 (1 to 3) | 2 (1 to 3) |" in crosscheck.table(
        cells, race, crosscheck.MUONS
    )
    assert "| PyTorch | NAGD |  |  |" in crosscheck.table(cells, race, crosscheck.MUONS)


@pytest.mark.skipif(not crosscheck.HERE.exists(), reason="a source distribution has no results")
def test_the_page_has_the_table():
    page = (Path(__file__).parents[2] / "docs" / "race.md").read_text()
    for names in (crosscheck.MUONS, crosscheck.EMBEDDINGS):
        assert crosscheck.table(Cells(crosscheck.HERE), Cells(crosscheck.RACE), names) in page


@pytest.mark.skipif(not crosscheck.RACE.exists(), reason="a source distribution has no results")
def test_the_race_has_the_version_of_its_text():
    assert re.fullmatch(r"3\.\d+", crosscheck.raced_on(Cells(crosscheck.RACE)))
