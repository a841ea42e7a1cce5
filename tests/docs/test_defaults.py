"""Optimizers as they come: what the tasks are, what is made of the numbers, and when it goes on."""

import math

import keras
import numpy as np
import pytest

pytest.importorskip("sklearn", reason="some data are its own")
if keras.backend.backend() != "tensorflow":
    pytest.skip("the tasks run on TensorFlow", allow_module_level=True)

from benchmarks.defaults import __main__ as defaults
from benchmarks.defaults import figure, judging, report, runs
from benchmarks.defaults.contestants import CONTESTANTS, DIRECTIONS, scheduled
from benchmarks.defaults.tasks import TASKS
from benchmarks.defaults.training import train
from benchmarks.race.workload import paired
from benchmarks.support.cells import Cells
from nagd_keras import NAGD


@pytest.fixture
def cells(tmp_path):
    return Cells(tmp_path / "results.json")


def add(cells, task, contestant, *losses, untrained=10.0):
    for seed, loss in enumerate(losses, 1):
        cells.add(task, runs.key(contestant, seed), {"untrained": untrained, "end": loss})


def rows(cells, *contestants):
    return judging.rows(cells, ["a", "b"], contestants)


def test_ratios_to_the_best_median_and_their_mean(cells):
    for task, best in (("a", 1.0), ("b", 2.0)):
        add(cells, task, "first", best / 2, best, 3 * best)
    add(cells, "a", "second", 4.0, 4.0, 4.0)
    add(cells, "b", "second", 2.0, 2.0)
    first, second = rows(cells, "second", "first")
    assert first.contestant == "first"
    assert first.ratios == {"a": 1.0, "b": 1.0}
    assert (first.mean, first.worst, first.seeds) == (1.0, 1.0, 3)
    assert second.ratios == {"a": 4.0, "b": 1.0}
    assert second.mean == pytest.approx(2.0)
    assert (second.worst, second.seeds) == (4.0, 2)


def test_who_lacks_a_task_comes_last_and_has_no_mean(cells):
    add(cells, "a", "partial", 1.0)
    for task in "ab":
        add(cells, task, "whole", 3.0)
    whole, partial = rows(cells, "partial", "whole", "absent")
    assert whole.ratios["a"] == 3.0
    assert math.isnan(partial.mean)
    assert partial.ratios == {"a": 1.0}


def test_a_run_has_trained_if_it_made_a_tenth_of_the_best_progress(cells):
    add(cells, "a", "best", 2.0, 2.0, 2.0)
    add(cells, "a", "slow", 9.1, 9.3, 9.25)
    add(cells, "a", "wild", 3.0, math.nan, math.inf)
    found = {row.contestant: row for row in judging.rows(cells, ["a"], ["best", "slow", "wild"])}
    assert found["best"].untrained == 0
    assert found["slow"].untrained == pytest.approx(2 / 3)
    assert found["wild"].untrained == pytest.approx(2 / 3)
    assert found["wild"].mean == math.inf
    assert not judging.trained(10.0, math.inf, math.inf)


def test_the_report_is_written_beside_the_results(tmp_path, cells, capsys):
    for task in TASKS:
        add(cells, task, "Adam", 1.0)
        add(cells, task, "NAGD, adaptive", 2.0)
    report.write(cells, tmp_path / "results.json")
    page = (tmp_path / "results.md").read_text()
    assert capsys.readouterr().out.strip() == page.strip()
    twos = " | ".join(["2.00"] * len(TASKS))
    assert f"| NAGD, adaptive | {twos} | 2.00 | 2.00 | 0% | 1 |" in page
    assert (tmp_path / "results.png").stat().st_size > 10_000
    assert "(results.png)" in page


@pytest.mark.parametrize(
    ("value", "said"),
    [(1.004, "1.00"), (12.34, "12.3"), (99.7, "100"), (math.inf, "∞"), (math.nan, "")],
)
def test_ratios_are_short(value, said):
    assert figure.ratio(value) == said


def test_only_what_is_missing_is_run(tmp_path, monkeypatch, capsys):
    asked = []

    def made(todo, jobs):
        asked.append([(run.task, run.key) for run in todo])
        for run in todo:
            failed = run.contestant == "SGD" and len(asked) == 1
            yield run, ValueError("no") if failed else {"untrained": 2.0, "end": 1.0, "seconds": 0}

    monkeypatch.setattr(defaults, "made", made)
    path = tmp_path / "results.json"
    given = ["bag", "cancer", "--contestant", "Adam", "--contestant", "SGD", "--results", str(path)]
    assert defaults.main([*given, "--seeds", "1"]) == 1
    assert "ValueError: no" in capsys.readouterr().out
    assert defaults.main([*given, "--seeds", "2"]) == 0
    assert defaults.main([*given, "--seeds", "2"]) == 0
    first, second = asked
    assert len(first) == 4
    keys = ["SGD, seed 1", "Adam, seed 2", "SGD, seed 2"]
    assert second == [(task, key) for key in keys for task in ("bag", "cancer")]


def test_contestants_are_as_they_come():
    assert len(CONTESTANTS) == 21
    wanted = {f"NAGD, {name}": NAGD(direction=name) for name in DIRECTIONS}
    for name, optimizer in {**wanted, "Adam": keras.optimizers.Adam()}.items():
        found, expected = CONTESTANTS[name].make(100).get_config(), optimizer.get_config()
        assert {**found, "name": ""} == {**expected, "name": ""}


def test_a_schedule_rises_to_the_rate_that_is_the_default():
    rate = scheduled("SGD", 200).get_config()["learning_rate"]["config"]
    assert rate["warmup_target"] == pytest.approx(0.01)
    assert (rate["warmup_steps"], rate["decay_steps"]) == (10, 190)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_trains_a_batch(name):
    problem = TASKS[name].make()
    assert problem is TASKS[name].make()
    assert 300 <= TASKS[name].updates(problem) <= 1500
    model = problem.network()
    model.compile("sgd", run_eagerly=True, **problem.settings)
    x, y = paired([a[: TASKS[name].batch] for a in problem.train])
    assert np.isfinite(model.train_on_batch(x, y))
    x, y = paired([a[:64] for a in problem.examined])
    assert np.isfinite(model.test_on_batch(x, y))


@pytest.mark.parametrize("name", TASKS)
def test_what_is_validated_with_is_not_trained_with(name):
    train, examined = TASKS[name].make().train, TASKS[name].make().examined
    assert {len(a) for a in train} == {len(train[0])}

    def examples(arrays):
        return {tuple(a[i].tobytes() for a in arrays[:-1]) for i in range(len(arrays[0]))}

    assert not examples(train) & examples(examined)


def test_a_run_trains():
    found = runs.make(runs.Run("diabetes", "NAGD, adaptive", seed=1, epochs=2))
    assert found["end"] < found["untrained"]
    assert len(found["epochs"]) == 2
    assert found["seconds"] > 0


@pytest.mark.long
def test_a_run_is_the_same_again():
    run = runs.Run("digits_cnn", "NAGD, adaptive", seed=1, epochs=2)
    first, second = runs.make(run), runs.make(run)
    assert first["end"] == pytest.approx(second["end"], rel=1e-3)
    assert first["untrained"] == second["untrained"]


@pytest.mark.long
@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_learnt(name):
    """By an optimizer as Keras has it, to well below what a network that is not trained has."""
    task = TASKS[name]
    found = train(task, task.make(), CONTESTANTS["Adam"], seed=1)
    assert found["end"] < 0.75 * found["untrained"]


@pytest.mark.long
@pytest.mark.parametrize("who", [name for name in CONTESTANTS if "OneCycle" in name])
def test_a_cycle_trains(who):
    found = runs.make(runs.Run("bag", who, seed=1, epochs=2))
    assert found["end"] < found["untrained"]
    assert len(found["rates"]) == 2
