"""The optimizer's numbers, as people read and print them."""

import keras
import numpy as np
import pytest

from nagd_keras import NAGD
from nagd_keras.backends.backend import Backend
from nagd_keras.backends.current import current
from tests.support.problems import Table

BACKEND = keras.backend.backend()


def read(optimizer):
    """What people write to see where the optimizer is."""
    momentum, rate, age = optimizer.momentum, optimizer.learning_rate, optimizer.age
    return float(momentum), f"{momentum:.3f} {rate:.2e}", f"{age}", str(age), f"{age:3d}", int(age)


SHOWN = 0.875, "0.875 5.00e-01", "2", "2", "  2", 2
SOURCES = {
    "number": lambda: NAGD(0.5, 0.875),
    "schedule": lambda: NAGD(Table([0.5] * 9), Table([0.875] * 9)),
    "variable of a callable": lambda: followed(keras.Variable(0.5), keras.Variable(0.875)),
}


def followed(rate, momentum):
    return NAGD(lambda: rate, lambda: momentum)


def trained(make):
    optimizer, x = make(), keras.Variable([1.0])
    optimizer.build([x])
    optimizer.age.assign(2)
    return optimizer


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_numbers_read_as_numbers(make):
    assert read(trained(make)) == SHOWN


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.distribute is TensorFlow's")
@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_numbers_read_as_numbers_under_a_strategy(make):
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        optimizer = trained(make)
        assert read(optimizer) == SHOWN
    assert read(optimizer) == SHOWN


def test_numbers_are_shown_as_they_were_given():
    """Not with the digits that float32 adds."""
    optimizer = NAGD(0.1, 0.9)
    assert (str(optimizer.momentum), f"{optimizer.learning_rate}") == ("0.9", "0.1")
    assert repr(optimizer.momentum) == "<momentum: 0.9>"
    assert round(optimizer.momentum, 2) == 0.9
    assert round(optimizer.age) == 0


@pytest.mark.skipif(BACKEND == "torch", reason="nothing is symbolic there")
def test_a_compiled_step_can_print_numbers():
    optimizer = NAGD(0.1, 0.9)
    printed = []

    def step(x):
        printed.append(f"{optimizer.momentum} {optimizer.momentum!r}")
        return x

    if BACKEND == "tensorflow":
        import tensorflow as tf

        tf.function(step)(tf.ones(1))
    else:
        import jax

        values = [v.value for v in optimizer.variables]

        def stateless(values):
            with keras.StatelessScope(zip(optimizer.variables, values, strict=True)):
                return step(0)

        jax.jit(stateless)(values)
    assert "momentum" in printed[0]


def test_a_number_is_set_as_by_way_of_keras():
    """TensorFlow has a shorter way: no other number moves, and no bit is lost."""
    plain = Backend()
    fast, slow = NAGD(), NAGD()
    for name in fast._state.scalars.used():
        whole = name in ("age", "updates", "restarts", "skipped_updates")
        for value in (3, 2**24 + 1) if whole else (0.1, 1e-45, 16777217.0, 3e38):
            for optimizer, backend in ((fast, current), (slow, plain)):
                number = optimizer._state.scalars[name]
                backend.put(number.variable, number.place, np.asarray(value, number.dtype))
            for a, b in zip(fast.variables, slow.variables, strict=True):
                bits = (keras.ops.convert_to_numpy(x).tobytes() for x in (a, b))
                assert len({*bits}) == 1, name
            number = fast._state.scalars[name]
            assert float(number) == number.numpy()


def test_a_number_is_set_where_nothing_may_be_written():
    """A scope without state keeps what is set, and the variable stays as it is."""
    optimizer = NAGD(0.5)
    with keras.StatelessScope() as scope:
        optimizer.learning_rate = 0.25
        assert float(keras.ops.convert_to_numpy(optimizer.learning_rate.value)) == 0.25
    numbers = optimizer.learning_rate.variable
    assert scope.get_current_value(numbers) is not None
    assert float(optimizer.learning_rate) == 0.5
