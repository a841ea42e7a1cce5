"""Every member of the family is exact at every step, and goes on from a saved state."""

import math

import keras
import numpy as np
import pytest

from nagd_keras import NAGD, directions
from tests.family import FAMILY, STEPS
from tests.reference.directions import POLAR_EXPRESS
from tests.reference.family import Reference
from tests.support.drivers import DRIVERS, Run, assert_identical, snapshot, to_float64
from tests.support.tolerances import TRAJECTORY, assert_close

RATE, MOMENTUM = 0.1, 0.9
SHAPES = [(3, 2), (4,), ()]
GAIN = math.prod(a for a, _, _ in POLAR_EXPRESS)  # of a tiny singular value
EACH = pytest.mark.parametrize("member", FAMILY, ids=str)


def optimizer_of(member):
    return NAGD(**{"learning_rate": RATE, "momentum": MOMENTUM, **member.settings})


def gradients(member, points, step):
    """Those of a bowl, the more curved the later the variable; one is spoiled here and there."""
    found = [(0.5 + i) * np.asarray(w) - 0.2 for i, w in enumerate(points)]
    found = [g * member.settings.get("loss_scale_factor", 1.0) for g in found]
    if step in member.spoiled:
        found[0][0, 0] = np.nan
    return found


def check(run, reference, what):
    optimizer = run.optimizer
    slots = {"displacement": reference.ss}
    if "use_ema" in reference.member.settings:
        slots["average"] = reference.averages
    # All have the rounding of the largest that the variable was: it runs towards zero.
    room = [TRAJECTORY["float32"] * largest for largest in reference.largest]
    if reference.member.settings.get("direction") == "orthogonal":
        # Its polynomials multiply the rounding of what is small, a few units in each step.
        longest = RATE * 0.2 * max(SHAPES[0]) ** 0.5
        room[0] += 4 * STEPS * longest * GAIN * np.finfo("float32").eps / 2
    found = {kind: map(to_float64, optimizer._state.slots[kind]) for kind in slots}
    wanted, found = {"variable": reference.ws, **slots}, {"variable": run.look_ahead, **found}
    for kind, arrays in wanted.items():
        for i, (a, b) in enumerate(zip(found[kind], arrays, strict=True)):
            assert np.max(np.abs(a - b)) <= room[i], f"{kind} x{i}, {what}"
    for counter in ("age", "restarts", "skipped_updates"):
        assert int(getattr(optimizer, counter)) == getattr(reference, counter), (counter, what)


@pytest.mark.keep(6)
@EACH
@pytest.mark.parametrize("driver", DRIVERS)
def test_every_step_is_the_references_with_a_reload_half_way(member, driver, rng):
    start = [rng.normal(size=shape) for shape in SHAPES]
    run = Run(optimizer_of(member), start, "float32", driver)
    reference = Reference(member, run.look_ahead, np.float32(RATE), np.float32(MOMENTUM))
    for step in range(STEPS):
        if step == STEPS // 2 + 1:  # In the middle of an accumulation, too.
            store = {}
            run.optimizer.save_own_variables(store)
            run = Run(optimizer_of(member), run.look_ahead, "float32", driver)
            run.optimizer.load_own_variables(store)
        found = gradients(member, run.look_ahead, step)
        run.step(found)
        reference.step(found)
        check(run, reference, f"step {step}")
    for counter in member.decides:
        assert getattr(reference, counter) > 0, "nothing is shown"


@pytest.mark.keep(6)
@EACH
def test_a_config_makes_the_same_optimizer(member, rng):
    start = [rng.normal(size=shape) for shape in SHAPES]
    config = optimizer_of(member).get_config()
    runs = [Run(o, start, "float32") for o in (optimizer_of(member), NAGD.from_config(config))]
    for step in range(4):
        for run in runs:
            run.step(gradients(member, run.look_ahead, step))
    assert_identical(*(snapshot(run.variables, run.optimizer) for run in runs))
    assert runs[1].optimizer.get_config() == config


@keras.saving.register_keras_serializable(package="nagd_keras_tests")
class Sign(directions.Direction):
    """A direction with a slot: the sign of an average of the gradients."""

    slots = ("mean",)
    learning_rate, momentum = 0.001, 0.5

    def __init__(self, beta=0.5):
        self.beta = beta

    def direct(self, gradient, slots, t):
        mean = self.beta * slots["mean"] + (1 - self.beta) * gradient
        return keras.ops.sign(mean), {"mean": mean}

    def step_length(self, learning_rate, momentum):
        return learning_rate * (1 - momentum)

    def get_config(self):
        return {"beta": self.beta}


@pytest.mark.keep(2)
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("scheme", [None, "gradient"])
def test_a_direction_of_ones_own(driver, scheme, rng):
    """Its slot is built, saved and loaded; its defaults are used; clipping comes before it."""
    settings = {"direction": Sign(0.75), "clipvalue": 0.5, "restart": scheme}
    run = Run(NAGD(**settings), [rng.normal(size=5)], "float32", driver)
    eps, mu = np.float32(0.001), np.float32(0.5)
    w, s, m = run.look_ahead[0], np.zeros(5), np.zeros(5)
    for step in range(8):
        if step == 4:
            store = {}
            run.optimizer.save_own_variables(store)
            again = NAGD.from_config(run.optimizer.get_config())
            run = Run(again, run.look_ahead, "float32", driver)
            again.load_own_variables(store)
        g = rng.normal(size=5)
        run.step([g])
        g = np.clip(g.astype("float32"), -0.5, 0.5)
        m = 0.75 * m + 0.25 * g
        d, e = np.sign(m), eps * (1 - mu)
        s = mu * (s - e * d)
        if scheme and np.dot(g, s) > 0:
            s = np.zeros(5)
        w = w - e * d + s
        assert_close(run.look_ahead[0], w, TRAJECTORY["float32"], f"step {step}")
        mean = to_float64(run.optimizer._state.slots["mean"][0])
        assert_close(mean, m, TRAJECTORY["float32"], f"slot, step {step}")


class Extra(NAGD):
    """A derived class with a slot and a number of its own, made as Keras has it."""

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.steps = self.add_variable(shape=(), dtype="int32", name="steps")

    def build(self, variables):
        built = self.built
        if not built:
            self.seen = [self.add_variable_from_reference(v, name="seen") for v in variables]
        super().build(variables)

    def apply(self, grads, trainable_variables=None):
        super().apply(grads, trainable_variables)
        self.steps.assign_add(1)
        for slot, g in zip(self.seen, grads, strict=True):
            slot.assign_add(keras.ops.cast(g, slot.dtype))


def test_what_a_derived_class_adds_is_saved_and_matched(rng):
    """By the paths of the variables, also in another order, and before it is built."""
    values = {name: rng.normal(size=3).astype("float32") for name in "ab"}

    def variables(names):
        return [keras.Variable(values[name], name=name) for name in names]

    one, here = Extra(0.1), variables("ab")
    for _ in range(3):
        one.apply([keras.ops.ones(3), 2 * keras.ops.ones(3)], here)
    store = {}
    one.save_own_variables(store)
    for build_first in (True, False):
        other, there = Extra(0.1), variables("ba")
        for v, w in zip(there, here[::-1], strict=True):
            v.assign(w)
        if build_first:
            other.build(there)
        other.load_own_variables(store)
        other.build(there)
        assert int(other.steps) == 3
        np.testing.assert_array_equal(to_float64(other.seen[0]), [6.0] * 3)
        np.testing.assert_array_equal(to_float64(other.seen[1]), [3.0] * 3)
        for a, b in zip(other.displacements, one.displacements[::-1], strict=True):
            np.testing.assert_array_equal(to_float64(a), to_float64(b))


@pytest.mark.parametrize("given", ["muon", None, 1, directions.Gradient])
def test_what_is_no_direction(given):
    with pytest.raises(ValueError, match=r"must be one of 'gradient', .*, or an object of"):
        NAGD(direction=given)


def test_a_direction_by_its_name_is_the_object():
    by_name, by_object = NAGD(), NAGD(direction=directions.Gradient())
    assert by_name.get_config() == by_object.get_config()
    assert float(by_name.learning_rate) == np.float32(0.01)
    assert float(by_name.momentum) == np.float32(0.9)


class Backwards(directions.Direction):
    """A direction without slots."""

    def direct(self, gradient, slots, t):
        return -gradient, {}


def test_a_direction_without_slots_is_asked_too():
    x = keras.Variable([1.0])
    NAGD(0.5, 0.0, direction=Backwards()).apply([keras.ops.ones(1)], [x])
    np.testing.assert_array_equal(to_float64(x), [1.5])


class Begun(NAGD):
    """A derived class whose slot begins with ones, and with a number named like one of NAGD's."""

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.mine = self.add_variable(shape=(), name="age")

    def build(self, variables):
        if not self.built:
            for v in variables:
                self.add_variable_from_reference(v, "mark", initializer="ones")
        super().build(variables)


def test_what_a_file_lacks_begins_as_it_was_made():
    plain, other = NAGD(), Begun()
    x = keras.Variable([1.0], name="x")
    plain.apply([keras.ops.ones(1)], [x])
    other.build([x])
    store = {}
    plain.save_own_variables(store)
    other.mine.assign(7)
    other.load_own_variables(store)
    np.testing.assert_array_equal(to_float64(other._state.slots["mark"][0]), [1.0])
    assert int(other.age) == 1
    assert float(other.mine) == 7  # Names that clash are told apart.


def test_numbers_can_be_used_as_those_of_keras_can():
    rate = NAGD(0.5).learning_rate
    assert (-rate, abs(rate), rate + 1, 1 - rate, rate == 0.5) == (-0.5, 0.5, 1.5, 0.5, True)
    rate.assign_sub(0.25)
    assert float(rate) == 0.25


class Counted(directions.Adaptive):
    """Derived from a direction that joins variables, with a slot and a norm of each variable."""

    slots = ("mean_square", "count")

    def slot_shape(self, name, shape):
        return () if name == "count" else shape

    def direct(self, gradient, slots, t):
        direction, after = super().direct(gradient, {"mean_square": slots["mean_square"]}, t)
        norm = keras.ops.sqrt(keras.ops.sum(keras.ops.square(direction))) + 1e-12
        return direction / norm, {**after, "count": slots["count"] + 1}


def test_a_derived_direction_is_computed_by_variable(rng):
    starts = [rng.normal(size=4), rng.normal(size=400)]
    run = Run(NAGD(0.1, 0.0, direction=Counted()), starts, "float32")
    for _ in range(2):
        before = run.look_ahead
        run.step([rng.normal(size=4), rng.normal(size=400)])
    moved = [np.linalg.norm(a - b) for a, b in zip(run.look_ahead, before, strict=True)]
    np.testing.assert_allclose(moved, [0.1, 0.1], rtol=1e-5)
    assert [float(to_float64(s)) for s in run.optimizer._state.slots["count"]] == [2, 2]


class Signs(directions.Direction):
    """Elementwise, without slots."""

    elementwise = True

    def direct(self, gradient, slots, t):
        return keras.ops.sign(gradient), {}


def test_an_elementwise_direction_of_a_large_variable(rng):
    start = rng.normal(size=2**14 + 3)
    run = Run(NAGD(0.5, 0.0, direction=Signs()), [start], "float32", [*DRIVERS][-1])
    run.step([start])
    np.testing.assert_allclose(run.look_ahead[0], np.float32(start) - 0.5 * np.sign(start))
