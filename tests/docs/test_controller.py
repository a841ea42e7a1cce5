"""Learning rates from the run: where the rules bring them on quadratics, as theory says."""

from pathlib import Path

import keras
import numpy as np
import pytest

pytest.importorskip("scipy", reason="the race draws its trials with it")
if keras.backend.backend() != "tensorflow":
    pytest.skip("the race runs on TensorFlow", allow_module_level=True)

from benchmarks.controller import report, small, variants
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


@pytest.mark.long
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


def controlled(factors, relative=False, signal=lambda slopes: slopes.agreement, **limits):
    """A prototype with one matrix and one vector, after some updates; and the two variables."""
    from benchmarks.controller.optimizer import Controller, FromRun

    rng = np.random.default_rng(0)
    variables = [keras.Variable(rng.normal(size=shape).astype("float32")) for shape in ((3, 4), 4)]
    made = FromRun(Controller(Rule(signal, 0.1), 0.1, 100, 1.0, factors, **limits), relative)
    for _ in range(10):
        gradients = [rng.normal(size=v.shape).astype("float32") for v in variables]
        made.apply([keras.ops.convert_to_tensor(g) for g in gradients], variables)
    return made, variables


@pytest.mark.long
def test_a_factor_is_of_all_of_the_matrices_or_of_each():
    found = {}
    for factors in ("one for all", "one for all matrices", "one for each variable"):
        made, _ = controlled(factors)
        found[factors] = [float(to_float64(each.factor)) for each in made.direction.all]
    all_alike, matrices, each = found.values()
    assert all_alike[0] == all_alike[1] != 1
    assert matrices[0] != matrices[1] == 1
    assert len({1.0, *each}) == 3


def test_a_step_in_units_of_the_weights():
    made, (matrix, _) = controlled("one for all", relative=True, signal=lambda slopes: 0 * slopes.q)
    factors = [float(to_float64(each.factor)) for each in made.direction.all]
    size = np.sqrt(np.mean(to_float64(matrix) ** 2)) / made.direction.scale
    assert factors == [pytest.approx(size, rel=0.2), 1.0]


@pytest.mark.long
def test_a_factor_that_only_rises():
    falling, rising = (
        controlled("one for all", signal=lambda slopes, sign=sign: sign + 0 * slopes.q, least=1.0)
        for sign in (1.0, -1.0)
    )
    assert falling[0].controller.factor == 1.0
    assert rising[0].controller.factor > 1.5


@pytest.mark.long
def test_on_small_tasks_the_factor_rises_from_one_where_it_may():
    for most, rises in ((small.WITHOUT, False), (small.WITH, True)):
        made = small.contestant(most).make(100)
        variable = keras.Variable(np.ones((3, 4), "float32"))
        for _ in range(20):
            made.apply([keras.ops.ones((3, 4))], [variable])
        assert (made.controller.factor > 1.5) == rises
        assert made.controller.factor <= most


def test_an_embedding_agrees_with_the_rows_that_it_meets():
    """The other rows' displacements say nothing of this batch."""
    import tensorflow as tf

    from benchmarks.controller.optimizer import _touched

    gradient = tf.constant([[0.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    np.testing.assert_array_equal(_touched(gradient), [[0.0], [1.0], [1.0]])


def test_an_average_is_evaluated_and_what_is_trained_is_put_back():
    from benchmarks.controller.__main__ import at_average

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(NAGD(0.1, use_ema=True, ema_momentum=0.5), "mse")
    x = np.ones((4, 2), "float32")
    before = to_float64(model.layers[0].kernel)
    with at_average(model):
        np.testing.assert_array_equal(to_float64(model.layers[0].kernel), before)
    for _ in range(2):  # The first average is that of one point.
        model.train_on_batch(x, x[:, :1])
    trained = to_float64(model.layers[0].kernel)
    with at_average(model):
        assert not np.array_equal(to_float64(model.layers[0].kernel), trained)
    np.testing.assert_array_equal(to_float64(model.layers[0].kernel), trained)


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
    for group in (variants.ONE_FOR_ALL, variants.BY_KIND, variants.NO_SCHEDULE):
        assert report.ends(cells, race, group) in page
    assert small.table(cells) in page
