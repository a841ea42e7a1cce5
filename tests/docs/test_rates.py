"""The best learning rate: how it is searched, and what is said of runs with others."""

import math

import keras
import pytest

pytest.importorskip("sklearn", reason="some data are its own")
if keras.backend.backend() != "tensorflow":
    pytest.skip("the tasks run on TensorFlow", allow_module_level=True)

from benchmarks.defaults.runs import key
from benchmarks.defaults.tasks import TASKS
from benchmarks.rates import search
from benchmarks.rates.report import guarded, ungiven
from benchmarks.support.cells import Cells

PLAN = search.Plan("orthogonal", has_cycle=True, seed=1)


@pytest.fixture
def valley(monkeypatch):
    """Runs that are not made: the loss is a parabola of the rate's logarithm, and 1 at the best."""
    asked, best = [], {"rate": 0.01}

    def train(task, plan, rate, has_guard):
        asked.append((rate, has_guard))
        off = math.log10(rate / best["rate"])
        return {
            "end": None if off > 1.2 and not has_guard else 1 + off**2,
            "events": ["back"] * (off > 0.9 and has_guard),
            "seconds": 1.0,
        }

    monkeypatch.setattr(search, "_train", train)
    return asked, best


@pytest.mark.parametrize("rate", [1e-4, 0.0032, 0.01, 0.1, 10.0])
def test_the_best_half_decade_is_found_from_both_sides(tmp_path, valley, rate):
    asked, best = valley
    best["rate"] = rate
    cells = Cells(tmp_path / "results.json")
    assert search.Search(cells, PLAN).best("bag") == rate
    made = len(asked)
    assert len(set(asked)) == made  # None twice.
    assert search.Search(Cells(tmp_path / "results.json"), PLAN).best("bag") == rate
    assert len(asked) == made


def ends(monkeypatch, losses):
    """Makes runs end at the losses of the half decades, and where none is given at 9."""
    by_rate = {search.rate_of(half): loss for half, loss in losses.items()}
    found = {"events": [], "seconds": 1.0}
    monkeypatch.setattr(
        search, "_train", lambda task, plan, rate, has: {**found, "end": by_rate.get(rate, 9.0)}
    )


@pytest.mark.parametrize(
    "losses",
    [
        {-4: 3.0, -3: 4.0, -2: 2.0, -1: 9.0, 0: 1.0},  # One that is worse does not end it.
        {-4: 3.0, -3: 3.2, -2: 3.2, -1: 3.2, 0: 1.0},  # Those within a tenth are no worse.
        {-4: 3.0, -3: 2.0, -2: 1.5, -5: 9.0, -6: 1.0},  # From the first one to both sides.
        {-4: math.nan, -5: math.nan, -6: 1.0},
        {-4: 3.0, -3: 2.9, -2: 2.8, -1: 2.7, 0: 2.6, 1: 2.5, 2: 2.4, 3: 2.3, 4: 1.0},
        {half: 1.0 if half == -14 else 3.0 for half in range(-14, -3)},
    ],
    ids=["bump", "plateau", "two valleys", "NaN", "highest", "lowest"],
)
def test_the_best_is_found_beyond(tmp_path, monkeypatch, losses):
    ends(monkeypatch, losses)
    best = min(losses, key=lambda half: losses[half] if losses[half] > 0 else math.inf)
    assert search.Search(Cells(tmp_path / "x.json"), PLAN).best("bag") == search.rate_of(best)


def test_two_that_are_worse_end_it(tmp_path, monkeypatch):
    ends(monkeypatch, {-4: 3.0, -3: 3.4, -2: 3.4, -1: 1.0})
    assert search.Search(Cells(tmp_path / "x.json"), PLAN).best("bag") == 0.01


@pytest.mark.parametrize("has_guard", [False, True])
@pytest.mark.parametrize("has_cycle", [False, True])
def test_what_trains(monkeypatch, has_cycle, has_guard):
    given = []

    def train(*arguments):
        given.extend(arguments)
        return {"end": 1.0, "seconds": 1.0}

    monkeypatch.setattr(search, "train", train)
    plan = search.Plan("adaptive", has_cycle, seed=7, epochs=2)
    assert search._train("diabetes", plan, 0.02, has_guard)["events"] == []
    task, problem, contestant, seed = given
    assert (task.epochs, seed) == (2, 7)
    assert problem is TASKS["diabetes"].make()
    optimizer = contestant.make(100)
    assert float(optimizer.learning_rate) == pytest.approx(0.02)
    assert type(optimizer.direction).__name__ == "Adaptive"
    names = [type(each).__name__ for each in contestant.callbacks(None, None, None, 1)]
    assert names == ["OneCycle"] * has_cycle + ["DivergenceGuard"] * has_guard


def test_where_all_diverge_only_lower_rates_are_tried(tmp_path, valley):
    asked, best = valley
    best["rate"] = 1e-6
    assert search.Search(Cells(tmp_path / "results.json"), PLAN).best("bag") == 1e-6
    assert max(rate for rate, _ in asked) == search.rate_of(search.FIRST)


def test_what_was_given_no_rate_is_compared_with_the_best(tmp_path, valley):
    cells, defaults = Cells(tmp_path / "results.json"), Cells(tmp_path / "defaults.json")
    for task, times in (("bag", 1.0), ("cancer", 4.0)):
        for how, end in (("OneCycle", 1.5), ("found and OneCycle", 1.25)):
            defaults.add(task, key(f"NAGD, orthogonal, {how}", 1), {"end": times * end})
    said = "\n".join(ungiven(cells, defaults, PLAN, ["bag", "cancer"]))
    assert "| bag | 0.01 | 1 | 1.50 | 1.25 |" in said
    assert "| cancer | 0.01 | 1 | 6.00 | 5.00 |" in said
    assert "found and OneCycle, to the best rate: mean 2.50 (geometric), median 3.12" in said


def test_without_those_runs_only_the_best_rate_is_there(tmp_path, valley):
    cells = Cells(tmp_path / "results.json")
    said = ungiven(cells, Cells(tmp_path / "none.json"), PLAN, ["bag"])
    assert "| bag | 0.01 | 1 |  |  |" in said[0]
    assert len(said) == 2


def test_a_column_that_is_not_whole_has_no_mean(tmp_path, valley):
    cells, defaults = Cells(tmp_path / "results.json"), Cells(tmp_path / "defaults.json")
    defaults.add("bag", key("NAGD, orthogonal, found and OneCycle", 1), {"end": 2.0})
    defaults.add("cancer", key("NAGD, orthogonal, found and OneCycle", 1), {"end": 2.0})
    defaults.add("cancer", key("NAGD, orthogonal, OneCycle", 1), {"end": 3.0})
    table, _, *means = ungiven(cells, defaults, PLAN, ["bag", "cancer"])
    assert "| bag | 0.01 | 1 |  | 2.00 |" in table
    assert "| cancer | 0.01 | 1 | 3.00 | 2.00 |" in table
    assert means == ["found and OneCycle, to the best rate: mean 2.00 (geometric), median 2.00"]


def test_rates_that_are_too_high_with_the_guard_and_without(tmp_path, valley):
    said = guarded(Cells(tmp_path / "results.json"), PLAN, ["bag"])
    assert "| bag | 0.01 | 1 | 1.00 | 1.00 (0) | 2.00 | 2.00 (1) | inf | 3.18 (1) |" in said[0]
    within = "of 1 within 1.3 of the best rate alone"
    assert f"1x: 1 {within}, 1 with the guard, which went back in 0" in said
    assert f"10x: 0 {within}, 0 with the guard, which went back in 1" in said
