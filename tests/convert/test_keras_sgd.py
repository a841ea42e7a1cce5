"""NAGD goes on where Keras' SGD stands, and SGD where NAGD stands, with all their state."""

import keras
import numpy as np
import pytest

from nagd_keras import NAGD, convert
from nagd_keras.tensors import number
from tests.support.convert_cases import (
    ACCUMULATION,
    CASES,
    FALLING,
    STEPS,
    Case,
    advance,
    assert_same_steps,
    begun,
    join,
)
from tests.support.drivers import assert_identical, snapshot, to_float64
from tests.support.tolerances import TRAJECTORY, assert_close

pytestmark = pytest.mark.long  # see pyproject.toml

BACKEND = keras.backend.backend()
SETTINGS = (
    "clipnorm",
    "clipvalue",
    "global_clipnorm",
    "use_ema",
    "ema_momentum",
    "ema_overwrite_frequency",
    "loss_scale_factor",
    "gradient_accumulation_steps",
)


def sgd(**settings):
    return keras.optimizers.SGD(nesterov=True, **settings)


def converted(run, convert):
    """Replaces the optimizer of a run, and returns both."""
    before = [*snapshot(run.optimizer), *run.look_ahead], run.optimizer.get_config()
    old, run.optimizer = run.optimizer, convert(run.optimizer)
    assert_identical([*snapshot(old), *run.look_ahead], before[0])
    assert old.get_config() == before[1]
    return old, run.optimizer


def assert_same_state(old, new):
    """All that is in both, and to the bit."""
    assert int(new._iterations) == int(old._iterations)
    assert int(new.iterations) == int(old.iterations)
    for name in SETTINGS:
        assert getattr(new, name) == getattr(old, name)
    assert number(new.learning_rate) == number(old.learning_rate)
    assert (new.weight_decay is None) == (old.weight_decay is None)
    if old.weight_decay is not None:
        assert np.float32(number(new.weight_decay)) == np.float32(number(old.weight_decay))
    if not old.built:
        assert not new.built
        return
    assert [id(v) for v in new._trainable_variables] == [id(v) for v in old._trainable_variables]
    for v in old._trainable_variables:
        assert new._use_weight_decay(v) == old._use_weight_decay(v)
    if old.use_ema:
        assert_identical(*(snapshot(o._model_variables_moving_average) for o in (new, old)))
    if old.gradient_accumulation_steps:
        assert_identical(*(snapshot(o._accumulated_gradients) for o in (new, old)))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_nagd_goes_on_where_sgd_stands(case):
    run, twin = begun(sgd, case), begun(sgd, case)
    old, new = converted(run, convert.from_keras_sgd)
    assert type(new) is NAGD
    assert new.name == "nagd"
    assert_same_state(old, new)
    updates = case.steps // (case.settings.get("gradient_accumulation_steps") or 1)
    assert int(new.age) == int(new.iterations) == updates
    if old.momentum and updates:
        for s, v in zip(new.displacements, old.momentums, strict=True):
            exact = to_float64(keras.ops.cast(old.momentum, v.dtype)) * to_float64(v)
            np.testing.assert_array_equal(to_float64(s), to_float64(keras.ops.cast(exact, s.dtype)))
            assert np.any(exact)
    assert_same_steps(run, twin)
    assert int(new.age) == (case.steps + STEPS) // (new.gradient_accumulation_steps or 1)


BACK = (
    "plain",
    "no step yet",
    "gradient descent",
    "weight decay, one excluded",
    "accumulation, schedule, average",
    "everything",
    "bfloat16",
)


@pytest.mark.parametrize("case", [case for case in CASES if case.name in BACK], ids=str)
def test_sgd_goes_on_where_nagd_stands(case):
    run, twin = begun(NAGD, case), begun(NAGD, case)
    old, new = converted(run, convert.to_keras_sgd)
    assert type(new) is type(keras.optimizers.SGD())
    assert new.nesterov
    assert new.momentum == case.keywords()["momentum"]  # the decimal, not its float32
    assert_same_state(old, new)
    if not new.momentum:
        assert new.momentums == []
    assert_same_steps(run, twin)


@pytest.mark.skipif(BACKEND == "torch", reason="Keras has another SGD for PyTorch")
def test_gradient_descent_goes_on_to_the_bit():
    case = Case("", {"momentum": 0.0})
    run, twin = begun(sgd, case), begun(sgd, case)
    converted(run, convert.from_keras_sgd)
    for _ in range(STEPS):
        advance(run, 1)
        advance(twin, 1)
        assert_identical(run.look_ahead, twin.look_ahead)


@pytest.mark.parametrize(
    "case", [Case("plain"), Case("mid-window", ACCUMULATION, steps=14)], ids=str
)
def test_there_and_back(case):
    run, twin = begun(sgd, case), begun(sgd, case)
    converted(run, convert.from_keras_sgd)
    advance(run, 5)
    advance(twin, 5)
    _, back = converted(run, convert.to_keras_sgd)
    assert back.momentum == 0.9
    for a, b in zip(back.momentums, twin.optimizer.momentums, strict=True):
        assert_close(to_float64(a), to_float64(b), TRAJECTORY["float32"])
    assert_same_steps(run, twin)


def test_a_momentum_that_was_set_is_the_next_updates():
    """v = s / mu with the momentum of the update to come, not of the one that made s."""
    case = Case("")
    run, twin = begun(NAGD, case), begun(NAGD, case)
    for each in (run, twin):
        each.optimizer.momentum = 0.5
    converted(run, convert.to_keras_sgd)
    assert_same_steps(run, twin)


def test_momentum_set_to_zero_is_gradient_descent_from_here_on():
    run, twin = begun(NAGD, Case("")), begun(NAGD, Case(""))
    for each in (run, twin):
        each.optimizer.momentum = 0.0
    _, new = converted(run, convert.to_keras_sgd)
    assert new.momentum == 0.0
    assert_same_steps(run, twin)


def test_after_a_restart_iterations_stay():
    run = begun(NAGD, Case("", {"learning_rate": FALLING}))
    run.optimizer.reset_momentum()
    _, new = converted(run, convert.to_keras_sgd)
    assert int(new.iterations) == 7
    assert not np.any(join(snapshot(new.momentums)))


@pytest.mark.parametrize("there", [convert.from_keras_sgd, convert.to_keras_sgd])
def test_the_learning_rate_stays_live(there):
    make = sgd if there is convert.from_keras_sgd else NAGD
    run, twin = begun(make, Case("")), begun(make, Case(""))
    run.optimizer.learning_rate = twin.optimizer.learning_rate = 0.2
    old, new = converted(run, there)
    new.learning_rate = 0.1
    assert float(old.learning_rate) == np.float32(0.2)  # no variable is shared
    twin.optimizer.learning_rate = 0.1
    assert_same_steps(run, twin)


@pytest.mark.parametrize("there", [convert.from_keras_sgd, convert.to_keras_sgd])
@pytest.mark.parametrize("by", ["var_list", "var_names"])
def test_an_optimizer_that_is_not_built(there, by):
    x, y = (keras.Variable([1.0], name=name) for name in "xy")
    settings = {"weight_decay": 0.5, "gradient_accumulation_steps": 2, "use_ema": True}
    old = (sgd if there is convert.from_keras_sgd else NAGD)(
        learning_rate=0.25, momentum=0.5, **settings
    )
    old.exclude_from_weight_decay(**{by: [y] if by == "var_list" else ["y"]})
    new = there(old)
    assert_same_state(old, new)
    new.build([x, y])
    assert [new._use_weight_decay(v) for v in (x, y)] == [True, False]
    assert number(new.momentum) == 0.5


def test_schedules_and_callables_stay_the_same_objects():
    for rate in (FALLING, lambda: 0.1):
        new = convert.from_keras_sgd(sgd(learning_rate=rate))
        assert new._state.hyperparameters.sources["learning_rate"] is rate
        assert convert.to_keras_sgd(NAGD(rate))._learning_rate is rate


def test_a_schedule_scaled_back_can_be_converted():
    optimizer = NAGD(FALLING)
    optimizer.learning_rate = 0.1
    with pytest.raises(ValueError, match="schedule that was set"):
        convert.to_keras_sgd(optimizer)
    # As the message says.
    optimizer.scale_learning_rate(1 / float(optimizer.learning_rate_scale))
    convert.to_keras_sgd(optimizer)


def test_multipliers_of_one_are_none():
    convert.to_keras_sgd(NAGD(learning_rate_multipliers={"x": 1.0}))


def test_a_variable_that_takes_no_update():
    x, scale = keras.Variable([1.0], name="x"), keras.Variable([5.0], name="scale")
    scale.overwrite_with_gradient = True
    one = keras.ops.ones(1)
    optimizer = sgd(learning_rate=0.25, momentum=0.5, use_ema=True)
    optimizer.apply([one, one], [scale, x])
    new = convert.from_keras_sgd(optimizer)
    assert new.displacements[0] is None
    np.testing.assert_array_equal(to_float64(new.displacements[1]), [0.5 * -0.25])
    new.apply([7 * one, one], [scale, x])
    back = convert.to_keras_sgd(new)
    back.apply([3 * one, one], [scale, x])
    np.testing.assert_array_equal(to_float64(scale), [3.0])


def test_float64(float64):
    # On TensorFlow, Keras' SGD rounds its momentum to float32.
    case = Case("", {"momentum": 0.875}, dtype="float64")
    run, twin = begun(sgd, case), begun(sgd, case)
    converted(run, convert.from_keras_sgd)
    assert_same_steps(run, twin)
    converted(run, convert.to_keras_sgd)
    assert_same_steps(run, twin)


def test_a_momentum_set_after_gradient_descent_begins_without_displacement():
    """Such an SGD has no velocities, and cannot train on itself."""
    run = begun(sgd, Case("", {"momentum": 0.0}))
    run.optimizer.momentum = 0.5
    new = convert.from_keras_sgd(run.optimizer)
    assert float(new.momentum) == 0.5
    assert not np.any(join(snapshot(new.displacements)))
