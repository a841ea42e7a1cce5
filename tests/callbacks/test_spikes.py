"""Which losses are out of line: the formula, and what it must not be fooled by."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nagd_keras.callbacks import spikes as rule
from nagd_keras.callbacks.spikes import KNOWN, Spikes

POSITIVE = st.lists(st.floats(1e-6, 1e6), min_size=KNOWN, max_size=60)
ANY = st.lists(st.floats(-1e6, 1e6), min_size=KNOWN, max_size=60)
SETTINGS = {"threshold": st.floats(1.01, 100), "spread": st.floats(0.1, 20)}


def limit(losses, *settings):
    return rule.limit(rule.summary(losses), *settings)


def by_numpy(x, threshold, spread, share):
    """The formula of the docstring."""
    median = np.median(x)
    deviation = 1.4826 * np.median(np.abs(x - median))
    return median, deviation, lambda least: median + share * max(least, spread * deviation)


@given(losses=POSITIVE, **SETTINGS, share=st.sampled_from([0.5, 1.0]))
def test_positive_losses(losses, threshold, spread, share):
    _, _, above = by_numpy(np.log(losses), threshold, spread, share)
    wanted = np.exp(min(above(np.log(threshold)), 700))
    assert limit(losses, threshold, spread, share) == pytest.approx(wanted, rel=1e-9)


@given(losses=ANY, **SETTINGS, share=st.sampled_from([0.5, 1.0]))
def test_any_losses(losses, threshold, spread, share):
    losses = [*losses, -1.0]
    median, deviation, above = by_numpy(np.array(losses), threshold, spread, share)
    wanted = max(np.max(losses), above((threshold - 1) * abs(median)))
    if median == deviation == 0:
        wanted = threshold * np.max(losses) if np.max(losses) > 0 else np.inf
    found = limit(losses, threshold, spread, share)
    assert found == pytest.approx(wanted, rel=1e-9, abs=1e-9)


@given(losses=POSITIVE, exponent=st.integers(-20, 20))
def test_the_scale_of_positive_losses_does_not_matter(losses, exponent):
    factor = 2.0**exponent
    scaled = limit([factor * loss for loss in losses], 3.0, 6.0)
    assert scaled == pytest.approx(factor * limit(losses, 3.0, 6.0), rel=1e-6)


@given(losses=POSITIVE, **SETTINGS)
def test_the_way_to_the_limit(losses, threshold, spread):
    """It begins above the median and grows with the share."""
    half, whole = (limit(losses, threshold, spread, share) for share in (0.5, 1.0))
    assert np.median(losses) < half * (1 + 1e-9)
    assert half <= whole


@given(losses=POSITIVE, bad=st.floats(1e20, 1e300))
def test_a_few_bad_losses_do_not_lift_the_limit_to_them(losses, bad):
    spoiled = [*losses, *[bad] * (len(losses) // 4)]
    assert limit(spoiled, 3.0, 1.0) < bad


def test_the_threshold_holds_where_losses_hardly_differ():
    assert limit([0.25] * KNOWN, 3.0, 6.0) == pytest.approx(0.75)
    assert limit([-0.25] * KNOWN, 3.0, 6.0) == pytest.approx(0.25)


def test_the_spread_holds_where_losses_differ():
    losses = np.exp(np.linspace(-2, 2, 41))  # of which the logarithms deviate by 1 in the median
    assert limit(losses.tolist(), 3.0, 6.0) == pytest.approx(np.exp(6 * 1.4826))


def test_losses_that_are_mostly_zero():
    """As those of hinges: the few that are not must not be taken for spikes."""
    assert limit([0.0] * 20 + [0.3] * 5, 3.0, 6.0) == pytest.approx(0.9)
    assert limit([0.0] * 20, 3.0, 6.0) == math.inf
    assert limit([0.0] * 12 + [0.01] * 13 + [0.3] * 2, 3.0, 1.0) == pytest.approx(0.3)


def known(*losses, threshold=3.0, spread=5.0, window=50):
    spikes = Spikes(threshold, spread, window)
    for loss in losses:
        spikes.add(loss)
    return spikes


@pytest.mark.parametrize(
    ("losses", "wanted", "ordinary"),
    [
        ([], math.inf, math.inf),
        ([0.0], math.inf, math.inf),
        ([-2.0], math.inf, math.inf),
        ([2.0, 0.5], 200.0, 20.0),
        ([2.0] * 9, 20.0, 2.0 * math.sqrt(3)),
        ([-2.0] * 9, 16.0, 0.0),
        ([2.0] * 10, 6.0, 2.0 * math.sqrt(3)),
        ([1.0, 1.3, 1.69], 1.3 * math.exp(10 * 1.4826 * math.log(1.3)), None),
        ([1.0, 4.0, 16.0], 400.0, None),
    ],
    ids=str,
)
def test_of_few_losses_little_is_known(losses, wanted, ordinary):
    spikes = known(*losses)
    assert spikes.limit() == pytest.approx(wanted)
    if ordinary is not None:
        assert spikes.ordinary() == pytest.approx(ordinary)


def test_a_limit_beyond_what_numbers_reach():
    losses = [1e-300] * 5 + [1e300] * 6
    assert 1e300 < limit(losses, 3.0, 6.0) < math.inf


@pytest.mark.parametrize("growth", [1.1, 1.5, 4.0, 50.0])
@pytest.mark.parametrize("flat", [0, 5, 40])
def test_losses_that_grow_step_by_step(growth, flat):
    """They lift their median and their spread with them, and are seen all the same."""
    rng = np.random.default_rng(0)
    spikes, loss = known(*np.exp(0.2 * rng.normal(size=flat))), 1.0
    while loss <= spikes.limit():
        spikes.add(loss)
        loss *= growth
    assert loss < (1e3 if flat else 2e5)


def test_losses_that_grow_are_soon_no_longer_ordinary():
    spikes = known(*[1.0] * 20)
    ordinary = []
    for step in range(30):
        ordinary.append(1.2**step <= spikes.ordinary())
        spikes.add(1.2**step)
    assert sum(ordinary) < 12


def test_back_to_earlier_losses():
    spikes = known(*[1.0] * 10)
    losses = spikes.losses
    for _ in range(30):
        spikes.add(2.5)
    assert spikes.limit() == pytest.approx(7.5)
    spikes.losses = losses
    assert spikes.losses == losses
    assert spikes.limit() == pytest.approx(3.0)
    for _ in range(99):
        spikes.add(1.0)
    assert len(spikes.losses) == 50


def test_losses_that_fall_leave_the_limit_free():
    """No loss of a good training is out of line, though the limit may not rise far."""
    spikes, rng = Spikes(3.0, 5.0, window=50), np.random.default_rng(0)
    for step in range(2000):
        loss = math.exp(-step / 200 + 0.5 * rng.normal())
        assert loss < spikes.limit()
        spikes.add(loss)


def test_spikes_that_come_again():
    """One that is no larger than two before is known, until they are forgotten."""
    spikes, known_to = known(*[1.0] * 10), []
    for spike in (5.0, math.inf, 4.0, 9.0, 6.0, 2.0):
        spikes.note(spike)
        known_to.append(max((x for x in range(3, 10) if spikes.knows(x)), default=None))
    assert known_to == [None, None, 4, 5, 6, 6]
    assert not spikes.knows(math.nan)
    assert spikes.limit() == pytest.approx(3.0)
    spikes.forget()
    assert not spikes.knows(4.0)


def test_only_the_last_losses_count():
    spikes = known(*[2.0] * KNOWN, *[1.0] * KNOWN, window=KNOWN)
    assert spikes.limit() == pytest.approx(3.0)
    assert spikes.ordinary() == pytest.approx(math.sqrt(3.0))


def test_without_a_threshold_everything_is_in_line():
    spikes = known(*[1.0] * KNOWN, threshold=None)
    assert spikes.limit() == spikes.ordinary() == math.inf
