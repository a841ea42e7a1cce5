"""What the race runs besides its trials: which learning rates, which runs, and their ratios."""

import math

import keras
import pytest

pytest.importorskip("scipy", reason="the race draws its trials with it")
if keras.backend.backend() != "tensorflow":
    pytest.skip("the race runs on TensorFlow", allow_module_level=True)

from benchmarks.race import rulings, trial, untuned
from benchmarks.race.contestants import Draw, Warmed
from benchmarks.race.workloads import WORKLOADS
from benchmarks.support.cells import Cells
from nagd_keras import callbacks, directions

CHOSEN = {name: WORKLOADS[name] for name in ("digits", "text")}
BEST = {"digits": 0.1, "text": 0.4}  # tuned, of two contestants


def ended(workload, draw, end):
    """Returns what a run has found."""
    updates = workload.updates // trial.READINGS
    return {workload.judged: [end], "settings": draw._asdict(), "updates": updates}


class Unwritten(Cells):
    """Cells without a file, for many results."""

    def add(self, group, name, found):
        self._groups.setdefault(group, {})[name] = found


@pytest.fixture
def cells(tmp_path):
    found = Unwritten(tmp_path / "results.json")
    for name, workload in CHOSEN.items():
        for who, factor in (("Adam", 1.0), ("NAGD", 2.0), ("NAGD, orthogonal", 0.5)):
            for seed in (1, 2, 3):
                draw = Draw(0.1 * factor, 0.25, False)
                run = ended(workload, draw, BEST[name] * factor)
                found.add(name, f"{who}, seed {seed}", run)
    return found


def make(cells, end):
    """Makes all runs that are missing, and returns them: `end` says where each ends."""
    made = []
    while todo := next(rulings.judged(cells, CHOSEN).missing(), None):
        found = ended(todo.workload, todo.run.draw, end(todo.name, todo.run))
        cells.add(todo.name, todo.run.key, found)
        made.append(todo)
    return made


def away(best):
    """Returns ends that grow with the learning rate's distance from the best."""

    def end(name, run):
        if not run.draw.rate:
            return BEST[name]
        return BEST[name] * (1 + abs(math.log10(run.draw.rate / best)))

    return end


def test_all_is_run_once(cells):
    made = make(cells, away(0.0032))
    keys = [(each.name, each.run.key) for each in made]
    assert len(set(keys)) == len(keys)
    for name in CHOSEN:
        who = "NAGD, orthogonal"
        rates = [each.run.draw.rate for each in made if each.run.who == who and each.name == name]
        wanted = [0.00032, 0.001, 0.0032, 0.01, 0.032, 0.0032, 0.0032]
        assert rates == [*wanted, 0.05]  # The last is the tuned one's, for longer.
    assert {each.run.who for each in made} >= {*untuned.ONE_RATE, *untuned.AS_IT_COMES}


def test_the_best_rate_has_neighbours(cells):
    make(cells, away(0.1))
    found = rulings.judged(cells, CHOSEN)
    assert found.rates("Adam") == ([0.00032, 0.001, 0.0032, 0.01, 0.032, 0.1, 0.32], 0.1)
    assert found.rates("SGD") == ([0.0032, 0.01, 0.032, 0.1, 0.32], 0.1)


def test_smaller_rates_are_tried_too(cells):
    make(cells, away(0.0001))
    found = rulings.judged(cells, CHOSEN)
    assert found.rates("Lion") == ([3.2e-05, 0.0001, 0.00032, 0.001, 0.0032], 0.0001)
    assert found.rates("Adam")[0][:2] == [3.2e-05, 0.0001]
    assert found.rates("Adam")[1] == 0.0001


def test_the_search_ends_where_larger_is_always_better(cells):
    make(cells, lambda name, run: 1 / (1 + run.draw.rate))
    rates, best = rulings.judged(cells, CHOSEN).rates("Adam")
    assert best == rates[-1] == 0.32


def test_ratios_are_of_medians_to_the_best_tuned_along_the_gradient(cells):
    runs = [rulings.at_rate("Adam", 0.01, seed) for seed in (1, 2, 3)]
    for name, workload in CHOSEN.items():
        for run, factor in zip(runs, (1.5, 9.0, 3.0), strict=True):
            cells.add(name, run.key, ended(workload, run.draw, BEST[name] * factor))
    found = rulings.judged(cells, CHOSEN)
    assert found.ratios(runs) == pytest.approx([3.0, 3.0])


def test_the_leading_run_longer_with_their_own_settings(cells):
    found = rulings.judged(cells, CHOSEN)
    assert found.leading() == ["NAGD, orthogonal", "NAGD", "Adam"]
    first = next(found.longer())
    assert first.run.draw == Draw(0.05, 0.25, False)
    assert first.workload.updates == 5 * WORKLOADS[first.name].updates


def test_the_rate_rises_and_falls():
    schedule = Warmed(0.1, 0.0, True).schedule(200)
    values = [float(schedule(step)) for step in (0, 5, 10, 105, 200)]
    assert values == pytest.approx([0.0, 0.05, 0.1, 0.05, 0.0], abs=1e-6)


def test_nagd_comes_with_a_cycle(monkeypatch):
    began = []
    cycle = callbacks.OneCycle.on_train_begin
    monkeypatch.setattr(
        callbacks.OneCycle,
        "on_train_begin",
        lambda self, logs=None: (began.append(self), cycle(self, logs))[1],
    )
    logistic = WORKLOADS["logistic"]._replace(updates=2 * trial.READINGS)
    who = untuned.AS_IT_COMES["NAGD, orthogonal, OneCycle"]
    found, model = trial.train(logistic, logistic.make(), who, rulings.alone("").draw, 1)
    assert len(began) == 1
    assert isinstance(model.optimizer.direction, directions.Orthogonal)
    assert found["loss"][-1] < found["loss"][0]
