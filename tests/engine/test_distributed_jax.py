"""NAGD on several devices and in several processes by JAX, each in processes of their own.

Devices are set up once: `jax_devices.py` and `jax_processes.py` train, and say what they found.
"""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import keras
import pytest

from nagd_keras import saving
from tests.support.tolerances import ORTHOGONAL, TRAJECTORY, UNIT

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="keras.distribution trains on JAX"
)

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "multi_process_jax.py"
DEVICES = 4
RECENT = hasattr(keras.distribution.DataParallel, "auto_shard_dataset")  # not so in Keras 3.10
CASES = (
    "scheduled",
    "restart by gradient",
    "restart by speed",
    "skip",
    "accumulation",
    "global_clipnorm",
    "average",
    "slot_dtype",
    "adaptive",
    "orthogonal",
    "callbacks",
)
BY_DATA = ("scheduled", "skip")
# Those of the long test, which all are trained in both ways.
LONG_CASES = ("constant", "clipnorm", "clipvalue", "guard")
# Four devices add up the gradients in another order: up to 4 roundings were seen in 24 updates. A
# displacement of 16 bits may round to the number next to it.
AGREES = TRAJECTORY["float32"]
TOLERANCES = {"slot_dtype": UNIT["bfloat16"], "orthogonal": ORTHOGONAL}
LOSS_TOLERANCE = 2.0**-20


def environment(devices=1):
    flags = f"--xla_force_host_platform_device_count={devices}"
    return {**os.environ, "KERAS_BACKEND": "jax", "XLA_FLAGS": flags}


def run(*arguments, devices=1):
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment(devices),
        cwd=ROOT,
        timeout=300,
    )


def trained(folder, **kinds):
    """What `tests/support/jax_devices.py` found on four devices, for the cases of each kind."""
    result = run("-m", "tests.support.jax_devices", str(folder), json.dumps(kinds), devices=DEVICES)
    assert result.returncode == 0, result.stderr
    return found_in(result.stdout)


def found_in(output):
    return json.loads(re.search("^found: (.*)$", output, re.M)[1])


def free_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture(scope="module")
def devices(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("files"), model=CASES, data=BY_DATA)


def check_case(found, name):
    assert found["misplaced"] == []
    assert found["deviation"] <= TOLERANCES.get(name, AGREES)
    assert found["losses"] <= LOSS_TOLERANCE
    assert found["history"] <= LOSS_TOLERANCE
    assert found["counters"][0] == found["counters"][1]
    age, restarts, skipped, _ = found["counters"][0]
    if name.startswith("restart") or name == "guard":
        assert restarts > 0
    elif name == "skip":
        assert skipped == 3
    else:
        assert age == (12 if name == "accumulation" else 24)


@pytest.mark.parametrize("name", CASES)
def test_split_variables_train_as_on_one_device(devices, name):
    found = devices[f"{name}, model"]
    check_case(found, name)
    # A kernel of 24 x 8 in float32, of which each device has half the columns, or a quarter.
    kernel, displacement = found["bytes"]
    columns = 4 if RECENT else 2
    assert kernel == [24 * columns * 4] * DEVICES
    assert displacement == [24 * columns * (2 if name == "slot_dtype" else 4)] * DEVICES


@pytest.mark.parametrize("name", BY_DATA)
def test_shared_batches_train_as_on_one_device(devices, name):
    found = devices[f"{name}, data"]
    check_case(found, name)
    assert found["bytes"] == [[24 * 8 * 4] * DEVICES] * 2


@pytest.mark.long
def test_all_cases_train_as_on_one_device(tmp_path):
    names = (*CASES, *LONG_CASES)
    found = trained(tmp_path, model=LONG_CASES, data=names)
    for name in names:
        check_case(found[f"{name}, data"], name)
    for name in LONG_CASES:
        check_case(found[f"{name}, model"], name)


@pytest.mark.parametrize("way", ["model to one", "one to model", "data to model"])
def test_files_know_nothing_of_the_layout(devices, way):
    found = devices["files"][way]
    assert found["bits"] == [True, True]
    assert found["misplaced"] == []
    assert found["split"] == way.endswith("to model")
    assert found["deviation"] <= AGREES


def test_what_sets_slots_keeps_their_layout(devices):
    found = devices["methods"]
    assert all(slots == [] for slots in found.pop("misplaced").values())
    assert all(found.values()), found


@pytest.mark.skipif(
    not RECENT,
    reason="older versions of Keras take nothing but a tf.data pipeline in several processes",
)
def test_two_processes(tmp_path):
    """NaNs, which stand for none in the optimizer's numbers, pass from process to process."""
    command = [sys.executable, "-m", "tests.support.jax_processes", str(tmp_path), free_address()]
    outputs = [tmp_path / f"output_{i}" for i in range(2)]
    with contextlib.ExitStack() as stack:
        started = []
        for i, path in enumerate(outputs):
            output = stack.enter_context(path.open("w"))
            process = subprocess.Popen(
                [*command, str(i)], stdout=output, stderr=output, env=environment(), cwd=ROOT
            )
            started.append(stack.enter_context(process))
            stack.callback(process.kill)
        # If one fails, the other would wait for it.
        while None in (codes := [process.poll() for process in started]) and not any(codes):
            time.sleep(0.1)
    said = [path.read_text() for path in outputs]
    assert codes == [0, 0], "\n".join(said)
    first, second = map(found_in, said)
    for found in (first, second):
        assert found["bits"]
        assert found["back"]
        assert found["goes on"]
    assert first["counters"][0] == first["counters"][1]
    assert first["counters"][0][2] == 2
    assert first["deviation"] <= AGREES
    assert first["goes on alone"] <= AGREES
    assert len(first["others"]) == 3
    for name, found in first["others"].items():
        assert found <= (UNIT["bfloat16"] if name.startswith("slot_dtype") else AGREES), name


def relative_difference(said):
    return float(re.search(r"largest relative difference (\S+),", said)[1])


def test_the_example_splits_variables(tmp_path):
    pytest.importorskip("tensorflow", reason="the example divides a tf.data pipeline")
    result = run(str(EXAMPLE), "--epochs", "1", "--model-parallel", "--output", str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert re.search(r"hidden_0/kernel, 16384 in all +8192 8192 +8192 8192", result.stdout)
    assert re.search(r"logits/kernel, 2560 in all +2560 2560 +2560 2560", result.stdout)
    assert relative_difference(result.stdout) < 1e-4
    assert "loaded again by one process" in result.stdout
    # One more process, with one device, goes on from the file.
    model = saving.load_model(tmp_path / "multi_process.keras")
    assert int(model.optimizer.age) == 56
    assert all(s.numpy().any() for s in model.optimizer.displacements)


@pytest.mark.long
def test_the_example_shares_batches():
    pytest.importorskip("tensorflow", reason="the example divides a tf.data pipeline")
    result = run(str(EXAMPLE), "--epochs", "2")
    assert result.returncode == 0, result.stderr
    assert re.search(r"hidden_0/kernel, 16384 in all +16384 16384 +16384 16384", result.stdout)
    assert relative_difference(result.stdout) < 1e-4


def test_the_example_says_that_a_process_is_missing():
    pytest.importorskip("tensorflow", reason="the example divides a tf.data pipeline")
    address = free_address()
    result = run(str(EXAMPLE), "--coordinator", address, "--process", "0", "--timeout", "2")
    assert result.returncode == 1
    assert f"Process 0 of 2 did not meet all others at {address} within 2 s" in result.stderr


def test_the_example_says_what_it_needs(monkeypatch):
    hidden = "import sys; sys.modules['tensorflow'] = None; sys.argv = sys.argv[1:]\n"
    script = hidden + "import runpy; runpy.run_path(sys.argv[0])"
    result = run("-c", script, str(EXAMPLE))
    assert result.returncode == 1
    assert 'needs tensorflow: pip install "nagd-keras[jax,examples]"' in result.stderr

    command = [sys.executable, str(EXAMPLE), "--help"]
    env = {**os.environ, "KERAS_BACKEND": "torch"}
    other = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert other.returncode == 1
    assert "KERAS_BACKEND=torch" in other.stderr


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--process", "0"], "go together"),
        (["--coordinator", "localhost:1", "--process", "2"], "from 0 to 1"),
        (["--devices", "5"], "must divide"),
        (["--epochs", "0"], "at least 1"),
    ],
)
def test_the_example_refuses_bad_options(arguments, says):
    pytest.importorskip("tensorflow", reason="the example divides a tf.data pipeline")
    result = run(str(EXAMPLE), *arguments)
    assert result.returncode == 2
    assert says in result.stderr
