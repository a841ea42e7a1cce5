"""The schedules' values, at every step."""

import json
from itertools import islice
from pathlib import Path

import keras
import numpy as np
import pytest

from nagd_keras.schedules import (
    NesterovMomentum,
    OneCycle,
)
from tests.reference import schedules as reference
from tests.reference.nesterov import nesterov_1983_momentum
from tests.support.schedule_cases import (
    CALLS,
    CASES,
    LAST,
    MODES,
    at,
    needs_64_bits,
    of_sine,
    steps_of,
)
from tests.support.tolerances import UNIT


@pytest.mark.keep(30)
@pytest.mark.parametrize(("how", "dtype"), MODES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_step_is_the_oracles(case, how, dtype):
    keras.config.set_floatx(dtype)
    steps = steps_of(case)
    wanted = np.array([case.oracle(int(step)) for step in steps])
    error = np.abs(at(CALLS[how](case.schedule), steps) - wanted)
    # The oracle's own errors are some roundings of its largest value, in float64.
    allowed = case.roundings * UNIT[case.unit] * wanted + 8 * UNIT["float64"] * wanted.max()
    worst = np.argmax(error - allowed)
    assert np.all(error <= allowed), f"step {steps[worst]}: {error[worst]} of {wanted[worst]}"


@pytest.fixture(scope="module")
def exact():
    """Nesterov's momentum at the steps up to 1e6, and at 1e7 and 1e8."""
    recursion = reference.nesterov_momentum()
    first = np.fromiter(islice(recursion, 10**6 + 1), "float64")
    at_1e7 = next(islice(recursion, 10**7 - 10**6 - 1, None))
    # next(islice(reference.nesterov_momentum(), 10**8, None)), which takes a quarter of a minute.
    at_1e8 = float.fromhex("0x1.fffffefe4d4f6p-1")
    steps = np.array([*range(10**6 + 1), 10**7, 10**8])
    return steps, np.array([*first, at_1e7, at_1e8])


NESTEROV_ERROR = {"float32": 1.2e-7, "float64": 1e-9}  # what the docstring promises


@pytest.mark.keep(1)
@pytest.mark.parametrize(("how", "dtype"), MODES)
@pytest.mark.parametrize("delay", [0, 2**24 + 1])
def test_nesterov_is_the_recursion(exact, how, dtype, delay):
    keras.config.set_floatx(dtype)
    steps, wanted = exact
    found = at(CALLS[how](NesterovMomentum(delay)), steps + delay)
    assert np.max(np.abs(found - wanted)) < NESTEROV_ERROR[dtype]
    assert found[0] == 0.0
    assert np.all((found >= 0) & (found < 1))


@needs_64_bits
def test_nesterov_in_float64_is_right_in_its_distance_from_1(exact, float64):
    steps, wanted = exact
    found = at(NesterovMomentum(), steps)
    # The momentum is kept to 2^-53, and the recursion's 1e6 roundings pile up.
    error = np.abs((1 - found) - (1 - wanted)) - 2 * UNIT["float64"]
    assert np.max((error / (1 - wanted))[20:]) < 1e-11


@pytest.mark.keep(2)
@pytest.mark.parametrize(("how", "dtype"), MODES)
def test_nesterov_rises_and_stays_below_1(how, dtype):
    keras.config.set_floatx(dtype)
    steps = np.unique([*range(10**5), *np.geomspace(10**5, LAST, 10**5).astype(int), LAST])
    found = at(CALLS[how](NesterovMomentum()), steps)
    assert np.all(found >= 0)
    assert np.max(found) < 1.0
    # Rounding may lower a value by one unit, where its neighbours differ by less than that.
    assert np.min(np.diff(found)) >= -2 * UNIT[dtype]
    if dtype == "float64":
        assert np.all(np.diff(found[steps <= 10**8]) > 0)


@pytest.mark.parametrize("delay", [1, 2, 50])
def test_nesterov_delayed_is_the_sequence_of_the_theorem(delay):
    wanted = [0.0] * (delay - 1) + nesterov_1983_momentum(1000)
    found = at(NesterovMomentum(delay), np.arange(len(wanted)))
    assert np.max(np.abs(found - wanted)) < NESTEROV_ERROR["float32"]
    assert not np.any(found[: delay + 1])


TABLE = json.loads((Path(__file__).parents[1] / "reference" / "one_cycle.json").read_text())


def cycles():
    """The OneCycle that each of PyTorch's should be, and its values."""
    for cycle in TABLE["cycles"]:
        torchs = cycle["setting"]
        initial = torchs["max_lr"] / torchs["div_factor"]
        low, high = torchs["base_momentum"], torchs["max_momentum"]
        shape = {
            "total_steps": torchs["total_steps"],
            "peak_fraction": torchs["pct_start"],
            "anneal": {"cos": "cosine", "linear": "linear"}[torchs["anneal_strategy"]],
            "three_phase": torchs["three_phase"],
        }
        name = "-".join(map(str, shape.values()))
        for kind, arguments in [
            ("learning_rate", (initial, torchs["max_lr"], initial / torchs["final_div_factor"])),
            ("momentum", (high, low, high)),
        ]:
            yield pytest.param(OneCycle(*arguments, **shape), cycle[kind], id=f"{kind}-{name}")


@pytest.mark.keep(4)
@pytest.mark.parametrize(("how", "dtype"), MODES)
@pytest.mark.parametrize(("schedule", "wanted"), [*cycles()])
def test_one_cycle_is_pytorchs(schedule, wanted, how, dtype):
    keras.config.set_floatx(dtype)
    found = at(CALLS[how](schedule), np.arange(len(wanted)))
    wanted = np.array(wanted)
    # 20 roundings, as counted in `one_cycle`; PyTorch's own errors are some of float64's.
    unit = of_sine(dtype) if schedule.anneal == "cosine" else dtype
    allowed = 20 * UNIT[unit] * wanted + 8 * UNIT["float64"] * wanted.max()
    assert np.all(np.abs(found - wanted) <= allowed)


def test_one_cycle_keeps_its_last_value():
    steps = [99, 100, 101, 10**6, 10**8, LAST]
    np.testing.assert_array_equal(
        at(OneCycle(0.04, 0.9, 4e-6, 100), steps), np.full(6, np.float32(4e-6), "float64")
    )
