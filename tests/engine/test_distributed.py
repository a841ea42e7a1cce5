"""NAGD in two replicas of `tf.distribute`, held against one device on the same batches."""

import json
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.support.replica_cases import CALLBACKS, SETTINGS
from tests.support.tolerances import ORTHOGONAL, TRAJECTORY

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="tf.distribute is TensorFlow's"
)
# The gradient of a batch, added up in another order, in each of up to 16 updates.
AGREES = TRAJECTORY["float32"]
SAVED = [
    f"{saver}, {where}, {loader}: {how}"
    for saver in ("two replicas", "one device")
    for where in ("inside", "outside")
    for loader in ("two replicas", "one device")
    for how in ("from_model", "from_weights", "from_checkpoint")[: 3 if where == "inside" else 1]
]


def trained(folder, *arguments):
    result = subprocess.run(
        [sys.executable, "-m", "tests.support.replicas", str(folder), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.rpartition("found:")[2])


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("replicas"))


@pytest.fixture(scope="module")
def found_long(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("replicas"), "long")


def cases(long):
    """Names, and the fixtures that have what was found; some are left to the long tests."""
    return [
        pytest.param(name, "found_long", marks=pytest.mark.long, id=name)
        if later
        else pytest.param(name, "found", id=name)
        for name, later in long.items()
    ]


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "where"), cases({name: case.long for name, case in SETTINGS.items()})
)
def test_two_replicas_train_as_one_device(request, name, where):
    case, result = SETTINGS[name], request.getfixturevalue(where)["settings"][name]
    assert result["deviation"] <= (ORTHOGONAL if name == "orthogonal" else AGREES)
    assert result["counters"][0] == result["counters"][1]
    counts = dict(
        zip(
            ("age", "restarts", "skipped_updates", "iterations"), result["counters"][0], strict=True
        )
    )
    for counter in case.decides:
        assert counts[counter] > 0, "nothing was decided"


@pytest.mark.parametrize(
    ("name", "where"), cases({name: case.long for name, case in CALLBACKS.items()})
)
def test_callbacks_act_on_all_replicas(request, name, where):
    result = request.getfixturevalue(where)["callbacks"][name]
    assert result["deviation"] <= AGREES
    assert result["counters"][0] == result["counters"][1]
    two, one = result["logs"]
    assert two.keys() == one.keys()
    for key in one:
        np.testing.assert_allclose(two[key], one[key], rtol=2 * AGREES, err_msg=key)


@pytest.mark.long
def test_keras_sgd_logs_the_loss_of_one_device(found_long):
    two, one = found_long["losses of Keras"]
    np.testing.assert_allclose(two, one, rtol=2 * AGREES)


@pytest.mark.long
def test_the_norm_of_the_gradient_is_that_of_the_whole_batch(found_long):
    norms = found_long["callbacks"]["HyperparameterMonitor"]["logs"][0]["gradient_norm"]
    assert np.all(np.isfinite(norms))


@pytest.mark.long
def test_what_is_set_is_set_in_all_replicas(found_long):
    assert found_long["live"]["momentum"][0] == [0.5, 0.5]
    assert found_long["live"]["deviation"] <= AGREES


@pytest.mark.long
def test_data_of_unknown_length(found):
    result = found["unknown length"]
    assert result["deviation"] == 0
    assert result["counters"][0] == result["counters"][1]


@pytest.mark.long
def test_schedules(found_long):
    assert found_long["scheduled"]["deviation"] <= AGREES


@pytest.mark.long
def test_clips_what_is_summed_and_keras_what_is_not(found_long):
    plain, clipped = found_long["beside Keras"]
    assert plain <= AGREES
    assert clipped > 100 * AGREES


@pytest.mark.long
def test_there_is_nothing_else_that_was_saved(found_long):
    assert sorted(found_long["saved"]) == sorted(SAVED)


@pytest.mark.long
@pytest.mark.parametrize("name", SAVED)
def test_goes_on_from_another_number_of_replicas(found_long, name):
    deviation, counters, wanted = found_long["saved"][name]
    assert deviation <= AGREES
    assert counters == wanted


@pytest.mark.long
def test_a_model_is_adopted_outside_the_scope(found_long):
    assert found_long["adopted"]["deviation"] <= AGREES
    assert found_long["adopted"]["age"] == 16


@pytest.mark.long
def test_a_range_test_outside_the_scope(found_long):
    assert found_long["range test"] == 20


@pytest.mark.long
def test_with_loss_scaling(found_long):
    found = found_long["mixed_float16"]
    assert found["deviation"] <= TRAJECTORY["float16"]
    assert found["ages"][0] == found["ages"][1]


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("outside of the replicas", "within the function that strategy.run is given"),
        ("a share of a gradient", "with its share of the gradient, which is not summed yet"),
        ("not built", r"in the strategy's scope: optimizer.build\(model.trainable_variables\)"),
        ("another strategy", "dense.*kernel and the optimizer are not of the same tf.distribute"),
        ("no strategy", "not of the same.* strategy. Received: an optimizer of MirroredStrategy"),
        ("optimizer outside", "not of the same.* strategy. Received: an optimizer of _Default"),
        ("fit, optimizer outside", "not of the same tf.distribute strategy"),
    ],
)
def test_refused(found, name, message):
    assert re.search(message, found["refused"][name]), found["refused"][name]
