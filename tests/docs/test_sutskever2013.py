"""The experiments of Sutskever et al.: data, initialization, the peer, and resuming."""

import math
from pathlib import Path

import keras
import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the batches are tf.data's")

from benchmarks.support.cells import Cells
from benchmarks.sutskever2013 import __main__ as tables
from benchmarks.sutskever2013 import addition, curves, experiment, paper, results
from benchmarks.sutskever2013.classical import ClassicalMomentum
from benchmarks.sutskever2013.columns import Column, columns
from nagd_keras import schedules
from tests.support.drivers import assert_identical, to_float64
from tests.support.problems import random_quadratic
from tests.support.tolerances import TRAJECTORY, assert_close

BACKEND = keras.backend.backend()


def test_curves_are_smooth_bright_lines_on_black():
    x = curves.images(50, seed=3).reshape(50, 28, 28)
    assert x.min() == 0.0
    assert x.max() <= 1.0
    assert np.all(x.max(axis=(1, 2)) > 0.9)
    between = (x > 0.05) & (x < 0.95)
    assert 0.2 < between.sum() / (x > 0.05).sum() < 0.95  # the edges
    assert_identical([curves.images(50, seed=3)], [x.reshape(50, -1)])
    assert not np.array_equal(curves.images(50, seed=4), x.reshape(50, -1))


def test_a_curve_goes_through_its_three_points():
    rng = np.random.default_rng(7)
    points = rng.uniform(curves.MARGIN, curves.SIDE - 1 - curves.MARGIN, (1, 2, 3))
    (image,) = curves.images(1, seed=7).reshape(1, curves.SIDE, curves.SIDE)
    for x, y in points[0].T.astype("float32"):
        assert image[round(float(y)), round(float(x))] > 0.5


def test_each_unit_has_fifteen_incoming_weights():
    weights = to_float64(curves.Sparse(seed=1)((400, 200)))
    assert np.all(np.count_nonzero(weights, axis=0) == 15)
    assert np.std(weights[weights != 0]) == pytest.approx(1, abs=0.05)
    assert np.count_nonzero(to_float64(curves.Sparse(seed=1)((6, 25)))) == 6 * 25


def test_the_autoencoder_is_the_papers():
    model = curves.network(0)
    widths = [layer.units for layer in model.layers]
    assert widths == [400, 200, 100, 50, 25, 6, 25, 50, 100, 200, 400, 784]
    assert [layer.activation.__name__ for layer in model.layers].count("linear") == 2


def test_errors_are_sums_over_pixels():
    pixels, logits = map(keras.ops.convert_to_tensor, ([[0.0, 1.0]], [[0.0, 0.0]]))
    assert to_float64(curves.squared_error(pixels, logits)) == pytest.approx(0.5)
    assert to_float64(curves.cross_entropy(pixels, logits)) == pytest.approx(2 * np.log(2))


def test_sequences_are_sums_of_two_marked_numbers():
    x, y = addition.sequences(2000, np.random.default_rng(0))
    marks = x[..., 1] + 2 / addition.LENGTH
    assert np.all(np.count_nonzero(np.abs(marks) > 0.5, axis=1) == 2)
    wanted = np.sum((x[..., 0] + 0.5) * (marks > 0.5), axis=1) - 1
    np.testing.assert_allclose(y[:, 0], wanted, atol=1e-6)
    assert abs(x.mean()) < 0.01
    assert abs(y.mean()) < 0.05
    assert np.var(y) == pytest.approx(addition.VARIANCE, rel=0.1)


def test_the_spectral_radius():
    weights = to_float64(addition.SpectralRadius(1.1, seed=2)((100, 100), "float32"))
    assert np.max(np.abs(np.linalg.eigvals(weights))) == pytest.approx(1.1, rel=1e-5)


def test_classical_momentum_is_the_textbooks(rng):
    problem, start = random_quadratic(rng, 5), rng.normal(size=5)
    rising = schedules.SutskeverMomentum(0.9, 4)
    variable = keras.Variable(start.astype("float32"))
    optimizer = ClassicalMomentum(0.05, rising)
    x, v = start.astype("float32").astype(float), np.zeros(5)
    for t in range(30):
        gradient = problem.gradient(to_float64(variable)).astype("float32")
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        v = float(to_float64(rising(t))) * v - 0.05 * problem.gradient(x)
        x = x + v
        assert_close(to_float64(variable), x, TRAJECTORY["float32"])


def test_columns_have_the_papers_names():
    assert list(map(str, columns((0.9, 0.995)))) == ["SGD", ".9N", ".995N", ".9M", ".995M"]


@pytest.mark.parametrize(
    ("updates", "step", "wanted"),
    # 1 - 2^(-1 - log2(floor(t / 250) + 1)), and 0.9 for the last 1,000
    [
        *((75_000, t, mu) for t, mu in ((0, 0.5), (249, 0.5), (250, 0.75), (73_999, 1 - 1 / 592))),
        *((75_000, t, 0.9) for t in (74_000, 74_999)),
        # A run of a 25th takes a 25th of the time for each value; its drop is its last tenth.
        *((3_000, t, mu) for t, mu in ((9, 0.5), (10, 0.75), (2_699, 1 - 1 / 540), (2_700, 0.9))),
    ],
)
def test_the_momentum_of_curves(updates, step, wanted):
    momentum = curves.schedule(Column(0.999, "N"), updates)
    assert float(to_float64(momentum(step))) == pytest.approx(wanted, abs=1e-6)
    lowest = curves.schedule(Column(0.0, ""), updates)
    assert float(to_float64(lowest(step))) == 0


def test_the_momentum_of_addition():
    momentum = addition.schedule(Column(0.98, "N"), 50_000)
    found = [float(to_float64(momentum(t))) for t in (0, 999, 1_000, 49_999)]
    assert found == pytest.approx([0.9, 0.9, 0.98, 0.98], abs=1e-6)


@pytest.mark.skipif(not results.HERE.exists(), reason="a source distribution has no results")
def test_the_page_has_the_tables():
    page = (Path(__file__).parents[2] / "docs" / "sutskever2013.md").read_text()
    for name, make in tables.EXPERIMENTS.items():
        arguments = Cells(results.HERE), name, make()
        assert paper.markdown(*arguments, tables.SPREAD, tables.SEEDS) in page
        assert list(tables.missing(*arguments)) == []
    arguments = Cells(results.HERE), "curves", curves.experiment()
    assert paper.directed(*arguments, tables.SPREAD, tables.SEEDS) in page
    assert paper.drop(*arguments) in page
    assert paper.claims_markdown(*arguments) in page


def test_the_table_of_directions_is_of_short_runs_alone(tmp_path):
    cells, problem = Cells(tmp_path / "results.json"), curves.experiment()
    directed = problem.directed
    assert list(map(str, directed)) == [".9A", ".9O"]
    shown = [*problem.columns[:2], *directed]
    for column, end in zip(shown, (8.0, 6.0, 4.0, 0.5), strict=True):
        for rate in (0.01, 0.001):
            far = 1 if rate == 0.001 else 2
            cell = experiment.Cell(column, rate, problem.short, 0)
            cells.add("curves", cell.key(), {"errors": [far * end]})
            for seed in tables.SEEDS:
                cell = experiment.Cell(column, rate, tables.SPREAD, seed)
                cells.add("curves", cell.key(), {"errors": [far * end]})
    table = paper.directed(cells, "curves", problem, tables.SPREAD, tables.SEEDS)
    assert "| .9N | 0.001 | 6 (6 to 6) | 0.75 |" in table
    assert "| .9A | 0.001 | 4 (4 to 4) | 0.5 |" in table
    assert "| .9O | 0.001 | 0.5 (0.5 to 0.5) | 0.0625 |" in table


def test_the_tables_of_runs_that_did_not_end(tmp_path):
    cells, problem = Cells(tmp_path / "results.json"), curves.experiment()
    arguments = cells, "curves", problem
    assert paper.claims(*arguments) == []
    for column, errors in (
        (Column(0.0, ""), [9.0, math.nan]),
        (Column(0.9, "N"), [math.nan]),
        (Column(0.99, "N"), [3.0, 1.0]),
        (Column(0.99, "M"), [math.nan]),
    ):
        for updates, found in ((problem.short, [9.0]), (problem.updates, errors)):
            cell = experiment.Cell(column, 0.01, updates, 0)
            cells.add("curves", cell.key(), {"errors": found})
    assert "| .99N | 3 | 1 |" in paper.drop(*arguments)
    assert "| .99N | 0.01 | 1 | — | 0.096 | 0.2 |" in paper.markdown(*arguments, 10, (1,))
    assert {text: holds for text, _, _, _, holds in paper.claims(*arguments)} == {
        ".99N of .9N": True,  # A number is better than none.
        ".99N of SGD": True,
        ".99N after the drop, of before": True,
    }


@pytest.mark.parametrize(
    ("errors", "code"), [((9, 5, 3), 0), ((9, 3, 5), 1), ((9, 9, 5), 1), ((9, 5, float("nan")), 1)]
)
def test_the_quick_run_fails_if_columns_are_not_in_order(errors, code, monkeypatch, capsys):
    left = list(errors)
    monkeypatch.setattr(tables, "train", lambda *_: {"errors": [99.0, left.pop(0)]})
    assert tables.quick() == code
    assert f"SGD {errors[0]:.1f}, .9N {errors[1]:.1f}, .99N" in capsys.readouterr().out


class Stopped(Exception):
    pass


def small():
    """The autoencoder's experiment, with few images in short pieces."""
    x = curves.images(40)

    def batches(seed, piece):
        import tensorflow as tf

        rows = np.random.default_rng([seed, piece]).permutation(40).reshape(4, 10)
        return tf.data.Dataset.from_tensor_slices((x[rows], x[rows]))

    return experiment.Experiment(
        name="small",
        columns=columns((0.9,)),
        directed=[],
        rates=(0.01,),
        updates=12,
        piece=4,
        short=8,
        model=curves.model,
        schedule=curves.schedule,
        batches=batches,
        examined=(x, x),
    )


@pytest.mark.long
@pytest.mark.skipif(BACKEND != "tensorflow", reason="the benchmark runs on TensorFlow")
@pytest.mark.parametrize(
    "column",
    [
        pytest.param(column, marks=[] if column.method == "N" else pytest.mark.long, id=str(column))
        for column in columns((0.9,))
    ],
)
def test_goes_on_where_it_was_interrupted(column, tmp_path, monkeypatch):
    cell = experiment.Cell(column, 0.01, 12, 0)
    whole = experiment.train(small(), cell, tmp_path)
    experiment.forget(small(), cell, tmp_path)
    made = []

    def saved(*arguments):
        made.append(arguments)
        if len(made) == 2:
            raise Stopped  # The errors of a piece are written, and its weights are not.
        save(*arguments)

    save = experiment.saving.save_weights
    monkeypatch.setattr(experiment.saving, "save_weights", saved)
    with pytest.raises(Stopped):
        experiment.train(small(), cell, tmp_path)
    monkeypatch.undo()
    # Others have files of their own.
    experiment.train(small(), cell._replace(seed=1), tmp_path)
    again = experiment.train(small(), cell, tmp_path)
    assert again["errors"] == whole["errors"]
    assert len(whole["errors"]) == 3
    # Stopped before the result was stored: the last piece is made again.
    assert experiment.train(small(), cell, tmp_path)["errors"] == whole["errors"]
    for seed in (0, 1):
        experiment.forget(small(), cell._replace(seed=seed), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
@pytest.mark.skipif(BACKEND != "tensorflow", reason="the benchmark runs on TensorFlow")
def test_the_error_is_that_of_the_iterate():
    problem = small()
    model, settings = problem.model(0)
    column = Column(0.9, "N")
    model.compile(optimizer=column.optimizer(0.01, 0.9), **settings)
    for x, y in problem.batches(0, 0):
        model.train_on_batch(x, y)

    def read():
        return model.evaluate(*problem.examined, verbose=0, return_dict=True)["error"]

    lookahead = read()
    model.optimizer.swap_to_iterate()
    iterate = read()
    model.optimizer.swap_to_lookahead()
    assert abs(iterate / lookahead - 1) > 1e-3
    assert experiment.error(model, problem, column) == pytest.approx(iterate, rel=1e-6)
    assert read() == lookahead


def test_rates_that_are_close_in_short_runs_are_told_apart_by_long_ones(tmp_path):
    cells, problem = Cells(tmp_path / "results.json"), small()._replace(rates=(0.1, 0.05, 0.01))
    column = Column(0.9, "N")

    def add(rate, updates, *errors):
        cell = experiment.Cell(column, rate, updates, 0)
        cells.add("small", cell.key(), {"errors": [1.0, *errors]})

    def said():
        arguments = Cells(tmp_path / "results.json"), "small", problem, column
        return results.candidates(*arguments), results.chosen(*arguments)

    for rate, error in ((0.1, float("nan")), (0.05, 0.5), (0.01, 0.56)):
        add(rate, problem.short, error)
    assert said() == ([0.05], 0.05)
    add(0.05, problem.updates, float("inf"))
    assert said() == ([0.05, 0.01], 0.05)  # The next smaller is still to be tried.
    add(0.01, problem.updates, 0.3)
    assert said() == ([0.05, 0.01], 0.01)
    add(0.05, problem.updates, 0.2)
    assert said() == ([0.05], 0.05)
    add(0.01, problem.short, 0.54)  # close to the best
    assert said() == ([0.05, 0.01], 0.05)
    add(0.05, problem.updates, 0.4)
    assert said() == ([0.05, 0.01], 0.01)


def test_if_no_short_run_ends_the_smallest_rate_is_tried(tmp_path):
    cells, problem = Cells(tmp_path / "results.json"), small()._replace(rates=(0.1, 0.05, 0.01))
    for rate in problem.rates:
        cell = experiment.Cell(Column(0.9, "N"), rate, problem.short, 0)
        cells.add("small", cell.key(), {"errors": [math.nan]})
    assert results.candidates(cells, "small", problem, Column(0.9, "N")) == [0.01]


def test_two_processes_add_to_one_file(tmp_path):
    one, other = Cells(tmp_path / "results.json"), Cells(tmp_path / "results.json")
    one.add("group", "a", {"x": 1})
    other.add("group", "b", {"x": 2})
    both = Cells(tmp_path / "results.json")
    assert [both.of("group", name)["x"] for name in "ab"] == [1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_a_file_that_is_not_json_is_named_and_kept(tmp_path):
    path = tmp_path / "results.json"
    path.write_text('{"curves": {')
    with pytest.raises(ValueError, match=r"results\.json is not JSON .*: mend it"):
        Cells(path)
    assert path.read_text() == '{"curves": {'


def test_errors_that_rise_again():
    falling = [1 / t for t in range(1, 31)]
    assert not results.rose(falling)
    assert not results.rose([*falling[:20], 0.9, *falling[20:]])  # one reading
    assert results.rose([*falling, *[0.1] * 10, 0.03])
    assert not results.rose([*falling, *[0.1] * 4, 0.1])  # The last piece does not count.
    assert results.rose([*falling, *[0.1] * 5, 0.1])
    assert results.rose([1.0, None])
    assert not results.rose([1.0])
