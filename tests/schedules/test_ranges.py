"""The range that schedules keep to, how they are drawn, and what they refuse."""

import sys

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nagd_keras import NAGD
from nagd_keras.schedules import (
    LinearWarmup,
    NesterovMomentum,
    OneCycle,
    Piecewise,
    Schedule,
    StronglyConvexMomentum,
    SutskeverMomentum,
)
from tests.support.schedule_cases import (
    LARGE_CYCLE,
    LAST,
    NESTED,
    WARMUP,
    at,
)
from tests.support.tolerances import UNIT

# Ranges


@pytest.mark.parametrize(
    "schedule", [OneCycle(1.5, 0.9, 0.9, 100), LinearWarmup(1.0, 1), Piecewise([1], [0.9, 1.0])]
)
def test_a_momentum_that_begins_out_of_its_range_is_refused(schedule):
    with pytest.raises(ValueError, match="`momentum` must be a finite number in") as raised:
        NAGD(momentum=schedule)
    assert f"from {schedule!r} at step 1" in str(raised.value)
    assert NAGD(learning_rate=schedule).get_config()["learning_rate"]["registered_name"]


UNIT_INTERVAL = st.floats(0, 1, width=32)


@st.composite
def random_cycles(draw):
    values = [draw(UNIT_INTERVAL) for _ in range(3)]
    three_phase = draw(st.booleans())
    fraction = draw(st.floats(0.1, 0.45 if three_phase else 0.9))
    total_steps = draw(st.integers(21, 400))
    return OneCycle(
        *values, total_steps, fraction, draw(st.sampled_from(["cosine", "linear"])), three_phase
    )


@st.composite
def random_pieces(draw, parts):
    boundaries = sorted(draw(st.sets(st.integers(1, 500), max_size=3)))
    return Piecewise(boundaries, [draw(parts) for _ in range(len(boundaries) + 1)])


PARTS = st.one_of(
    UNIT_INTERVAL,
    random_cycles(),
    st.builds(SutskeverMomentum, st.floats(0, 0.99), st.integers(1, 300)),
    st.builds(NesterovMomentum, st.integers(0, 300)),
    st.builds(StronglyConvexMomentum, st.floats(1, 1e6)),
)
SCHEDULES = st.recursive(
    PARTS,
    lambda parts: st.one_of(
        st.builds(LinearWarmup, parts, st.integers(1, 300), UNIT_INTERVAL), random_pieces(parts)
    ),
    max_leaves=5,
).filter(callable)


@given(SCHEDULES)
def test_a_schedule_keeps_to_the_range_of_its_parts(schedule):
    found = at(schedule, [*range(2000), LAST])
    assert np.all(found >= 0)
    assert np.all(found <= 1 + 20 * UNIT["float32"])  # A line rounds.


# Figures


@pytest.fixture
def plt():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


@pytest.mark.keep(3)
@pytest.mark.parametrize(("steps", "points"), [(1, 2), (60, 61), (2000, 2001), (10**8, 2001)])
@pytest.mark.parametrize(
    "schedule", [LARGE_CYCLE.schedule, WARMUP.schedule], ids=lambda s: type(s).__name__
)
def test_plot(plt, schedule, steps, points):
    axes = schedule.plot(steps)
    (line,) = axes.get_lines()
    x, y = (np.asarray(each) for each in line.get_data())
    assert len(x) == points
    assert x[0] == 0
    assert x[-1] == steps
    assert np.all(np.diff(x) > 0)
    wanted = [float(schedule(int(step))) for step in x[::17]]
    # Vector instructions may round differently.
    np.testing.assert_allclose(y[::17], wanted, rtol=40 * UNIT["float32"])
    assert axes.get_xlabel() == "step"
    assert axes.get_ylabel() == "value"
    assert shown(axes) == [type(schedule).__name__]


def shown(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_plot_into_given_axes(plt):
    figure, axes = plt.subplots()
    for schedule in (NESTED, WARMUP.schedule):
        assert schedule.plot(10, ax=axes) is axes
    assert len(axes.get_lines()) == 2
    assert shown(axes) == [type(NESTED).__name__, "LinearWarmup"]
    assert plt.get_fignums() == [figure.number]


def test_plot_of_two_momenta(plt):
    axes = SutskeverMomentum(0.9).plot(10, label="up to 0.9")
    SutskeverMomentum(0.99).plot(10, ax=axes)
    assert shown(axes) == ["up to 0.9", "SutskeverMomentum"]
    for momentum in (SutskeverMomentum(), NesterovMomentum(), StronglyConvexMomentum(10.0)):
        assert momentum.plot(10).get_ylabel() == "momentum"


def test_plot_without_matplotlib_names_the_extra(monkeypatch):
    for name in ("matplotlib", "matplotlib.pyplot"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"needs matplotlib.*nagd-keras\[plot\]"):
        NESTED.plot(10)


# Bad input

NAN, INF = float("nan"), float("inf")
CYCLE = {"initial": 0.1, "peak": 1.0, "final": 0.01, "total_steps": 100}
BAD_VALUES = [(NAN, ValueError), (-0.1, ValueError), (INF, ValueError), (1e39, ValueError)] + [
    (value, TypeError) for value in (True, "0.1", None, [0.1], 0.1j)
]
BAD_COUNTS = [(-1, ValueError), (2**31, ValueError)] + [
    (value, TypeError) for value in (True, 10.0, NAN, "10", None, [10])
]
BAD = [
    *((OneCycle, {**CYCLE, name: v}, e) for name in list(CYCLE)[:3] for v, e in BAD_VALUES),
    *((OneCycle, {**CYCLE, "peak_fraction": v}, e) for v, e in [*BAD_VALUES, (1.0, ValueError)]),
    *((OneCycle, {**CYCLE, "total_steps": v}, e) for v, e in [*BAD_COUNTS, (0, ValueError)]),
    *((OneCycle, {**CYCLE, "anneal": v}, ValueError) for v in ("exp", "cos", "", None, 1, ["x"])),
    *((LinearWarmup, {"steps": 5, "then": v}, e) for v, e in BAD_VALUES),
    *((LinearWarmup, {"then": 0.1, "steps": 5, "start": v}, e) for v, e in BAD_VALUES),
    *((LinearWarmup, {"then": 0.1, "steps": v}, e) for v, e in [*BAD_COUNTS, (0, ValueError)]),
    (LinearWarmup, {"steps": 5, "then": len}, TypeError),
    *((NesterovMomentum, {"delay": v}, e) for v, e in BAD_COUNTS),
    *((SutskeverMomentum, {"max_momentum": v}, e) for v, e in [*BAD_VALUES, (1.0, ValueError)]),
    *((SutskeverMomentum, {"period": v}, e) for v, e in [*BAD_COUNTS, (0, ValueError)]),
    *(
        (StronglyConvexMomentum, {"condition_number": v}, e)
        for v, e in [*BAD_VALUES, (0.5, ValueError), (1e40, ValueError), (1e17, ValueError)]
    ),
]
BAD_SHAPES = [
    # Too short for their phases, or with a peak in the wrong place.
    (OneCycle, {**CYCLE, "peak_fraction": 0.0}, "peak_fraction=0.0"),
    (OneCycle, {**CYCLE, "peak_fraction": 0.01}, "peak_fraction=0.01"),
    (OneCycle, {**CYCLE, "total_steps": 1}, "total_steps=1"),
    (OneCycle, {**CYCLE, "total_steps": 3}, "total_steps=3"),
    (OneCycle, {**CYCLE, "peak_fraction": 0.505, "three_phase": True}, "one half or less"),
    (OneCycle, {**CYCLE, "peak_fraction": 0.6, "three_phase": True}, "one half or less"),
    (Piecewise, {"boundaries": [5, 5], "schedules": [0.1, 0.2, 0.3]}, "boundaries=[5, 5]"),
    (Piecewise, {"boundaries": [9, 5], "schedules": [0.1, 0.2, 0.3]}, "boundaries=[9, 5]"),
    (Piecewise, {"boundaries": [5], "schedules": [0.1]}, "boundaries=[5] for 1 schedules"),
    (Piecewise, {"boundaries": [], "schedules": []}, "boundaries=[] for 0 schedules"),
    (Piecewise, {"boundaries": [0], "schedules": [0.1, 0.2]}, "boundaries[0]=0"),
    (Piecewise, {"boundaries": [3, 2**31], "schedules": [0.1] * 3}, "boundaries[1]=2147483648"),
    (Piecewise, {"boundaries": [5], "schedules": [0.1, NAN]}, "schedules[1]=nan"),
    (Piecewise, {"boundaries": [5], "schedules": [0.1, -1.0]}, "schedules[1]=-1.0"),
]
BAD_TYPES = [
    (Piecewise, {"boundaries": [5.0], "schedules": [0.1, 0.2]}, "boundaries[0]=5.0"),
    (Piecewise, {"boundaries": [True], "schedules": [0.1, 0.2]}, "boundaries[0]=True"),
    (Piecewise, {"boundaries": [5], "schedules": [0.1, "0.2"]}, "schedules[1]='0.2'"),
    (Piecewise, {"boundaries": 5, "schedules": [0.1, 0.2]}, "boundaries=5"),
    (Piecewise, {"boundaries": [5], "schedules": 0.1}, "schedules=0.1"),
    (OneCycle, {**CYCLE, "three_phase": "no"}, "three_phase='no'"),
]


def bad(cls, settings, error, says):
    text = ", ".join(f"{name}={value!r:.9}" for name, value in settings.items())
    return pytest.param(cls, settings, error, says, id=f"{cls.__name__}({text})")


def last_argument(settings):
    """What the message must repeat: the name and the value of the bad argument."""
    changed = {k: v for k, v in settings.items() if k not in CYCLE or v is not CYCLE[k]}
    name, value = list(changed.items())[-1]
    return f"{name}={value!r}"


@pytest.mark.parametrize(
    ("cls", "settings", "error", "says"),
    [
        *(bad(*entry, last_argument(entry[1])) for entry in BAD),
        *(bad(cls, settings, ValueError, says) for cls, settings, says in BAD_SHAPES),
        *(bad(cls, settings, TypeError, says) for cls, settings, says in BAD_TYPES),
    ],
)
def test_bad_arguments_are_refused(cls, settings, error, says):
    with pytest.raises(error) as raised:
        cls(**settings)
    assert "eceived" in str(raised.value)
    assert says in str(raised.value)


@pytest.mark.parametrize(("steps", "error"), [(0, ValueError), (-5, ValueError), (1.5, TypeError)])
def test_bad_plot(plt, steps, error):
    with pytest.raises(error, match=f"`steps` must be an integer.*Received: steps={steps}"):
        NESTED.plot(steps)
    assert plt.get_fignums() == []


def test_a_schedule_of_ones_own_needs_a_value():
    class Empty(Schedule):
        pass

    with pytest.raises(NotImplementedError, match="Empty must define `value`"):
        Empty()(0)


def test_a_schedule_of_ones_own_that_keeps_its_arguments_needs_no_config():
    class Halving(Schedule):
        def __init__(self, then, period=2):
            self.then, self.period = then, period

        def value(self, step):
            return self.then(step) / self.period

    schedule = Halving(OneCycle(0.1, 0.5, 0.1, 10), period=3)
    again = Halving.from_config(schedule.get_config())
    assert repr(again) == repr(schedule)
    assert float(again(4)) == float(schedule(4))


def test_a_schedule_of_ones_own_may_keep_its_arguments_as_it_likes():
    class Constant(Schedule):
        def __init__(self, rate):
            self._rate = rate

        def value(self, step):
            return keras.ops.full_like(keras.ops.cast(step, "float32"), self._rate)

        def get_config(self):
            return {"rate": self._rate}

    assert float(NAGD(Constant(0.5)).learning_rate) == 0.5


def test_a_schedule_that_takes_one_step_only_can_be_plotted(plt):
    """As Keras' cosine with a warm-up of its own."""
    keras_own = keras.optimizers.schedules.CosineDecay(0.0, 20, warmup_target=0.5, warmup_steps=10)
    (line,) = LinearWarmup(keras_own, 5).plot(40).get_lines()
    assert line.get_ydata()[15] == pytest.approx(0.5)


def test_schedules_are_tried_where_they_are_read_first():
    class NaNAtZero(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return float("nan") if step == 0 else 0.5

    for name in ("learning_rate", "weight_decay"):
        with pytest.raises(ValueError, match=f"`{name}` must be .* at step 0"):
            NAGD(**{name: NaNAtZero()})
    NAGD(momentum=NaNAtZero())
