"""The race: who draws what, what is judged, when it is resumed, and what is made of the numbers."""

import inspect
import math
from pathlib import Path

import keras
import numpy as np
import pytest

pytest.importorskip("scipy", reason="the trials are drawn with it")
if keras.backend.backend() != "tensorflow":
    pytest.skip("the race runs on TensorFlow", allow_module_level=True)

from benchmarks.race import __main__ as race
from benchmarks.race import figures, judging, plan, report, rulings, speed, trial
from benchmarks.race.contestants import ALL, BUILT_IN, DRAWS, OURS, Draw, at_average, of_workload
from benchmarks.race.workload import Workload, paired
from benchmarks.race.workloads import WORKLOADS
from benchmarks.support.cells import Cells
from tests.support.drivers import to_float64

# Keras brought some of the peers later than the oldest release that NAGD supports.
ARGUMENTS = {"Muon": "adam_weight_decay", "ScheduleFreeAdamW": "weight_decay"}


def is_here(name):
    known = getattr(keras.optimizers, name, None)
    wanted = ARGUMENTS.get(name)
    return wanted is None or (known and wanted in inspect.signature(known.__init__).parameters)


HERE = {name for name in ALL if is_here(name)}


def test_every_contestant_draws_as_many_trials_around_its_pilots_best():
    for contestant in ALL.values():
        draws = contestant.draws(0.02)
        assert len(draws) == DRAWS >= 6
        assert draws == contestant.draws(0.02)
        # A cycle falls by itself, and an average takes the place of a decay.
        wanted = {False, True} if contestant.decays else {False}
        assert {draw.decays for draw in draws} == wanted
        for draw in draws:
            assert draw.rate / (0.02 * contestant.factor) * 1.01 >= 0.1
            assert draw.rate / (0.02 * contestant.factor) <= 10 * 1.01
            assert contestant.rests[0] <= draw.rest * 1.01
            assert draw.rest <= contestant.rests[1] * 1.01


def test_the_same_points_of_all_ranges():
    def points(contestant):
        return [math.log10(draw.rate / contestant.factor) / 2 + 0.5 for draw in contestant.draws(1)]

    first, *others = (points(each) for each in ALL.values())
    for other in others:
        np.testing.assert_allclose(other, first, atol=0.005)
    assert 0 <= min(first) < 0.2
    assert 0.8 < max(first) <= 1


def test_nagd_and_its_peer_are_tuned_alike():
    ours, peer = OURS["NAGD"], BUILT_IN["SGD, Nesterov"]
    assert ours.draws(0.3) == peer.draws(0.3)
    assert ours.pilot == peer.pilot


def test_both_kinds_have_pilots_of_the_same_size():
    assert {each.pilot for each in ALL.values()} == set(plan.PILOTS)
    momentum, adam = (plan.PILOTS[who].rates for who in ("SGD, Nesterov", "Adam"))
    assert len(momentum) == len(adam) == 11
    assert (momentum[0], momentum[-1]) == (1e-4, 10)
    assert (adam[0], adam[-1]) == (1e-5, 1)
    for rates in (momentum, adam):
        np.testing.assert_allclose(np.diff(np.log10(rates)), 0.5, atol=0.02)


@pytest.mark.keep(4)
@pytest.mark.parametrize("name", [name for name in ALL if name in HERE])
def test_a_contestant_descends(name):
    optimizer = ALL[name].make(ALL[name].draws(0.1)[0], 20)
    variable = keras.Variable([[3.0, -4.0], [2.0, 1.0]])
    for _ in range(3):
        optimizer.apply([keras.ops.sign(variable.value)], [variable])
    assert np.sum(np.abs(to_float64(variable))) < 10


@pytest.mark.long
@pytest.mark.parametrize("name", sorted({"NAGD, restart", "ScheduleFreeAdamW"} & HERE))
def test_a_contestant_trains_and_is_judged(name, logistic):
    contestant = ALL[name]
    draw = contestant.draws(0.1)[0]
    found, _ = trial.train(logistic, logistic.make(), contestant, draw, seed=1)
    assert found["updates"] == 2
    assert len(found["loss"]) == len(found["accuracy"]) == trial.READINGS
    assert found["loss"][-1] < found["loss"][0]
    assert found["settings"] == draw._asdict()


@pytest.fixture
def logistic():
    return WORKLOADS["logistic"]._replace(updates=2 * trial.READINGS)


@pytest.mark.long
def test_a_run_makes_its_updates_and_no_more(logistic):
    assert all(w.updates % trial.READINGS == 0 for w in WORKLOADS.values())
    longer = logistic._replace(updates=30 * trial.READINGS)  # not whole executions of 20
    contestant = BUILT_IN["SGD"]
    draw = contestant.draws(0.1)[0]
    found, model = trial.train(longer, longer.make(), contestant, draw, seed=1)
    assert int(model.optimizer.iterations) == longer.updates == found["updates"] * trial.READINGS


@pytest.mark.keep(1)
@pytest.mark.parametrize("name", [name for name in ALL if name in HERE])
def test_the_first_update_starts_at_the_initial_weights(name, logistic):
    problem = logistic.make()
    tiny = ALL[name].draws(0.1)[0]._replace(rate=1e-6, decays=False)
    model = trial.compiled(logistic, problem, ALL[name], tiny, seed=1)
    before = [to_float64(v) for v in model.trainable_variables]
    data = trial.batches(problem.train, logistic.batch, logistic.updates, 1)
    model.fit(data, steps_per_epoch=2, shuffle=False, verbose=0)
    for start, variable in zip(before, model.trainable_variables, strict=True):
        np.testing.assert_allclose(to_float64(variable), start, atol=1e-3)


def test_a_run_whose_loss_is_not_finite_ends(logistic):
    contestant = BUILT_IN["SGD"]
    draw = contestant.draws(0.1)[0]._replace(rate=1e30, decays=False)
    found, _ = trial.train(logistic, logistic.make(), contestant, draw, seed=1)
    assert len(found["loss"]) < trial.READINGS
    assert not math.isfinite(found["loss"][-1])


@pytest.mark.keep(1)
@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS)
def test_a_workload_has_what_its_name_says(workload):
    problem = workload.make()
    keras.utils.set_random_seed(3)
    model = problem.network()
    model.compile(optimizer=keras.optimizers.SGD(0.0), jit_compile=False, **problem.settings)
    examined = paired([a[:8] for a in problem.examined])
    found = model.evaluate(*examined, verbose=0, return_dict=True)
    assert all(map(math.isfinite, found.values()))
    assert workload.judged in found
    assert len({len(a) for a in problem.train}) == 1
    again = workload.make()
    assert all(np.array_equal(a, b) for a, b in zip(problem.train, again.train, strict=True))
    # The weights are of the seed.
    keras.utils.set_random_seed(3)
    same = problem.network()
    keras.utils.set_random_seed(4)
    other = problem.network()
    for a, b in zip(model.weights, same.weights, strict=True):
        np.testing.assert_array_equal(to_float64(a), to_float64(b))
    assert any(
        not np.array_equal(to_float64(a), to_float64(b))
        for a, b in zip(model.weights, other.weights, strict=True)
    )


def test_each_pass_has_every_example_once():
    x = np.arange(10)[:, None]
    seen = [
        int(v)
        for a, b in trial.batches((x, x), 5, 6, seed=2)
        for v in a[:, 0]
        if np.array_equal(a, b)
    ]
    assert [sorted(seen[i : i + 10]) for i in (0, 10, 20)] == [list(range(10))] * 3
    assert seen[:10] != seen[10:20]


def test_a_full_batch_is_all_there_is():
    x = np.arange(10)[:, None]
    made = list(trial.batches((x, x), 0, 3, seed=2))
    assert len(made) == 3
    assert all(np.array_equal(a, x) for a, _ in made)


@pytest.mark.skipif("ScheduleFreeAdamW" not in HERE, reason="not in this Keras")
def test_schedule_free_is_judged_at_its_average(rng):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    optimizer = keras.optimizers.ScheduleFreeAdamW(0.1, beta_1=0.8)
    model.compile(optimizer=optimizer, loss="mse")
    x, y = rng.normal(size=(20, 3)), rng.normal(size=(20, 2))
    for step in range(1, 8):
        before = [to_float64(v) for v in model.trainable_variables]
        model.train_on_batch(x, y)
        held = [to_float64(v) for v in model.trainable_variables]
        with at_average(model):
            average = [to_float64(v) for v in model.trainable_variables]
        for i, z in enumerate(map(to_float64, optimizer._momentums)):
            # What Keras takes for the last average on TensorFlow, where z is already the new one.
            last = (before[i] - 0.2 * z) / 0.8
            wanted = last + (z - last) / step
            np.testing.assert_allclose(average[i], wanted, rtol=1e-4, atol=1e-5)
        for variable, value in zip(model.trainable_variables, held, strict=True):
            np.testing.assert_array_equal(to_float64(variable), value)


def run_of(*losses, updates=10):
    """A run whose last loss stays."""
    missing = trial.READINGS - len(losses)
    return {"loss": [*losses, *[losses[-1]] * missing], "updates": updates}


@pytest.fixture
def cells(tmp_path):
    """Nadam is the best built-in at three quarters: 1. One of NAGD's three runs did not end."""
    found = Cells(tmp_path / "results.json")
    at = math.ceil(judging.AT * trial.READINGS)
    curves = {
        "NAGD": [run_of(3, 1, 0.5), run_of(3, 3, 0.8), {"loss": [3.0, math.nan], "updates": 10}],
        "Adam": [run_of(4, 2)] * 3,
        "Nadam": [run_of(*[2] * (at - 1), 1.0, 0.9)] * 3,
    }
    for who, runs in curves.items():
        for seed, run in enumerate(runs, 1):
            found.add("digits", f"{who}, seed {seed}", run)
    costs = {"ms": {"NAGD": 2.0, "Adam": 1.0, "Nadam": 4.0}, "bytes": {"NAGD": 4.0}}
    found.add("digits", plan.SPEED, costs)
    return Cells(tmp_path / "results.json")


SEEDS = (1, 2, 3)


def test_the_best_built_in_sets_the_target(cells):
    target, scores = judging.scores(cells, "digits", SEEDS)
    assert target == 1.0
    assert (scores["NAGD"].end, scores["NAGD"].low, scores["NAGD"].high) == (0.8, 0.5, math.inf)
    assert scores["NAGD"].to_target == 30  # 20, 30, never
    assert scores["NAGD"].seconds == pytest.approx(0.06)
    assert scores["Adam"].to_target == math.inf
    assert scores["Nadam"].to_target == 10 * math.ceil(judging.AT * trial.READINGS)


def test_a_target_that_is_not_finite_is_not_reached(cells):
    for who in ("Adam", "Nadam"):
        for seed in SEEDS:
            cells.add("digits", f"{who}, seed {seed}", {"loss": [math.nan], "updates": 10})
    target, scores = judging.scores(cells, "digits", SEEDS)
    assert target == math.inf
    assert scores["Adam"].to_target == math.inf


def test_a_report_is_of_whole_workloads(cells, tmp_path, monkeypatch, capsys):
    file = str(tmp_path / "results.json")
    monkeypatch.setattr("sys.argv", ["race", "digits", "--report", "--results", file])
    assert race.main() == 0
    assert "digits: not reported, for runs are missing of: NAGD; " in capsys.readouterr().out
    assert not list(tmp_path.glob("*.png"))


def test_the_page_says_it_all(cells, tmp_path, capsys):
    report.write(cells, ["digits"], plan.WHOLE, tmp_path / "new")
    said = capsys.readouterr().out
    assert "| **NAGD** | 0.8 (0.5 to inf) |  | 30 | 0.1 | 2.00 | 4.0 |" in said
    assert "| Adam | 2 (2 to 2) |  | — | — | 1.00 | nan |" in said
    assert {p.name for p in (tmp_path / "new").iterdir()} == {"race_tuned.png"}


@pytest.mark.skipif(not race.HERE.exists(), reason="a source distribution has no results")
def test_the_page_has_the_rules_and_the_results():
    page = (Path(__file__).parents[2] / "docs" / "race.md").read_text()
    cells = Cells(race.HERE)
    assert report.sizes(cells, WORKLOADS, plan.WHOLE) in page
    assert report.ranges() in page
    for name, workload in WORKLOADS.items():
        assert plan.unfinished(cells, name, workload, plan.WHOLE) == []
    table = {name: judging.scores(cells, name, plan.WHOLE.seeds) for name in WORKLOADS}
    assert report.page(table) in page
    found = rulings.judged(cells, WORKLOADS)
    assert list(found.missing()) == []
    for rows in report.ruled(found).values():
        assert report.ratios(rows) in page
    assert report.longer(found) in page


@pytest.fixture
def alone(monkeypatch):
    """Runs that are not made: the loss of each is its learning rate's distance from 0.3."""
    made = []

    def train(workload, problem, contestant, draw, seed):
        made.append((contestant, draw, seed))
        loss = abs(math.log10(draw.rate / 0.3))
        updates = workload.updates // trial.READINGS
        return {"loss": [loss], "settings": draw._asdict(), "updates": updates}, None

    monkeypatch.setattr(trial, "train", train)
    everyone = of_workload(full_batch=False)
    sizes = dict.fromkeys(everyone, 1.0)
    monkeypatch.setattr(speed, "measured", lambda *_: {"ms": sizes, "bytes": sizes})
    return made


TINY = Workload("tiny", dict, 1, 160, "loss")
PLAN = plan.Plan(plan.PILOTS, 3, (1, 2), 1, 1)


def test_pilots_come_first_and_say_where_trials_are_drawn(alone, tmp_path):
    cells = Cells(tmp_path / "results.json")
    race.run(cells, "tiny", TINY, PLAN)
    everyone = of_workload(full_batch=False)
    seen = set()
    wanted = []
    for who, contestant in everyone.items():
        if contestant.pilot not in seen:
            seen.add(contestant.pilot)
            rest, rates = plan.PILOTS[contestant.pilot]
            wanted += [(ALL[contestant.pilot], Draw(rate, rest, False), 0) for rate in rates]
            assert plan.centre(cells, "tiny", TINY, contestant.pilot, PLAN) == 0.32
        draws = contestant.draws(0.32)[:3]
        best = min(draws, key=lambda draw: abs(math.log10(draw.rate / 0.3)))
        tried = *((draw, 0) for draw in draws), (best, 1), (best, 2)
        wanted += [(ALL[who], draw, seed) for draw, seed in tried]
    assert alone == wanted


def test_a_pilot_of_which_no_run_ends_says_the_smallest_rate(tmp_path):
    cells = Cells(tmp_path / "results.json")
    for run in plan.pilots("Adam", PLAN):
        cells.add("tiny", run.key, {"loss": [1.0, math.nan]})
    assert plan.centre(cells, "tiny", TINY, "Adam", PLAN) == 1e-5


@pytest.mark.long
def test_only_what_is_missing_is_run(alone, tmp_path, capsys):
    everyone = of_workload(full_batch=False)
    whole = len(everyone) * 5 + sum(len(each.rates) for each in plan.PILOTS.values())
    file = tmp_path / "results.json"
    cells = Cells(file)
    assert plan.unfinished(cells, "tiny", TINY, PLAN) == list(everyone)
    race.run(cells, "tiny", TINY, PLAN)
    assert plan.unfinished(cells, "tiny", TINY, PLAN) == []
    longer = TINY._replace(updates=320)
    assert plan.unfinished(cells, "tiny", longer, PLAN) == list(everyone)
    assert len(alone) == whole
    alone.clear()
    race.run(Cells(file), "tiny", TINY, PLAN)
    assert alone == []
    cells.add("tiny", plan.SPEED, {"ms": {"NAGD": 1.0}, "bytes": {"NAGD": 1.0}})
    assert plan.unfinished(cells, "tiny", TINY, PLAN) == list(everyone)
    cells.add("tiny", "NAGD, trial 1", {"loss": [1.0], "settings": {}, "updates": 1})
    assert plan.unfinished(cells, "tiny", TINY, PLAN) == ["NAGD"]
    race.run(Cells(file), "tiny", longer, PLAN)
    assert len(alone) == whole  # All of it, for what is there is of other updates.
    assert "tiny: NAGD, trial 0" in capsys.readouterr().out


@pytest.mark.long
def test_trials_are_drawn_anew_when_the_pilot_says_another_rate(alone, tmp_path):
    cells = Cells(tmp_path / "results.json")
    race.run(cells, "tiny", TINY, PLAN)
    found = cells.of("tiny", "pilot, Adam, 0.001")
    cells.add("tiny", "pilot, Adam, 0.001", {**found, "loss": [0.0]})
    adaptive = [who for who, each in of_workload(False).items() if each.pilot == "Adam"]
    assert plan.unfinished(cells, "tiny", TINY, PLAN) == adaptive


def test_a_quick_run_is_not_mixed_with_whole_ones(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["race", "--quick"])
    with pytest.raises(SystemExit):
        race.main()
    assert "--quick needs --results" in capsys.readouterr().err


@pytest.mark.long
def test_updates_are_timed_in_turn(logistic, monkeypatch):
    some = {name: ALL[name] for name in ("NAGD", "SGD")}
    monkeypatch.setattr(speed, "of_workload", lambda full_batch: some)
    problem = logistic.make()
    _, model = trial.train(logistic, problem, ALL["SGD"], ALL["SGD"].draws(0.1)[0], seed=1)
    before = int(model.optimizer.iterations)
    draws = {name: each.draws(0.1)[0] for name, each in some.items()}
    found = speed.measured(logistic, problem, draws, {"SGD": model}, rounds=2)
    assert int(model.optimizer.iterations) > before
    assert set(found["ms"]) == set(some)
    assert all(ms > 0 for ms in found["ms"].values())
    # A slot of 4 bytes, and counters, of which there are many for 31 weights.
    assert 4 <= found["bytes"]["NAGD"] - found["bytes"]["SGD"] < 8
    assert found["rounds"] == 2


def test_figures_can_be_drawn_of_what_did_not_end(tmp_path):
    rows = {"NAGD": {"mean": math.inf, "digits": math.inf}, "Adam": {"mean": 1.0}}
    drawn = [
        figures.heat(rows, "title", tmp_path / "heat.png"),
        figures.curves({"NAGD": {0.1: 1.0, 1.0: math.inf}}, tmp_path / "curves.png"),
    ]
    assert all(path.stat().st_size > 1000 for path in drawn)
