"""The examples run as a user would run them."""

import contextlib
import copy
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from matplotlib.image import imread

from nagd_keras import NAGD
from tests.support.drivers import assert_identical, snapshot

ROOT = Path(__file__).parents[2]


@pytest.fixture
def digits():
    with example("digits") as module:
        yield module


@pytest.fixture
def one_cycle(digits):
    with example("one_cycle") as module:
        yield module


@contextlib.contextmanager
def example(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where its dataclass, or the other example, looks for it
    spec.loader.exec_module(module)
    yield module
    del sys.modules[name]


def run(*arguments, name="digits"):
    return subprocess.run(
        [sys.executable, str(ROOT / "examples" / f"{name}.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.long  # CI runs the README's command.
def test_digits_from_the_command_line(tmp_path):
    result = run("--epochs", "1", "--output", str(tmp_path / "new"))
    assert result.returncode == 0, result.stderr
    for said in [
        "training loss",
        "Keras SGD, Nesterov",
        "NAGD, orthogonal",
        "identical to the bit, age 45",
        "Trained on from the file, epoch 2: training loss",
    ]:
        assert said in result.stdout
    lines = result.stdout.splitlines()
    assert len(lines) <= 20  # a screen, with the command
    assert max(map(len, lines)) <= 80 + len(str(tmp_path))
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"digits.png", "digits.keras"}
    figure = imread(tmp_path / "new" / "digits.png")
    assert figure.shape[0] > 300
    assert len(np.unique(figure.reshape(-1, figure.shape[-1]), axis=0)) > 50  # not an empty page


@pytest.mark.long
@pytest.mark.parametrize("seed", [0])
def test_momentum_needs_a_third_of_gradient_descents_epochs(digits, tmp_path, capsys, seed):
    results = digits.main(["--output", str(tmp_path), "--seed", str(seed)])
    plain, sgd, nagd = results
    assert sgd.epochs_to(plain.loss[-1]) <= 10 / 3
    assert nagd.epochs_to(plain.loss[-1]) <= 10 / 3
    assert 10 * nagd.loss[-1] < sgd.loss[-1] < plain.loss[-1]
    assert plain.epochs_to(0.0) is None


@pytest.mark.long
def test_all_contestants_get_the_same_weights_and_batches(digits, tmp_path, monkeypatch, capsys):
    """With one optimizer under the three names, the three runs are one."""
    names = list(digits.make_optimizers(digits.parse_arguments([])))
    same = {name: NAGD() for name in names}
    monkeypatch.setattr(digits, "make_optimizers", lambda options: same)
    results = digits.main(["--epochs", "2", "--output", str(tmp_path)])
    assert results[0].loss == results[1].loss == results[2].loss
    weights = [snapshot(result.model) for result in results]
    assert_identical(weights[0], weights[1])
    assert_identical(weights[0], weights[2])


def test_a_difference_after_loading_is_found(digits):
    model = digits.make_model(4)
    model.compile(optimizer="nagd_keras>NAGD", loss="sparse_categorical_crossentropy")
    model.train_on_batch(np.ones((2, 4)), np.ones(2))
    other = copy.deepcopy(model)
    assert digits.check_identical(other, model) == len(model.variables) + len(
        model.optimizer.variables
    )
    slot = other.optimizer.displacements[0]
    slot.assign(np.nextafter(slot.numpy(), np.float32(1)))
    with pytest.raises(SystemExit, match="displacement"):
        digits.check_identical(other, model)


def test_mnist_without_a_network(digits, monkeypatch):
    def fail():
        raise Exception("URL fetch failure")

    monkeypatch.setattr(keras.datasets.mnist, "load_data", fail)
    with pytest.raises(SystemExit, match=r"could not be downloaded.*--dataset digits"):
        digits.load_data("mnist", 0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--epochs", "0"], "at least 1"),
        (["--batch-size", "-1"], "at least 1"),
        (["--dataset", "x"], "invalid choice"),
        (["--learning-rate", "-1"], "at least 0"),
        (["--learning-rate", "nan"], "at least 0"),
        (["--momentum", "1"], r"in \[0, 1\)"),
        (["--momentum", "-0.1"], r"in \[0, 1\)"),
        (["--verbose", "3"], "invalid choice"),
        (["--output", __file__], "cannot write into the folder"),
        (["--output", "/proc/none"], "cannot write into the folder"),
    ],
)
def test_bad_options_are_refused(digits, arguments, says, capsys):
    with pytest.raises(SystemExit):
        digits.parse_arguments(arguments)
    assert re.search(says, capsys.readouterr().err)


@pytest.mark.long
def test_one_cycle_from_the_command_line(tmp_path):
    result = run("--epochs", "1", "--output", str(tmp_path), name="one_cycle")
    assert result.returncode == 0, result.stderr
    for said in ["steepest: ", "150", "one cycle to", "test accuracy"]:
        assert said in result.stdout
    figure = imread(tmp_path / "digits_one_cycle.png")
    assert figure.shape[1] > 1000
    assert len(np.unique(figure.reshape(-1, figure.shape[-1]), axis=0)) > 50


@pytest.mark.long
def test_one_cycle_takes_the_rate_that_was_found(one_cycle, tmp_path, capsys):
    epochs = 6
    default, found, cycle = one_cycle.main(["--epochs", str(epochs), "--output", str(tmp_path)])
    assert all(len(run.history["loss"]) == epochs for run in (default, found, cycle))
    rates = cycle.cycle.learning_rates
    assert len(rates) == epochs * 45
    assert max(rates) == pytest.approx(float(cycle.name.split()[-1]), rel=0.01)
    assert default.history["loss"][0] > found.history["loss"][0]


@pytest.mark.long
def test_one_cycle_beats_the_default_rate(one_cycle, tmp_path, capsys):
    """On both sets, with most seeds."""
    won = []
    for seed in range(3):
        # The default's 30 epochs show the same in twice the time.
        options = ["--epochs", "15", "--output", str(tmp_path), "--seed", str(seed)]
        default, _, cycle = one_cycle.main(options)
        ends = [(cycle.history[x][-1], default.history[x][-1]) for x in ("loss", "val_loss")]
        won.append(all(a < b for a, b in ends))
    assert sum(won) >= 2


def test_one_cycle_refuses_bad_options(one_cycle, capsys):
    for arguments in (["--suggestion", "best"], ["--epochs", "0"], ["--output", __file__]):
        with pytest.raises(SystemExit):
            one_cycle.parse_arguments(arguments)


@pytest.mark.long
def test_robust_from_the_command_line(tmp_path):
    result = run("--epochs", "1", "--output", str(tmp_path), name="robust")
    assert result.returncode == 0, result.stderr
    for said in ["2 batches are spoiled", "Keras SGD, Nesterov", "of the clean"]:
        assert said in result.stdout
    figure = imread(tmp_path / "digits_robust.png")
    assert figure.shape[1] > 1000
    assert len(np.unique(figure.reshape(-1, figure.shape[-1]), axis=0)) > 50


@pytest.mark.long
def test_spoiled_batches_do_no_harm_with_skip_and_guard(digits, tmp_path, capsys):
    """The others end in NaN, or nowhere."""
    with example("robust") as robust:
        runs = robust.main(["--epochs", "10", "--output", str(tmp_path)])
    clean, sgd, plain, skip, helped = (run.losses[-1] for run in runs)
    assert np.isnan(sgd)
    assert np.isnan(plain)
    assert skip > 2 * clean
    assert abs(helped / clean - 1) < 0.05


@pytest.mark.parametrize("arguments", [["--share", "1.5"], ["--epochs", "0"]])
def test_robust_refuses_bad_options(digits, arguments, capsys):
    with example("robust") as robust, pytest.raises(SystemExit):
        robust.parse_arguments(arguments)
