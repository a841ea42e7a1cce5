"""Variables of the backend's own, `tf.Variable` and `torch.nn.Parameter`, train as Keras' do."""

import keras
import numpy as np
import pytest

from nagd_keras import NAGD, convert, schedules
from tests.support.drivers import assert_identical, snapshot, to_float64

BACKEND = keras.backend.backend()
HAS_NATIVES = BACKEND != "jax"
if BACKEND == "tensorflow":
    import tensorflow as tf

    def native(value, **settings):
        return tf.Variable(value, **settings)

elif BACKEND == "torch":
    import torch

    def native(value):
        return torch.nn.Parameter(torch.tensor(value))


natives = pytest.mark.skipif(not HAS_NATIVES, reason="JAX' arrays cannot be set")
on_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.Variable's")

SETTINGS = {
    "none": {},
    "schedules": {
        "learning_rate": schedules.LinearWarmup(0.1, 3),
        "momentum": schedules.NesterovMomentum(),
    },
    "decay and norm": {"weight_decay": 0.1, "clipnorm": 0.5},
    "all norms": {"global_clipnorm": 0.5},
    "averages": {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 2},
    "accumulation": {"gradient_accumulation_steps": 2},
    "skip": {"skip_nonfinite": True, "clipvalue": 0.5},
    "restart": {"restart": "gradient", "momentum": 0.95},
    "16 bits": {"slot_dtype": "bfloat16"},
}
STARTS = [np.asarray(x, "float32") for x in ([3.0, 2.0], [[1.0, -4.0]], [0.5])]
STEPS = 5


def gradients(step):
    values = [np.asarray(np.cos(step + x), "float32") for x in STARTS]
    return [keras.ops.convert_to_tensor(g) for g in values]


def trained(optimizer, variables, steps=range(STEPS)):
    for step in steps:
        optimizer.apply_gradients(zip(gradients(step), variables, strict=True))
    return variables


def keras_ones():
    return [keras.Variable(x) for x in STARTS]


def mixed():
    a, b, c = STARTS
    return [native(a), keras.Variable(b), native(c)]


@pytest.mark.keep(4)
@natives
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_the_same_bits(settings):
    found, wanted = mixed(), keras_ones()
    optimizer, other = NAGD(**settings), NAGD(**settings)
    trained(optimizer, found)
    trained(other, wanted)
    assert_identical(snapshot(found, optimizer), snapshot(wanted, other))
    for each, variables in ((optimizer, found), (other, wanted)):
        each.swap_to_iterate()
        each.finalize_variable_values(variables)
        assert not each.at_iterate
    assert_identical(snapshot(found, optimizer), snapshot(wanted, other))


@natives
def test_single_updates_and_those_without_variables():
    found, wanted = mixed(), keras_ones()
    for variables in (found, wanted):
        optimizer = NAGD(0.1)
        optimizer.build(variables)
        optimizer.apply(gradients(0))
        optimizer.update_step(gradients(1)[0], variables[0], 0.5)
    assert_identical(snapshot(found), snapshot(wanted))


@natives
def test_the_native_variables_of_keras_variables():
    """As a gradient tape lists those that it watched; constraints hold."""
    found, wanted = keras_ones(), keras_ones()
    for each in (found[1], wanted[1]):
        each.constraint = keras.constraints.NonNeg()
    optimizer, other = NAGD(), NAGD()
    optimizer.build(found)
    trained(optimizer, [v.value for v in found])
    trained(other, wanted)
    assert_identical(snapshot(found), snapshot(wanted))
    assert np.all(to_float64(found[1]) >= 0)


@natives
def test_no_decay_of_some():
    a, b, c = mixed()
    optimizer = NAGD(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_list=[c])
    optimizer.build([a, b, c])
    optimizer.apply([keras.ops.zeros(x.shape) for x in STARTS])
    np.testing.assert_allclose(to_float64(a), STARTS[0] * 0.95, rtol=1e-6)
    np.testing.assert_array_equal(to_float64(c), STARTS[2])


@natives
def test_saved_and_loaded():
    """All of one name, and told by their order."""
    start = STARTS[0]
    few = [g for step in range(3) for g in gradients(step)[:1]]
    variables, kept = [native(start) for _ in few], {}
    before, after = NAGD(0.1), NAGD(0.1)
    before.apply(few, variables)
    before.save_own_variables(kept)
    copies = [native(to_float64(v).astype("float32")) for v in variables]
    after.build(copies)
    after.load_own_variables(kept)
    for optimizer, each in ((before, variables), (after, copies)):
        optimizer.apply(few, each)
    assert_identical(snapshot(copies, after), snapshot(variables, before))


@natives
@pytest.mark.skipif(BACKEND == "torch", reason="Keras' SGD takes no parameters there")
def test_from_keras_sgd():
    found, wanted = mixed(), keras_ones()
    optimizers = []
    for variables in (found, wanted):
        sgd = keras.optimizers.SGD(0.1, momentum=0.5, nesterov=True)
        trained(sgd, variables, range(2))
        optimizers.append(convert.from_keras_sgd(sgd))
        trained(optimizers[-1], variables, range(2, 4))
    assert_identical(snapshot(found, optimizers[0]), snapshot(wanted, optimizers[1]))


@natives
def test_from_nagd():
    """The variable that stayed goes on, another one begins."""
    a, b, c = mixed()
    optimizer = NAGD(0.1)
    optimizer.apply(gradients(0), [a, b, c])
    new = convert.from_nagd(optimizer, [c, native(STARTS[0])], learning_rate=0.5)
    kept, fresh = map(to_float64, new.displacements)
    np.testing.assert_array_equal(kept, to_float64(optimizer.displacements[2]))
    assert not np.any(fresh)


def test_what_is_no_variable():
    array = keras.ops.ones(2)
    own = " or the backend's own" if HAS_NATIVES else ""
    said = rf"updates variables, Keras'{own}\. Received: .*1[^$]*Make it a variable"
    with pytest.raises(TypeError, match=said):
        NAGD().apply([array], [array])


@on_tensorflow
def test_names_constraints_and_rates_of_their_own():
    a = tf.Variable([1.0], name="net/head", constraint=lambda x: tf.clip_by_value(x, -9.0, 0.5))
    b = tf.Variable([1.0], name="net/body")
    optimizer = NAGD(0.1, 0.0, learning_rate_multipliers={"net/body": 0.0})
    optimizer.apply([tf.ones(1), tf.ones(1)], [a, b])
    assert (a.numpy().tolist(), b.numpy().tolist()) == ([0.5], [1.0])


@on_tensorflow
@pytest.mark.parametrize("jit_compile", [False, True])
def test_in_a_function(jit_compile):
    found, wanted = mixed(), trained(NAGD(), keras_ones())
    optimizer = NAGD()
    step = tf.function(lambda gs: optimizer.apply(gs, found), jit_compile=jit_compile)
    optimizer.build(found)
    for i in range(STEPS):
        step(gradients(i))
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(to_float64(a), to_float64(b), rtol=1e-6)


@on_tensorflow
def test_rows_alone():
    table, rows = np.ones((4, 2), "float32"), tf.constant([[1.0, 2.0], [3.0, 4.0]])
    found, wanted = tf.Variable(table), keras.Variable(table)
    for variable in (found, wanted):
        optimizer = NAGD(sparse_updates="lazy")
        for _ in range(2):
            gradient = tf.IndexedSlices(rows, tf.constant([2, 0]), tf.constant([4, 2]))
            optimizer.apply([gradient], [variable])
    assert_identical(snapshot([found]), snapshot([wanted]))
    np.testing.assert_array_equal(found.numpy()[1], [1.0, 1.0])


@on_tensorflow
def test_a_checkpoint_of_tensorflow(tmp_path):
    def made(values):
        variables = [tf.Variable(x) for x in values]
        return variables, NAGD(0.1), tf.train.Checkpoint(variables=variables)

    variables, optimizer, checkpoint = made(STARTS)
    checkpoint.optimizer = optimizer
    trained(optimizer, variables, range(2))
    path = checkpoint.write(tmp_path / "state")
    others, again, other = made([0 * x for x in STARTS])
    other.optimizer = again
    again.build(others)
    other.read(path).assert_consumed()
    for each, those in ((optimizer, variables), (again, others)):
        trained(each, those, range(2, 4))
    assert_identical(snapshot(others, again), snapshot(variables, optimizer))
