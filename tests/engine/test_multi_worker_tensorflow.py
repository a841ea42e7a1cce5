"""The example of several workers on TensorFlow, run as a user would run it."""

import contextlib
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.support.replica_cases import SETTINGS, WORKERS
from tests.support.tolerances import ORTHOGONAL, TRAJECTORY

tf = pytest.importorskip("tensorflow")

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="tf.distribute is TensorFlow's"
)
SCRIPT = Path(__file__).parents[2] / "examples" / "multi_worker_tensorflow.py"
UPDATES = 1797 // 48  # in an epoch


def run(*arguments, **environment):
    outside = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**outside, **environment},
    )


def ended(result):
    """Returns the digest of the state at the end, which agrees with that of one process."""
    assert result.returncode == 0, result.stderr
    units = re.search(r"differs by (\d+) units", result.stdout)
    assert units, result.stdout
    assert int(units[1]) <= 512
    return re.search(r"all bits of weights and displacements: (\w{16})", result.stdout)[1]


def config(addresses, index=0):
    task = {"type": "worker", "index": index}
    return json.dumps({"cluster": {"worker": addresses}, "task": task})


def moved(folder, to):
    """Copies checkpoints, and tells TensorFlow's list of them."""
    shutil.copytree(folder, to)
    listed = (to / "checkpoint").read_text()
    (to / "checkpoint").write_text(listed.replace(str(folder), str(to)))
    return to


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    return folder, run("--epochs", "1", "--output", str(folder))


@pytest.fixture(scope="module")
def workers():
    """What each of two workers found."""
    with contextlib.ExitStack() as taken:
        doors = [taken.enter_context(socket.create_server(("", 0))) for _ in range(2)]
        addresses = [f"localhost:{door.getsockname()[1]}" for door in doors]
    command = [sys.executable, "-m", "tests.support.workers"]
    with contextlib.ExitStack() as stack:
        started = []
        for place in range(2):
            settings = {**os.environ, "TF_CONFIG": config(addresses, place)}
            process = subprocess.Popen(
                command,
                cwd=SCRIPT.parent.parent,
                env=settings,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            started.append(stack.enter_context(process))
            stack.callback(process.kill)
        said = [process.communicate(timeout=300) for process in started]
    found = []
    for process, (output, errors) in zip(started, said, strict=True):
        assert process.returncode == 0, errors
        found.append(json.loads(output.rpartition("found:")[2]))
    return found


@pytest.fixture
def example():
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.long
def test_two_workers_are_as_one_process(uninterrupted):
    folder, result = uninterrupted
    ended(result)
    assert f"update   {UPDATES}, epoch 1.0: loss " in result.stdout
    assert f"age {UPDATES}, next momentum 0.750" in result.stdout
    # What the chief saves is kept, and what the other saves is not.
    assert {path.name for path in folder.glob("*.index")} == {"ckpt-20.index", "ckpt-37.index"}


@pytest.mark.long
@pytest.mark.parametrize("name", WORKERS)
def test_settings_are_as_in_one_process(workers, name):
    for found in workers:
        deviation, counters = found[name].values()
        assert deviation <= (ORTHOGONAL if name == "orthogonal" else TRAJECTORY["float32"])
        assert counters[0] == counters[1]
    counts = dict(
        zip(("age", "restarts", "skipped_updates", "iterations"), counters[0], strict=True)
    )
    for counter in SETTINGS[name].decides:
        assert counts[counter] > 0, "nothing was decided"


@pytest.mark.long
def test_a_killed_worker_costs_nothing_but_time(uninterrupted, tmp_path):
    result = run("--epochs", "1", "--output", str(tmp_path), "--kill-at-step", "25")
    assert "died: worker 1 (exit code -9); stopped all; 2 restarts left" in result.stdout
    assert f"from {tmp_path / 'ckpt-20'}: update 20, epoch 0.5" in result.stdout
    assert ended(result) == ended(uninterrupted[1])


@pytest.mark.long
def test_a_worker_that_never_comes_is_an_error_in_time(tmp_path):
    with socket.create_server(("", 0)) as mine, socket.create_server(("", 0)) as other:
        ports = [door.getsockname()[1] for door in (mine, other)]
    began = time.monotonic()
    addresses = [f"localhost:{port}" for port in ports]
    result = run("--output", str(tmp_path), "--timeout", "2", TF_CONFIG=config(addresses))
    assert time.monotonic() - began < 60  # most of which Python and TensorFlow need to start
    assert result.returncode == 1
    says = f"Worker 0 could not reach the one at localhost:{ports[1]} within 2 seconds"
    assert says in result.stderr
    assert "--timeout" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # AutoGraph's, on Python 3.13
def test_one_replica_goes_on_from_the_checkpoint_of_two(uninterrupted, example, tmp_path, capsys):
    options = example.parse_arguments(["--epochs", "2"])
    alone = tf.distribute.get_strategy()
    folder = moved(uninterrupted[0], tmp_path / "copy")
    resumed = example.train(options, alone, folder, chief=True)
    assert f"from {folder / 'ckpt-37'}: update 37, epoch 1.0" in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    whole = example.train(options, alone, tmp_path / "empty", chief=False)
    for a, b in zip(resumed, whole, strict=True):
        assert np.max(np.abs(a - b)) <= 512 * 2**-24 * np.max(np.abs(b))
    assert any(np.any(a != b) for a, b in zip(resumed, whole, strict=True))  # by rounding


@pytest.mark.long
def test_other_numbers_of_workers_go_on_from_a_checkpoint(uninterrupted, tmp_path):
    folder = moved(uninterrupted[0], tmp_path / "copy")
    for epochs, workers in (2, 1), (3, 3), (4, 2):
        result = run("--epochs", str(epochs), "--workers", str(workers), "--output", str(folder))
        done = (epochs - 1) * UPDATES
        assert f"from {folder}/ckpt-{done}: update {done}, epoch {epochs - 1}.0" in result.stdout
        ended(result)


@pytest.mark.long
def test_the_restarts_are_counted(tmp_path):
    arguments = "--epochs", "1", "--output", str(tmp_path), "--restarts", "0"
    result = run(*arguments, "--kill-at-step", "25")
    assert result.returncode == 1
    assert "0 restarts left" in result.stdout
    assert "did not come to the end" in result.stderr
    assert "update 20, epoch 0.5" in run(*arguments).stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--workers", "0"], "at least 1"),
        (["--epochs", "0"], "at least 1"),
        (["--timeout", "-1"], "at least 1"),
        (["--restarts", "-1"], "--restarts at least 0"),
        (["--workers", "5"], "must divide the batch"),
        (["--output", __file__], "cannot write into --output"),
        (["--output", "/proc/none"], "cannot write into --output"),
    ],
)
def test_bad_options_are_refused(example, arguments, says, capsys):
    with pytest.raises(SystemExit):
        example.parse_arguments(arguments)
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"cluster": {"worker": ["a:1"]}}',
        config(["a"]),
        config(["a:b"]),
        config(["a:1"], index=1),
        config([]),
        config(["a:1"]).replace('"type": "worker"', '"type": "ps"'),
    ],
)
def test_a_bad_cluster_is_refused(example, text):
    with pytest.raises(SystemExit, match="TF_CONFIG does not name the workers"):
        example.read_cluster(text)


def test_the_chief_comes_first(example):
    cluster = {"worker": ["b:2", "c:3"], "chief": ["a:1"]}
    text = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": 1}})
    assert example.read_cluster(text) == ([("a", 1), ("b", 2), ("c", 3)], 2)


def test_a_worker_needs_its_port_and_a_folder(example, monkeypatch, capsys):
    with (
        socket.create_server(("", 0)) as taken,
        pytest.raises(SystemExit, match="Worker 0 cannot use its port"),
    ):
        example.meet([("localhost", taken.getsockname()[1])], 0, timeout=1)
    monkeypatch.setenv("TF_CONFIG", config(["localhost:1"]))
    with pytest.raises(SystemExit):
        example.parse_arguments([])
    assert "--output must name a folder" in capsys.readouterr().err
