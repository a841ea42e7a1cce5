"""`stateless_apply`, on which JAX' transformations act: `jax.jit`, and `jax.vmap` over runs."""

import keras
import numpy as np
import pytest

from nagd_keras import NAGD, schedules
from tests.support.drivers import to_float64
from tests.support.tolerances import TRAJECTORY, UNIT, assert_close

jax = pytest.importorskip("jax")

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="Keras' other backends have no `stateless_apply`"
)

RUNS, STEPS, SHAPES = 3, 24, [(3, 2), (4,)]
RATES, MOMENTA = [0.03, 0.1, 0.2], [0.0, 0.5, 0.9]
BAD = 5  # the step at which the second run's gradient is not finite
CASES = {
    "plain": {},
    "restart": {"restart": "speed"},  # The age at which a run restarts is its own.
    "skip": {"skip_nonfinite": True},  # So is the step that it leaves out.
    "clipnorm": {"clipnorm": 0.5},
    "global_clipnorm": {"global_clipnorm": 0.5},
    "accumulation": {"gradient_accumulation_steps": 2},
    "averages": {"use_ema": True, "ema_momentum": 0.5},
    "all": {
        "restart": "gradient",
        "skip_nonfinite": True,
        "clipvalue": 0.5,
        "weight_decay": 0.1,
        "gradient_accumulation_steps": 2,
        "use_ema": True,
        "slot_dtype": "bfloat16",
    },
}


def optimizer_of(settings, **changed):
    """An optimizer, the values of its variables, and those of the variables it was built with."""
    variables = [
        keras.Variable(np.zeros(shape, "float32"), name=f"x{i}") for i, shape in enumerate(SHAPES)
    ]
    optimizer = NAGD(**{"learning_rate": 0.1, "momentum": 0.9, **settings, **changed})
    optimizer.build(variables)
    return optimizer, [v.value for v in optimizer.variables]


def starts(rng):
    """The values of the variables of each run."""
    return [[jax.numpy.asarray(rng.normal(size=s), "float32") for s in SHAPES] for _ in range(RUNS)]


def gradients(values, step, run, settings):
    """Those of a bowl, the more curved the later the number; one is spoiled, to be skipped."""
    found = [np.linspace(0.5, 4, np.size(x), dtype="float32").reshape(x.shape) * x for x in values]
    if settings.get("skip_nonfinite") and (run, step) == (1, BAD):
        found[0][0, 0] = np.nan
    return [jax.numpy.asarray(g) for g in found]


def by_itself(settings, run, start):
    """The values after each step of one run, eagerly."""
    optimizer, _ = optimizer_of(settings, learning_rate=RATES[run], momentum=MOMENTA[run])
    variables = optimizer._trainable_variables
    for variable, value in zip(variables, start, strict=True):
        variable.assign(value)
    seen = []
    for step in range(STEPS):
        values = [to_float64(v).astype("float32") for v in variables]
        optimizer.apply(gradients(values, step, run, settings))
        seen.append([to_float64(v) for v in (*variables, *optimizer.variables)])
    return seen


def place_of(optimizer, variable):
    return [v is variable for v in optimizer.variables].index(True)


def counted(state, optimizer, counter):
    """What a counter says in each run."""
    return [int(n) for n in state[place_of(optimizer, counter.variable)][:, counter.place]]


def traced(optimizer):
    """`stateless_apply`, and a list that has an entry for each time it was traced."""
    traces = []

    def apply(*arguments):
        traces.append(arguments)
        return optimizer.stateless_apply(*arguments)

    return apply, traces


def stacked(each):
    return [jax.numpy.stack(xs) for xs in zip(*each, strict=True)]


@pytest.mark.parametrize("name", CASES)
def test_many_runs_at_once_are_each_the_run_of_its_own(rng, name):
    """With a learning rate, a momentum and variables of its own for each."""
    settings, start = CASES[name], starts(rng)
    wanted = [by_itself(settings, run, start[run]) for run in range(RUNS)]
    optimizer, _ = optimizer_of(settings)
    state = []
    for run in range(RUNS):
        optimizer.learning_rate, optimizer.momentum = RATES[run], MOMENTA[run]
        state.append([v.value for v in optimizer.variables])
    apply, traces = traced(optimizer)
    step_of_all = jax.jit(jax.vmap(apply))
    state, values = stacked(state), stacked(start)
    for step in range(STEPS):
        found = [
            gradients([np.asarray(x[r]) for x in values], step, r, settings) for r in range(RUNS)
        ]
        values, state = step_of_all(state, stacked(found), values)
        for run in range(RUNS):
            for x, y, v in zip(
                [*values, *state],
                wanted[run][step],
                [*optimizer._trainable_variables, *optimizer.variables],
                strict=True,
            ):
                room = TRAJECTORY.get(keras.backend.standardize_dtype(v.dtype), 0.0)
                x = to_float64(x[run])
                np.testing.assert_array_equal(np.isnan(x), np.isnan(y))  # of what is not tracked
                what = f"{v.path}, run {run}, step {step}"
                assert_close(np.nan_to_num(x), np.nan_to_num(y), room, what)
    assert len(traces) == 1
    if name == "restart":
        assert len(set(counted(state, optimizer, optimizer.restarts))) > 1, "nothing is shown"
    if name == "skip":
        assert counted(state, optimizer, optimizer.skipped_updates) == [0, 1, 0]


@pytest.mark.parametrize("name", CASES)
def test_a_second_step_does_not_compile_again(rng, name):
    """Nor does one with another learning rate and another momentum."""
    optimizer, state = optimizer_of(CASES[name])
    apply, traces = traced(optimizer)
    step, values = jax.jit(apply), starts(rng)[0]
    for at, (rate, momentum) in enumerate([(0.1, 0.9), (0.1, 0.9), (0.2, 0.5)]):
        for scalar, number in ((optimizer.learning_rate, rate), (optimizer.momentum, momentum)):
            place = place_of(optimizer, scalar.variable)
            state[place] = state[place].at[scalar.place].set(number)
        values, state = step(state, gradients(values, at, 0, {}), values)
    assert len(traces) == 1


def test_the_optimizer_itself_stays_as_it_was(rng):
    optimizer, state = optimizer_of({"restart": "speed", "use_ema": True})
    values = starts(rng)[0]
    before = [to_float64(v) for v in (*optimizer._trainable_variables, *optimizer.variables)]
    jax.jit(optimizer.stateless_apply)(state, gradients(values, 0, 0, {}), values)
    after = [to_float64(v) for v in (*optimizer._trainable_variables, *optimizer.variables)]
    for a, b in zip(after, before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_schedules_are_followed_by_each_run(rng):
    """Runs of different ages are at different places of a momentum schedule."""
    settings = {"learning_rate": 0.1, "momentum": schedules.NesterovMomentum()}
    optimizer, _ = optimizer_of(settings)
    values, states, wanted = starts(rng)[0], [], []
    for age in (0, 4, 40):
        optimizer.age.assign(age)
        states.append([v.value for v in optimizer.variables])
        wanted.append(optimizer.stateless_apply(states[-1], gradients(values, 0, 0, {}), values))
    found, _ = jax.vmap(optimizer.stateless_apply, in_axes=(0, None, None))(
        stacked(states), gradients(values, 0, 0, {}), values
    )
    moved = [to_float64(x) for x in found[0]]
    for run, (theirs, _) in enumerate(wanted):
        assert_close(moved[run], to_float64(theirs[0]), 4 * UNIT["float32"])
    # The first step has no velocity yet, so that the momentum alone makes the difference.
    assert len({x[0, 0] for x in moved}) == 3
