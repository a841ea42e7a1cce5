"""Every format keeps every configuration: what is loaded goes on to the bit."""

import copy
import pickle

import keras
import pytest

from nagd_keras import saving
from tests.support.limits import needs
from tests.support.saving_cases import CASES, state
from tests.support.training import nagd

SAVED_AT, STEPS = 4, 6  # the former: within a window of three, behind an update of the averages


def keras_file(model, new, folder):
    model.save(folder / "model.keras")
    return keras.saving.load_model(folder / "model.keras", safe_mode=True)


def own_file(model, new, folder):
    saving.save_model(model, folder / "model.keras")
    return saving.load_model(folder / "model.keras")


def legacy_file(model, new, folder):
    copy.deepcopy(model).save(folder / "model.h5")  # out of which Keras takes the optimizer
    return keras.saving.load_model(folder / "model.h5", safe_mode=True)


def weights_built(model, new, folder):
    model.save_weights(folder / "model.weights.h5")
    new.optimizer.build(new.trainable_variables)
    new.load_weights(folder / "model.weights.h5")
    return new


def weights_before_build(model, new, folder):
    saving.save_weights(model, folder / "model.weights.h5")
    if nagd(new) is not new.optimizer:
        new.optimizer.build(new.trainable_variables)  # whose own state Keras skips otherwise
    saving.load_weights(new, folder / "model.weights.h5")
    return new


def checkpoint(model, new, folder):
    import tensorflow as tf

    path = tf.train.Checkpoint(model=model).save(folder / "checkpoint")
    new.optimizer.build(new.trainable_variables)
    tf.train.Checkpoint(model=new).restore(path).assert_consumed()
    return new


def checkpoint_before_build(model, new, folder):
    import tensorflow as tf

    path = tf.train.Checkpoint(model=model).save(folder / "checkpoint")
    tf.train.Checkpoint(model=new).restore(path)
    return new


def pickled(model, new, folder):
    return pickle.loads(pickle.dumps(model))


def copied(model, new, folder):
    return copy.deepcopy(model)


FORMATS = [
    keras_file,
    own_file,
    legacy_file,
    weights_built,
    weights_before_build,
    checkpoint,
    checkpoint_before_build,
    pickled,
    copied,
]


# What Keras' older format has no place for.
NOT_IN_OLDER_FORMAT = [
    "mixed float16",
    "bfloat16",
    "decay of some",
    "at the iterate",
    "everything",
]
# Nor is a LossScaleOptimizer restored from a checkpoint before it is built, whatever is within.
NOT_KEPT = {
    *((legacy_file, name) for name in NOT_IN_OLDER_FORMAT),
    (checkpoint_before_build, "mixed float16"),
}


@pytest.fixture(scope="module", params=CASES, ids=str)
def case(request):
    return request.param


@pytest.fixture(scope="module")
def trained(case):
    model = case.start()
    for i in range(1, SAVED_AT + 1):
        case.step(model, i)
    return model


@pytest.fixture(scope="module")
def continued(case):
    """The state after all steps of a run that is never saved."""
    model = case.start()
    for i in range(1, STEPS + 1):
        case.step(model, i)
    return state(model)


def marked(kept):
    of_tensorflow = kept in (checkpoint, checkpoint_before_build)
    return [needs("TensorFlow's checkpoints")] if of_tensorflow else []


@pytest.mark.keep(3)
@pytest.mark.parametrize("kept", [pytest.param(kept, marks=marked(kept)) for kept in FORMATS])
def test_goes_on_to_the_bit(case, trained, continued, kept, tmp_path):
    if (kept, case.name) in NOT_KEPT:
        pytest.skip("Keras does not keep it")
    loaded = kept(trained, case.start(), tmp_path)
    loaded.run_eagerly = True  # which the older format does not keep either
    before = state(trained)
    if loaded.optimizer.built:
        assert state(loaded) == before
    for i in range(SAVED_AT + 1, STEPS + 1):
        case.step(loaded, i)
    assert state(loaded) == continued
    assert state(trained) == before
