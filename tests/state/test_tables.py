"""Values of schedules that are computed for many steps at once are those of one step."""

import keras
import numpy as np
import pytest
from keras.optimizers import schedules as of_keras

from nagd_keras import NAGD, schedules
from nagd_keras.backends.current import current
from nagd_keras.state.tables import LENGTH, Table

ANY_STEP = {
    "one cycle": schedules.OneCycle(0.001, 0.01, 1e-5, total_steps=1500),
    "stairs": schedules.SutskeverMomentum(period=100),
    "one after the other": schedules.Piecewise([900], [of_keras.CosineDecay(0.1, 800), 0.01]),
    "exponential": of_keras.ExponentialDecay(0.1, 100, 0.96),
    "polynomial": of_keras.PolynomialDecay(0.1, 100, power=0.5, cycle=True),
    # These take no vectors on some backends.
    "constants": of_keras.PiecewiseConstantDecay([100, 1200], [0.1, 0.01, 0.001]),
    "warmup": of_keras.CosineDecay(0.1, 1000, warmup_target=0.5, warmup_steps=100),
}
STEPS = 0, 1, 99, 100, 101, LENGTH - 1, LENGTH, 1499, 5000, 7, 2**24 + 1


class Changing(of_keras.LearningRateSchedule):
    """A schedule that looks at something else than the step."""

    rate = 0.1

    def __call__(self, step):
        return keras.ops.full_like(keras.ops.cast(step, "float32"), self.rate)


@pytest.mark.parametrize("schedule", ANY_STEP.values(), ids=list(ANY_STEP))
def test_a_table_has_the_schedules_values(schedule):
    table = Table(schedule)
    for step in STEPS:
        found = table.at(step)
        wanted = float(schedule(keras.ops.convert_to_tensor(step, "int32")))
        assert found is None or found == pytest.approx(wanted, rel=3e-7)


def test_a_value_does_not_depend_on_where_a_run_resumes():
    schedule = ANY_STEP["exponential"]
    table = Table(schedule)
    steps = range(500, 600)
    assert [table.at(t) for t in steps] == [Table(schedule).at(t) for t in steps]


@pytest.mark.parametrize("schedule", [Changing(), schedules.Piecewise([5], [0.1, Changing()])])
def test_no_table_of_what_may_look_at_more_than_the_step(schedule):
    assert Table(schedule).at(3) is None


@pytest.mark.parametrize("name", ["one cycle", "stairs", "one after the other", "exponential"])
def test_there_is_a_table_of_what_has_numbers_only(name):
    assert Table(ANY_STEP[name]).at(3) is not None


def test_a_schedule_that_holds_a_variable_has_no_table():
    rate = keras.Variable(0.1, trainable=False)
    assert Table(of_keras.ExponentialDecay(rate, 10, 0.5)).at(3) is None


def test_a_schedule_that_is_changed_has_a_new_table():
    schedule = of_keras.ExponentialDecay(0.1, 10, 1.0)
    nested = Table(schedules.Piecewise([5], [0.3, schedule]))
    table = Table(schedule)
    assert [table.at(7), nested.at(7)] == pytest.approx([0.1, 0.1])
    schedule.initial_learning_rate = 0.001
    assert [table.at(7), nested.at(7)] == pytest.approx([0.001, 0.001])


@pytest.mark.skipif(not current.reads_numbers, reason="no tables are used on this backend")
def test_updates_follow_the_schedules():
    """Both clocks, a restart of one of them, a factor, and what changes beside the step."""
    cycle, stairs, changing = (
        ANY_STEP["one cycle"],
        schedules.SutskeverMomentum(period=2),
        Changing(),
    )
    variable = keras.Variable(np.zeros(3, "float32"))
    optimizer = NAGD(cycle, stairs, weight_decay=changing)
    optimizer.build([variable])
    w, s, factor, age = 0.0, 0.0, 1.0, 0
    for t in range(9):
        if t == 4:
            optimizer.reset_momentum()
            s, age = 0.0, 0
        if t == 6:
            optimizer.scale_learning_rate(0.5)
            changing.rate, factor = 0.3, 0.5
        eps = factor * float(cycle(t))
        mu = float(stairs(age + 1))
        step = eps * (t + 1)
        s = mu * (s - step)
        w = w - eps * changing.rate * w - step + s
        optimizer.apply([keras.ops.full((3,), t + 1.0)], [variable])
        age += 1
        np.testing.assert_allclose(keras.ops.convert_to_numpy(variable), w, rtol=1e-5)


@pytest.mark.skipif(not current.reads_numbers, reason="no tables are used on this backend")
def test_a_value_out_of_range_is_refused_at_its_step():
    optimizer = NAGD(of_keras.PolynomialDecay(0.1, 4, end_learning_rate=-0.1))
    variable = keras.Variable(np.zeros(3, "float32"))
    gradients = [keras.ops.ones(3)]
    for _ in range(3):
        optimizer.apply(gradients, [variable])
    with pytest.raises(ValueError, match=r"learning_rate.*PolynomialDecay"):
        optimizer.apply(gradients, [variable])
    assert int(optimizer.iterations) == 3
