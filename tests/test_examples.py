"""The examples run as a user would run them."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

ROOT = Path(__file__).parent.parent


@pytest.fixture
def digits():
    spec = importlib.util.spec_from_file_location("digits", ROOT / "examples" / "digits.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["digits"] = module  # where its dataclass looks for its module
    yield spec.loader.exec_module(module) or module
    del sys.modules["digits"]


def run(*arguments):
    return subprocess.run(
        [sys.executable, str(ROOT / "examples" / "digits.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_digits_from_the_command_line(tmp_path):
    result = run("--epochs", "2", "--output", str(tmp_path / "new"))
    assert result.returncode == 0, result.stderr
    for said in [
        "Epoch 2/2",
        "training loss",
        "Keras SGD, Nesterov",
        "identical to the bit, age 90",
        "Epoch 3/3",
    ]:
        assert said in result.stdout
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"digits.png", "digits.keras"}
    figure = imread(tmp_path / "new" / "digits.png")
    assert figure.shape[0] > 300
    assert len(np.unique(figure.reshape(-1, figure.shape[-1]), axis=0)) > 50  # not an empty page


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_nagd_needs_a_third_of_the_epochs(digits, tmp_path, capsys, seed):
    results = digits.main(["--output", str(tmp_path), "--seed", str(seed)])
    plain, sgd, nagd = results
    assert nagd.epochs_to(plain.loss[-1]) <= 10 / 3
    assert nagd.loss[-1] < sgd.loss[-1] < plain.loss[-1]
    assert plain.epochs_to(0.0) is None


def test_all_optimizers_see_the_same_weights_and_batches(digits, capsys):
    options = digits.parse_arguments(["--epochs", "2"])
    data = digits.load_data("digits", 0)
    from nagd_keras import NAGD

    once, again = (digits.train("x", NAGD(), data, options) for _ in range(2))
    assert once.loss == again.loss
    for a, b in zip(once.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_difference_after_loading_is_found(digits):
    model = digits.make_model(4)
    model.compile(optimizer="nagd_keras>NAGD", loss="sparse_categorical_crossentropy")
    model.train_on_batch(np.ones((2, 4)), np.ones(2))
    import copy

    other = copy.deepcopy(model)
    assert digits.check_identical(other, model) == len(model.variables) + len(
        model.optimizer.variables
    )
    slot = other.optimizer.displacements[0]
    slot.assign(np.nextafter(slot.numpy(), np.float32(1)))
    with pytest.raises(SystemExit, match="displacement"):
        digits.check_identical(other, model)


def test_mnist_without_a_network(digits, monkeypatch):
    import keras

    def fail():
        raise Exception("URL fetch failure")

    monkeypatch.setattr(keras.datasets.mnist, "load_data", fail)
    with pytest.raises(SystemExit, match=r"could not be downloaded.*--dataset digits"):
        digits.load_data("mnist", 0)


@pytest.mark.parametrize(
    "arguments", [["--epochs", "0"], ["--batch-size", "-1"], ["--dataset", "x"]]
)
def test_bad_options_are_refused(digits, arguments, capsys):
    with pytest.raises(SystemExit):
        digits.parse_arguments(arguments)
    assert re.search("at least 1|invalid choice", capsys.readouterr().err)
