"""Models of other structures than a stack of layers keep their optimizer's state."""

import copy
import os
import stat
import warnings

import keras
import numpy as np
import pytest

from nagd_keras import NAGD, callbacks, saving
from tests.support.limits import needs, reason
from tests.support.saving_cases import state

X = np.sin(np.arange(32.0).reshape(8, 4)).astype("float32")
Y = np.cos(X)


def compiled(model, optimizer=None, **settings):
    model.compile(optimizer or NAGD(0.05), "mse", **{"run_eagerly": True, **settings})
    return model


def fit(model, epochs=2):
    model.fit(X, Y, batch_size=4, epochs=epochs, shuffle=False, verbose=0)
    return model


def stack(name, *layers):
    return keras.Sequential([keras.layers.Dense(4, name=layer) for layer in layers], name=name)


def siamese(optimizer=None, names="de", others="de"):
    """Two blocks, whose layers may have the same names."""
    inputs = keras.Input((4,))
    outputs = stack("B", *others)(stack("A", *names)(inputs))
    return compiled(keras.Model(inputs, outputs), optimizer)


def simple(optimizer=None, **settings):
    model = keras.Sequential([keras.Input((4,)), *stack("", "a", "b").layers])
    return compiled(model, optimizer, **settings)


@keras.saving.register_keras_serializable(package="nagd_keras_tests")
class Subclassed(keras.Model):
    """Has layers that Keras loads before the optimizer, and some that it loads behind it."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.first, self.project = keras.layers.Dense(4), keras.layers.Dense(4)
        self.z = [keras.layers.Dense(4), keras.layers.LayerNormalization()]

    def call(self, x):
        return self.z[1](self.z[0](self.project(self.first(x))))


def subclassed():
    model = compiled(Subclassed())
    model(X)
    return model


# Keras leaves the names of the blocks out of the paths in what it loads.
SAME_PATHS = {(siamese, "keras"), (siamese, "copy")}


@pytest.mark.keep(1)
@pytest.mark.parametrize(
    ("make", "kept"),
    [
        pytest.param(
            make,
            kept,
            marks=[needs("layers of the same path")] if (make, kept) in SAME_PATHS else [],
        )
        for make in (siamese, subclassed)
        for kept in ("keras", "weights.h5", "copy")
    ],
)
def test_goes_on_to_the_bit(make, kept, tmp_path):
    model, path = fit(make()), tmp_path / f"model.{kept}"
    if kept == "keras":
        model.save(path)
        loaded = keras.saving.load_model(path)
    elif kept == "copy":
        loaded = copy.deepcopy(model)
    else:
        model.save_weights(path)
        loaded = make()
        loaded.load_weights(path)
    assert state(fit(loaded)) == state(fit(model))


@pytest.mark.long
def test_multipliers_of_a_block_stay_with_its_variables(tmp_path):
    """Keras leaves the name of the block out of the paths of the model that it loads."""
    model = fit(siamese(NAGD(0.05, learning_rate_multipliers={"A/": 0.0, "g": 0.1}), "de", "fg"))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert state(fit(loaded)) == state(fit(model))
    again = copy.deepcopy(loaded)
    assert state(fit(again)) == state(fit(model))


@pytest.mark.parametrize("built", [True, False])
def test_a_pattern_that_fits_nothing_is_seen_without_a_state(built):
    config = NAGD(learning_rate_multipliers={"absent": 0.5}).get_config()
    model = simple(NAGD.from_config(config))
    if built:
        model.optimizer.build(model.trainable_variables)
    before = [v.numpy().tolist() for v in model.weights]
    with pytest.raises(ValueError, match="'absent', which is found in the path of no variable"):
        fit(model)
    if not reason("a model after a failed step"):
        assert [v.numpy().tolist() for v in model.weights] == before


@pytest.mark.parametrize("first", [False, True])
def test_layers_that_are_frozen_or_set_free_before_saving(first, tmp_path):
    """Keras builds the optimizer of a loaded model for what is trained then."""
    model = simple()
    model.layers[0].trainable = first
    compiled(model, NAGD(0.05, use_ema=True))
    fit(model)
    model.layers[0].trainable = not first
    model.save(tmp_path / "model.keras")
    with pytest.warns(UserWarning, match="not trained here|have no saved state"):
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    kept = {n.path.split("/", 1)[-1]: v for n, v in model.optimizer._state.named().items()}
    for name, variable in loaded.optimizer._state.named().items():
        if name.slot == "displacement" and "b/" in name.path:
            np.testing.assert_array_equal(variable.numpy(), kept[name.path].numpy())
            assert variable.numpy().any()
        if name.slot == "displacement" and "a/" in name.path:
            assert not variable.numpy().any()
    assert int(loaded.optimizer.age) == int(model.optimizer.age)
    fit(loaded)


@pytest.mark.long
def test_a_copied_optimizer_for_fewer_variables_warns():
    original = fit(simple())
    optimizer = copy.deepcopy(original.optimizer)
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(4, name="a")(inputs))
    model.set_weights(original.layers[0].get_weights())
    with pytest.warns(UserWarning, match="2 saved variables are not trained here"):
        fit(compiled(model, optimizer))


class Adversarial(keras.Sequential):
    """Has a second optimizer."""

    opt_d = None


@pytest.mark.long
def test_a_second_optimizer_is_put_back_too(tmp_path):
    def make(**settings):
        model = Adversarial([keras.Input((4,)), *stack("", "a", "b").layers])
        model.opt_d = NAGD(0.05)
        compiled(model, NAGD(**settings))
        model.opt_d.build(model.trainable_variables)
        return fit(model)

    other = make(use_ema=True)
    other.opt_d.reset_momentum()
    other.save_weights(tmp_path / "other.weights.h5")
    model = make()
    before = int(model.opt_d.restarts), state(model)
    with pytest.raises(ValueError, match="average of"):
        saving.load_weights(model, tmp_path / "other.weights.h5")
    assert (int(model.opt_d.restarts), state(model)) == before


# TensorFlow's checkpoints


of_tensorflow = needs("TensorFlow's checkpoints")


@pytest.mark.keep(1)
@of_tensorflow
@pytest.mark.parametrize("settings", [{}, {"jit_compile": True}, {"steps_per_execution": 2}])
def test_a_checkpoint_restored_before_a_compiled_fit(settings, tmp_path):
    import tensorflow as tf

    settings = {"run_eagerly": False, **settings}
    model = fit(simple(**settings))
    path = tf.train.Checkpoint(model=model).save(tmp_path / "checkpoint")
    again = simple(**settings)
    tf.train.Checkpoint(model=again).restore(path)
    assert state(fit(again)) == state(fit(model))


@of_tensorflow
def test_what_is_loaded_last_counts(tmp_path):
    import tensorflow as tf

    model = fit(simple())
    model.save_weights(tmp_path / "early.weights.h5")
    path = tf.train.Checkpoint(model=fit(model)).save(tmp_path / "late")
    again = simple()
    again.load_weights(tmp_path / "early.weights.h5")
    tf.train.Checkpoint(model=again).restore(path)
    assert state(fit(again)) == state(fit(model))


@of_tensorflow
def test_a_checkpoint_would_not_hold_a_state_that_waits(tmp_path):
    import tensorflow as tf

    optimizer = copy.deepcopy(fit(simple()).optimizer)
    with pytest.raises(ValueError, match=r"Call optimizer\.build"):
        tf.train.Checkpoint(optimizer=optimizer).save(tmp_path / "checkpoint")


def test_the_way_back_is_not_lost_before_the_variables_are_known(tmp_path):
    model = fit(simple())
    wanted = state(model)
    model.optimizer.swap_to_iterate()
    model.save_weights(tmp_path / "model.weights.h5")
    again = simple()
    again.load_weights(tmp_path / "model.weights.h5")
    with pytest.raises(ValueError, match="build"):
        again.optimizer.swap_to_lookahead()
    again.optimizer.build(again.trainable_variables)
    again.optimizer.swap_to_lookahead()
    assert state(again) == wanted


# Files


def test_a_link_and_permissions_stay(tmp_path):
    model = fit(simple())
    real, link = tmp_path / "real.keras", tmp_path / "latest.keras"
    saving.save_model(model, real)
    real.chmod(0o600)
    link.symlink_to(real)
    fit(model)
    saving.save_model(model, link)
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    assert state(saving.load_model(real)) == state(model)
    assert sorted(os.listdir(tmp_path)) == ["latest.keras", "real.keras"]


class Interruption(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 3:
            raise KeyboardInterrupt


@pytest.mark.keep(1)
@pytest.mark.parametrize("damaged", [0, 1, 2])
def test_a_backup_resumes_from_the_newest_that_is_whole(damaged, tmp_path):
    def run(*listed):
        keras.utils.set_random_seed(0)
        model = simple()
        settings = {"batch_size": 4, "epochs": 5, "shuffle": False, "verbose": 0}
        return model, model.fit(X, Y, callbacks=listed, **settings).epoch

    backup = callbacks.Backup(tmp_path / "backup")
    with pytest.raises(KeyboardInterrupt):
        run(backup, Interruption())
    files = sorted((tmp_path / "backup").iterdir())
    assert [file.name[:12] for file in files] == ["epoch-000002", "epoch-000003"]
    for file in files[len(files) - damaged :]:
        file.write_bytes(file.read_bytes()[:-1000])
    if damaged == 2:
        with pytest.raises(ValueError, match="None of the backups"):
            run(backup)
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model, epochs = run(backup)
    assert any("is damaged" in str(warning.message) for warning in caught) == (damaged > 0)
    assert epochs == [[3, 4], [2, 3, 4]][damaged]
    assert state(model) == state(run()[0])


def waiting(tmp_path, kept):
    model = fit(simple())
    model.save(tmp_path / f"model.{kept}")
    optimizer = NAGD(0.05)
    if kept == "keras":
        store = {}
        model.optimizer.save_own_variables(store)
        optimizer.load_own_variables(store)
    else:
        optimizer.set_weights([v.numpy() for v in model.optimizer.variables])
    return optimizer


@pytest.mark.parametrize("kept", ["keras", "h5"])
def test_slots_that_wait_cannot_be_swapped_or_reset(kept, tmp_path):
    """What was loaded would come back when the optimizer is built."""
    optimizer = waiting(tmp_path, kept)
    for use in (optimizer.swap_to_iterate, optimizer.reset_momentum):
        with pytest.raises(ValueError, match=r"Call optimizer\.build"):
            use()
    assert not optimizer.at_iterate


def test_slots_that_wait_without_names_are_not_lost(tmp_path):
    with pytest.raises(ValueError, match=r"Call optimizer\.build"):
        waiting(tmp_path, "h5").save_own_variables({})
