"""The ways to go along a direction on TensorFlow: each makes the same steps as the formula."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("the kernels of TensorFlow", allow_module_level=True)

import tensorflow as tf

from nagd_keras import NAGD
from nagd_keras.engine import groups
from nagd_keras.engine.kernels import formula
from nagd_keras.engine.kernels import tensorflow as kernels
from nagd_keras.engine.kernels import tensorflow_chunks as chunks
from nagd_keras.engine.kernels import tensorflow_directions as compiled
from tests.support.drivers import DRIVERS, Run, to_float64
from tests.support.tolerances import TRAJECTORY

# With groups of matrices, of vectors, and what is in none.
SHAPES = [(6, 4), (6, 4), (8,), (), (3,), (5, 8), (24,)]
WAYS = {
    "groups": {},
    "alone": {"SMALL": 0, "LESS": (0, 0)},
    "compiled": {"SMALL": 0, "LESS": (0, 0), "FUSED": 0},
    "pieces": {"SMALL": 0, "LESS": (0, 0), "FUSED": 0, "PIECES": 0},
    "small groups": {"MOST": 24, "LESS": (100, 12)},
}


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """Sets the limits so that variables of a few elements go one way."""
    for name, value in WAYS[request.param].items():
        monkeypatch.setattr(groups if hasattr(groups, name) else compiled, name, value)
    monkeypatch.setattr(kernels, "_threads", lambda: 1)
    monkeypatch.setattr(chunks, "LARGEST", 8)
    monkeypatch.setattr(chunks, "SMALLEST", 3)
    monkeypatch.setattr(chunks, "OPTIMAL", True)  # As fast or not, right it is on all versions.
    chunks.piece_size.cache_clear()
    yield request.param
    chunks.piece_size.cache_clear()


@pytest.fixture
def calls(monkeypatch):
    """Which functions were used, by the name of the way."""
    found = []
    for module, name in ((chunks, "update_along"), (compiled, "nesterov_update")):
        real = getattr(module, name)

        def noted(*arguments, real=real, name=name):
            found.append(name)
            return real(*arguments)

        monkeypatch.setattr(module, name, noted)
    return found


SETTINGS = [{}, {"weight_decay": 0.1, "clipnorm": 0.5}, {"global_clipnorm": 0.5}]


@pytest.mark.keep(6)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("direction", ["adaptive", "orthogonal"])
def test_every_step_is_the_formulas(direction, driver, settings, way, calls, rng, monkeypatch):
    starts = [rng.normal(size=shape) for shape in SHAPES]
    multipliers = {"learning_rate_multipliers": {"x1": 0.5, "x3": 0.0}}
    made = [NAGD(0.05, 0.8, direction=direction, **multipliers, **settings) for _ in range(2)]
    run = Run(made[0], starts, "float32", driver)
    with monkeypatch.context() as context:  # The reference: one by one, nothing compiled.
        context.setattr(groups, "SMALL", 0)
        context.setattr(groups, "LESS", (0, 0))
        context.setattr(kernels, "move_for", formula.move_for)
        slow = Run(made[1], starts, "float32", "eager")
    for t in range(12):
        gradients = [rng.normal(size=shape) for shape in SHAPES]
        for each in (run, slow):
            each.optimizer.momentum = 0.8 if t % 3 else 0.5
            each.step(gradients)
        pairs = zip(run.optimizer.variables[2:], slow.optimizer.variables[2:], strict=True)
        for a, b in [*zip(run.variables, slow.variables, strict=True), *pairs]:
            room = 4 * TRAJECTORY["float32"] * max(1, np.abs(to_float64(b)).max())
            assert np.abs(to_float64(a) - to_float64(b)).max(initial=0) <= room, (a.path, t)
    wanted = {
        "pieces": {"adaptive": "update_along", "orthogonal": "nesterov_update"}[direction],
        "compiled": "nesterov_update",
        "groups": "nesterov_update" if direction == "orthogonal" else None,
    }.get(way)
    if wanted is not None:
        assert wanted in calls


def test_some_gradients_are_missing(rng):
    """A group then has fewer members."""
    run = Run(NAGD(direction="orthogonal"), [rng.normal(size=(6, 4))] * 3, "float32")
    before = run.look_ahead
    run.step([rng.normal(size=(6, 4)) for _ in range(3)])
    between = run.look_ahead
    gradients = [tf.constant(rng.normal(size=(6, 4)), "float32"), None, None]
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        run.optimizer.apply(gradients, run.variables)
    moved = [np.abs(a - b).max() for a, b in zip(run.look_ahead, between, strict=True)]
    assert moved[0] > 0
    assert moved[1:] == [0, 0]
    assert all(np.abs(a - b).max() > 0 for a, b in zip(between, before, strict=True))


TWO_DEVICES = """
import keras, numpy as np, tensorflow as tf
from nagd_keras import NAGD
half = tf.config.LogicalDeviceConfiguration()
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], [half] * 2)
for direction, shape in (("orthogonal", (4, 4)), ("adaptive", (2**14,)), ("adaptive", (3,))):
    variables = []
    for device in tf.config.list_logical_devices("CPU"):
        with tf.device(device.name):
            variables.append(keras.Variable(np.ones(shape), name="kernel", dtype="float32"))
    optimizer = NAGD(direction=direction)
    for _ in range(2):
        optimizer.apply([tf.ones(shape)] * 2, variables)
    assert int(optimizer.age) == 2
    np.testing.assert_array_equal(variables[0].numpy(), variables[1].numpy())
    assert np.abs(variables[0].numpy() - 1).max() > 0
"""


@pytest.mark.long
def test_variables_on_two_devices():
    """They are in groups of their own. Devices are set up once, so in a process of its own."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", TWO_DEVICES]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_some_rows_of_a_matrix():
    table = keras.Variable(np.ones((6, 4)), name="table")
    optimizer = NAGD(direction="orthogonal", sparse_updates="lazy")
    rows = tf.IndexedSlices(tf.ones((2, 4)), tf.constant([1, 3]), (6, 4))
    with pytest.raises(ValueError, match=r"directions.Orthogonal\(exclude=\['table'\]\)"):
        optimizer.apply([rows], [table])
    np.testing.assert_array_equal(to_float64(table), 1)


def test_nothing_is_copied(monkeypatch):
    """In pieces, XLA aliases variables with its results and needs no room but for a piece."""
    if tf.__version__ < "2.21":
        pytest.skip("XLA of this version copies")
    monkeypatch.setattr(compiled, "PIECES", 0)
    monkeypatch.setattr(kernels, "_threads", lambda: 1)
    monkeypatch.setattr(chunks, "LARGEST", 2**10)
    monkeypatch.setattr(chunks, "SMALLEST", 2**10)
    chunks.piece_size.cache_clear()
    texts = []
    real = tf.function

    def function(*arguments, **settings):
        made = real(*arguments, **settings)

        def call(*given):
            texts.append(made.experimental_get_compiler_ir(*given)(stage="optimized_hlo"))
            return made(*given)

        return call

    monkeypatch.setattr(compiled.tf, "function", function)
    w = keras.Variable(np.ones(2**14))
    NAGD(direction="adaptive").apply([tf.ones(2**14)], [w])
    monkeypatch.undo()
    chunks.piece_size.cache_clear()
    (text,) = texts
    assert text.count("may-alias") + text.count("must-alias") >= 3
    assert not [x for x in text.splitlines() if " copy(" in x and "= f32[16384]" in x]
