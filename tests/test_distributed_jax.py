"""NAGD on several devices and in several processes by JAX, each in processes of their own.

Devices are set up once. A script trains everything, and says what it found in JSON.
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

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="keras.distribution trains on JAX"
)

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "multi_process_jax.py"
DEVICES = 4
RECENT = hasattr(keras.distribution.DataParallel, "auto_shard_dataset")  # not so in Keras 3.8

COMMON = """
import json, sys
import jax, keras, numpy as np
from nagd_keras import NAGD, callbacks, saving
from nagd_keras.tensors import number

rng = np.random.default_rng(0)
ids = rng.integers(0, 16, size=(64, 3)).astype("int32")
targets = np.sin(ids.sum(axis=1, keepdims=True)).astype("float32")
targets[40:48] *= 3  # so that the sixth batch, of 8, leads uphill
poisoned = targets.copy()
poisoned[19] = np.nan
schedule = keras.optimizers.schedules.PolynomialDecay(0.5, 16, 0.95)
distribution = keras.distribution


def split(shape):
    # Half of the devices share the batches, half the variables. The keys are paths of variables,
    # and not those of slots, whatever the separators.
    mesh = distribution.DeviceMesh(shape, ["batch", "model"], distribution.list_devices())
    layout = distribution.LayoutMap(mesh)
    layout[".*table/embeddings"] = ("model", None)
    layout[".*hidden/kernel"] = (None, "model")
    layout[".*hidden/bias"] = ("model",)
    return distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")


def make(**settings):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            keras.layers.Embedding(16, 8, name="table"),
            keras.layers.Flatten(),
            keras.layers.Dense(8, "tanh", name="hidden"),
            keras.layers.Dense(1, name="out"),
        ]
    )
    settings = {"learning_rate": 0.05, "momentum": 0.875, **settings}
    model.compile(optimizer=NAGD(**settings), loss="mse")
    return model


def counters(model):
    names = "age", "restarts", "skipped_updates"
    return [int(number(getattr(model.optimizer, name))) for name in names]


def misplaced(model):
    # The slots that do not lie as their variables do.
    optimizer = model.optimizer
    return [
        f"{kind} of {v.path}: {v.value.sharding} and {s.value.sharding}"
        for kind, slots in optimizer._slots().items()
        for v, s in zip(optimizer.trained_variables, slots, strict=True if slots else False)
        if not s.value.sharding.is_equivalent_to(v.value.sharding, v.value.ndim)
    ]


def furthest(found, wanted):
    # The largest difference of two lists of variables, relative to each one's largest value.
    worst = 0.0
    for a, b in zip(found, wanted, strict=True):
        a, b = (np.asarray(x.numpy(), "float64") for x in (a, b))
        assert np.array_equal(np.isnan(a), np.isnan(b)), (a, b)
        a, b = np.nan_to_num(a), np.nan_to_num(b)
        worst = max(worst, np.max(np.abs(a - b)) / (np.max(np.abs(b)) or 1))
    return float(worst)


def apart(found, wanted):
    assert np.array_equal(np.isnan(found), np.isnan(wanted))
    return float(np.max(np.abs(np.nan_to_num(np.subtract(found, wanted)))))


def same_bits(found, wanted):
    pairs = zip(found, wanted, strict=True)
    return all(a.numpy().tobytes() == b.numpy().tobytes() for a, b in pairs)


def state(model):
    return [*model.variables, *model.optimizer.variables]
"""

SEVERAL_DEVICES = (
    COMMON
    + """
SINCE = "auto_shard_dataset"
KINDS = {
    "one": lambda: None,
    "data": lambda: distribution.DataParallel(devices=distribution.list_devices()),
    # Keras 3.8 hands batches to the devices in the order of a set: right if all get the same.
    "model": lambda: split((2, 2) if hasattr(keras.distribution.DataParallel, SINCE) else (1, 4)),
}


class Losses(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(float(logs["loss"]))


def helpers():
    return [
        callbacks.MomentumScheduler(lambda epoch, momentum: 0.5 + 0.125 * epoch),
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.05 / (epoch + 1)),
        callbacks.HyperparameterMonitor(norms=True),
        callbacks.EvaluateAtIterate(),
        callbacks.AdaptiveRestart(),
        callbacks.StopAtTolerance(1e-9),
    ]


CASES = {
    "constant": {},
    "scheduled": {"momentum": schedule, "weight_decay": 0.125},
    "restart by gradient": {"momentum": 0.96875, "restart": "gradient"},
    "restart by speed": {"momentum": 0.96875, "restart": "speed"},
    "skip": {"skip_nonfinite": True, "restart": "gradient", "use_ema": True},
    "accumulation": {"gradient_accumulation_steps": 2},
    "clipnorm": {"clipnorm": 0.01},
    "global_clipnorm": {"global_clipnorm": 0.01},
    "clipvalue": {"clipvalue": 0.001},
    "average": {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 3},
    "slot_dtype": {"slot_dtype": "bfloat16"},
    "callbacks": {},
    "guard": {},
}


def train(name):
    model, losses, others, settings = make(**CASES[name]), Losses(), [], {}
    if name == "callbacks":
        others, settings = helpers(), {"validation_data": (ids[:16], targets[:16])}
    if name == "guard":
        others = [callbacks.DivergenceGuard(verbose=0)]
    y = poisoned if name in ("skip", "guard") else targets
    history = model.fit(
        ids, y, batch_size=8, epochs=3, shuffle=False, verbose=0,
        callbacks=[*others, losses], **settings,
    )
    return model, losses.seen, history.history


def compare(name, kind, one):
    with KINDS[kind]().scope():
        model, losses, history = train(name)
    wanted, wanted_losses, wanted_history = one
    hidden = model.layers[2].kernel
    place = [v.path for v in model.trainable_variables].index(hidden.path)
    return {
        "misplaced": misplaced(model),
        "bytes": [
            [shard.data.nbytes for shard in v.value.addressable_shards]
            for v in (hidden, model.optimizer.displacements[place])
        ],
        "counters": [counters(model), counters(wanted)],
        "difference": furthest(state(model), state(wanted)),
        "losses": apart(losses, wanted_losses),
        "history": max(apart(history[key], wanted_history[key]) for key in wanted_history),
    }


def more(model):
    model.fit(ids, targets, batch_size=8, epochs=1, shuffle=False, verbose=0)


def files(folder):
    # Between a split model and one device, both ways and in both formats, and on from there.
    found = {}
    settings = {
        "momentum": schedule, "restart": "speed", "use_ema": True, "gradient_accumulation_steps": 2
    }
    for source, target in (("model", "one"), ("one", "model"), ("data", "model")):
        def within(kind, function):
            layout = KINDS[kind]()
            if layout is None:
                return function()
            with layout.scope():
                return function()

        def first():
            model = make(**settings)
            more(model)
            saving.save_model(model, f"{folder}/{source}.keras")
            saving.save_weights(model, f"{folder}/{source}.weights.h5")
            return model

        def by_weights():
            model = make(**settings)
            model.optimizer.build(model.trainable_variables)
            saving.load_weights(model, f"{folder}/{source}.weights.h5")
            return model

        model = within(source, first)
        loaded = within(target, lambda: saving.load_model(f"{folder}/{source}.keras"))
        weights = within(target, by_weights)
        bits = [same_bits(state(each), state(model)) for each in (loaded, weights)]
        placed = misplaced(loaded) + misplaced(weights)
        # Another model: on JAX, Keras cannot fit one twice if it keeps averages.
        model = within(source, lambda: saving.load_model(f"{folder}/{source}.keras"))
        within(source, lambda: more(model))
        within(target, lambda: more(loaded))
        found[f"{source} to {target}"] = {
            "bits": bits,
            "misplaced": placed + misplaced(loaded),
            "split": len({str(v.value.sharding) for v in loaded.trainable_variables}) > 1,
            "difference": furthest(state(loaded), state(model)),
        }
    return found


def methods():
    # What sets slots or variables beside training.
    with KINDS["model"]().scope():
        model = make(gradient_accumulation_steps=2)
        more(model)
        optimizer, found = model.optimizer, {}
        look_ahead = [v.numpy() for v in model.trainable_variables]
        optimizer.swap_to_iterate()
        found["iterate"] = misplaced(model)
        moved = any((v.numpy() != w).any() for v, w in zip(model.trainable_variables, look_ahead))
        optimizer.swap_to_lookahead()
        found["look-ahead"] = misplaced(model)
        back = all((v.numpy() == w).all() for v, w in zip(model.trainable_variables, look_ahead))
        optimizer.reset_momentum()
        found["reset"] = misplaced(model)
        zero = not any(s.numpy().any() for s in optimizer.displacements)
        spread = model.layers[0].embeddings.value.sharding.is_fully_replicated
        more(model)
        found["trained"] = misplaced(model)
        return {"misplaced": found, "moved": moved, "back": back, "zero": zero, "split": not spread}


kinds = json.loads(sys.argv[2])
found = {}
for name in CASES:
    if any(name in names for names in kinds.values()):
        one = train(name)
    for kind, names in kinds.items():
        if name in names:
            found[f"{name}, {kind}"] = compare(name, kind, one)
if "scheduled" in kinds["model"]:
    found["files"], found["methods"] = files(sys.argv[1]), methods()
print(json.dumps(found))
"""
)
CASES = (
    "scheduled",
    "restart by gradient",
    "restart by speed",
    "skip",
    "accumulation",
    "global_clipnorm",
    "average",
    "slot_dtype",
    "callbacks",
)
BY_DATA = ("scheduled", "skip")
# Those of the long test, which all are trained in both ways.
LONG_CASES = ("constant", "clipnorm", "clipvalue", "guard")
# Four devices add up the gradients in another order; 24 updates round anew. A displacement of 16
# bits may round to the number next to it. Behind a restart displacements are small, beside the
# variables and gradients that were rounded.
TOLERANCES = dict.fromkeys((*CASES, *LONG_CASES), 2.0**-14)
TOLERANCES |= {"slot_dtype": 2.0**-7, "restart by gradient": 2.0**-10}
LOSS_TOLERANCE = 2.0**-20

TWO_PROCESSES = (
    COMMON
    + """
import os, traceback
from jax.experimental import multihost_utils


def fail(*error):
    traceback.print_exception(*error)
    os._exit(1)  # JAX would wait for the other process first.


sys.excepthook = fail
folder, address, number_of_this = sys.argv[1], sys.argv[2], int(sys.argv[3])
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(address, 2, number_of_this)


def fit(model, y, epochs=2, **settings):
    # Each process has its half of every batch of 8.
    rows = np.arange(64).reshape(-1, 2, 4)
    if distribution.distribution() is not None:
        rows = rows[:, jax.process_index()]
    rows = rows.ravel()
    size = 8 if distribution.distribution() is None else 4
    return model.fit(
        ids[rows], y[rows], batch_size=size, epochs=epochs, shuffle=False, verbose=0, **settings
    )


def moved(model):
    return [*model.variables, *model.optimizer.displacements]


def spread():
    devices = distribution.list_devices()
    return distribution.DataParallel(devices=devices, auto_shard_dataset=False)


def train():
    settings = {"momentum": schedule, "restart": "speed", "skip_nonfinite": True}
    model = make(**settings)
    monitor = callbacks.HyperparameterMonitor(norms=True)
    fit(model, poisoned, callbacks=[monitor])
    fit(model, targets, callbacks=[callbacks.StopAtTolerance(1e-9), monitor])
    return model


with spread().scope():
    model = train()
# One process writes what all have: not in the scope, as Keras makes a variable where it saves.
if jax.process_index() == 0:
    saving.save_model(model, f"{folder}/two.keras")
multihost_utils.sync_global_devices("saved")
found = {}
with spread().scope():
    loaded = saving.load_model(f"{folder}/two.keras")
    found["bits"] = same_bits(state(loaded), state(model))
    loaded.optimizer.swap_to_iterate()
    loaded.optimizer.swap_to_lookahead()
    found["back"] = same_bits(state(loaded), state(model))
    fit(model, targets)
    fit(loaded, targets)
    # Not the norm of the gradient, which only the first of them tracks.
    found["goes on"] = same_bits(moved(loaded), moved(model))
if jax.process_index() == 0:
    alone = train()
    one = saving.load_model(f"{folder}/two.keras")
    found["counters"] = [counters(one), counters(alone)]
    found["difference"] = furthest(state(one), state(alone))
    fit(one, targets)
    found["goes on alone"] = furthest(moved(one), moved(model))
print(json.dumps(found))
"""
)


def environment(devices=1):
    flags = f"--xla_force_host_platform_device_count={devices}"
    return {**os.environ, "KERAS_BACKEND": "jax", "XLA_FLAGS": flags}


def run(script, *arguments, devices=1):
    command = [sys.executable, *(["-c", script] if "\n" in script else [script]), *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=environment(devices),
        cwd=ROOT,
        timeout=300,
    )


def last_line(result):
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def free_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture(scope="module")
def devices(tmp_path_factory):
    """What the script found on four devices."""
    kinds = json.dumps({"model": CASES, "data": BY_DATA})
    folder = str(tmp_path_factory.mktemp("files"))
    return last_line(run(SEVERAL_DEVICES, folder, kinds, devices=DEVICES))


def check_case(found, name):
    assert found["misplaced"] == []
    assert found["difference"] <= TOLERANCES[name]
    assert found["losses"] <= LOSS_TOLERANCE
    assert found["history"] <= LOSS_TOLERANCE
    assert found["counters"][0] == found["counters"][1]
    age, restarts, skipped = found["counters"][0]
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
    kinds = json.dumps({"model": LONG_CASES, "data": names})
    found = last_line(run(SEVERAL_DEVICES, str(tmp_path), kinds, devices=DEVICES))
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
    assert found["difference"] <= 2.0**-16


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
    command = [sys.executable, "-c", TWO_PROCESSES, str(tmp_path), free_address()]
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
    first, second = (json.loads(re.search(r"^\{.*\}$", text, re.M)[0]) for text in said)
    for found in (first, second):
        assert found["bits"]
        assert found["back"]
        assert found["goes on"]
    assert first["counters"][0] == first["counters"][1]
    assert first["counters"][0][2] == 2
    assert first["difference"] <= 2.0**-16
    assert first["goes on alone"] <= 2.0**-16


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
    result = run(hidden + "import runpy; runpy.run_path(sys.argv[0])", str(EXAMPLE))
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
