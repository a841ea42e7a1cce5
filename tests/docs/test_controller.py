"""Learning rates from the run: where the rules bring them on quadratics, as theory says."""

from pathlib import Path

import keras
import numpy as np
import pytest

pytest.importorskip("scipy", reason="the race draws its trials with it")
if keras.backend.backend() != "tensorflow":
    pytest.skip("the race runs on TensorFlow", allow_module_level=True)

from benchmarks.controller import report
from benchmarks.controller.rule import Quadratic, Rule, Slopes, agreement, cosine, ratio
from benchmarks.race.contestants import WARM
from benchmarks.support.cells import Cells
from nagd_keras import NAGD
from tests.support.drivers import to_float64

CURVATURE = 2.0
DIMENSIONS = 200


def found(rule, noise, rate, updates=6_000):
    quadratic = Quadratic(np.full(DIMENSIONS, CURVATURE), noise)
    return quadratic.rate(Rule(rule, 0.05), rate, updates)


@pytest.mark.parametrize("share", [0.03, 0.1, 0.3])
@pytest.mark.parametrize("noise", [0.01, 1.0])
@pytest.mark.parametrize("rate", [0.001, 0.9])
def test_under_noise_the_ratio_comes_to_a_share_of_the_stable_rate(share, noise, rate):
    """Neutral: neither the size of the noise nor the rate that it began with matters."""
    assert found(ratio(share), noise, rate) == pytest.approx(2 * share / CURVATURE, rel=0.15)


def test_without_noise_the_ratio_changes_its_sign_beyond_the_inverse_curvature():
    slopes = [Slopes(-1.0, CURVATURE * rate - 1, 1.0) for rate in (0.5, 0.6)]
    low, high = (ratio(0.1)(each) for each in slopes)
    assert low < 0 < high


def test_on_many_curvatures_without_noise_the_ratio_comes_to_the_edge_of_stability():
    quadratic = Quadratic(np.geomspace(0.001, 1.0, DIMENSIONS), 0.0)
    for rate in (0.001, 0.9):
        assert quadratic.rate(Rule(ratio(0.1), 0.05), rate, 6_000) == pytest.approx(2.0, rel=0.05)


def test_under_noise_the_cosine_falls_like_the_inverse_of_time():
    """It is above zero on average wherever noise moves the weights: it never comes to rest."""
    short, long = (found(cosine, 1.0, 0.05, updates) for updates in (4_000, 16_000))
    assert long / short == pytest.approx(1 / 4, rel=0.2)


def test_without_a_rule_it_is_nagd():
    from benchmarks.controller.optimizer import Controller, FromRun

    start, updates, rng = np.ones((3, 4), "float32"), 100, np.random.default_rng(0)
    one, other = keras.Variable(start), keras.Variable(start)
    watched = FromRun(Controller(None, 0.1, updates, 1.0))
    plain = NAGD(0.1, direction="orthogonal")
    for step in range(20):
        gradient = keras.ops.convert_to_tensor(rng.normal(size=(3, 4)).astype("float32"))
        plain.learning_rate = 0.1 * min(1.0, step / updates / WARM)
        watched.apply([gradient], [one])
        plain.apply([gradient], [other])
        np.testing.assert_allclose(to_float64(one), to_float64(other), rtol=1e-5, atol=1e-6)
    assert watched.controller.factor == 1.0
    assert all(-1 < value < 1 for value in watched.controller.seen.values())


def test_a_report_of_nothing_has_the_theory(tmp_path, capsys):
    report.write(Cells(tmp_path / "none.json"), [["ratio", "1", "4,000", "0.1", "0.1", "0.1"]])
    assert capsys.readouterr().out.splitlines()[-1] == "| ratio | 1 | 4,000 | 0.1 | 0.1 | 0.1 |"


def test_agreement_asks_for_as_much_as_is_given():
    assert agreement(0.1)(Slopes(0.0, 0.0, 0.0, 0.1)) == 0
    assert agreement(0.1)(Slopes(0.0, 0.0, 0.0, 0.5)) < 0


def test_the_page_has_the_tables():
    from benchmarks.controller import __main__ as controller

    if not controller.HERE.exists():
        pytest.skip("a source distribution has no results")
    page = (Path(__file__).parents[2] / "docs" / "controller.md").read_text()
    cells, race = Cells(controller.HERE), Cells(report.RACE)
    assert report.looked_at(cells, race) in page
    assert report.ends(cells, race) in page
