"""Which losses have climbed, or never fell: the formulas, and what they must not be fooled by."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nagd_keras.callbacks.climbs import LEVEL, START, TRIES, Climbs

SEEDS = st.integers(0, 10**6)
FAR, NEAR = 5.0, 0.3  # distances of weights


def first(losses, climbs=None, moved=FAR):
    """The first climb that is seen in a series, and after how many losses; or None."""
    climbs = Climbs(1 / 3) if climbs is None else climbs
    for count, loss in enumerate(losses, 1):
        climbs.add(float(loss))
        seen = climbs.seen(lambda: moved)
        if seen is not None:
            return seen, count
    return None


def noise(seed, size, scale):
    return np.exp(scale * np.random.default_rng(seed).normal(size=size))


def falling(size, half=50):
    return 2.3 * 2.0 ** -np.minimum(np.arange(size) / half, 4)


# The formulas


def deviation(x):
    return 1.4826 * np.median(np.abs(x - np.median(x)))


def by_numpy(losses, share=1 / 3):
    """The first of the three formulas of the docstring, without anything that saves time."""
    x, best = np.log(losses), math.inf
    for t in range(LEVEL, len(x) + 1):
        level, before, now = (
            np.median(y) for y in (x[t - 25 : t], x[max(t - 50, 0) :][:25], x[t - 5 : t])
        )
        if max(level, before) < min(best, x[0] - 0.16) and now <= level:
            best = max(level, before)
        noise = deviation(np.diff(x[max(t - 50, 0) : t])) / np.sqrt(2)
        noise *= np.sqrt(1.5 * np.log(1 + t / 25))
        limit = max(best + max(share * (x[0] - best), noise), x[0] - np.log(1000))
        if best < math.inf and level > limit:
            return t
    return None


@given(seed=SEEDS, scale=st.floats(0, 0.4), turn=st.integers(60, 150), rise=st.floats(0.005, 0.1))
def test_what_was_gained_and_is_lost(seed, scale, turn, rise):
    way = -0.01 * np.arange(turn)
    way = np.concatenate([way, way[-1] + rise * np.arange(150)])
    losses = np.exp(way) * noise(seed, len(way), scale)
    found = first(losses, moved=NEAR)
    assert (found and found[1]) == by_numpy(losses)
    if found:
        assert found[0].level > found[0].limit


@given(seed=SEEDS, exponent=st.integers(-20, 20))
def test_the_scale_of_positive_losses_does_not_matter(seed, exponent):
    losses = np.concatenate([falling(150), np.linspace(0.3, 3, 100)]) * noise(seed, 250, 0.2)
    one, other = first(losses), first(losses * 2.0**exponent)
    assert one is not None
    assert other is not None
    assert one[1] == other[1]
    assert other[0].limit == pytest.approx(one[0].limit * 2.0**exponent)


@pytest.mark.parametrize(("share", "seen"), [(0.2, True), (1 / 3, False), (0.5, False)])
def test_how_much_may_be_lost(share, seen):
    """Of the way from 1 to 1/8, in logarithms, a fourth is given up."""
    losses = [1.0, *[1 / 8] * 60, *[8**-0.75] * 60]
    assert (first(losses, Climbs(share)) is not None) == seen


def test_a_climb_says_where_from_and_where_to():
    (seen, _) = first([2.0, *[0.5] * 40, *[1.5] * 40])
    assert seen.seen == "has climbed from 0.5 to 1.5"
    assert seen.level == pytest.approx(1.5)
    assert seen.limit == pytest.approx(0.5 * 4 ** (1 / 3))


@pytest.mark.parametrize(
    ("level", "moved", "batch"),
    [
        (1.0, 9.0, 6),
        (1.0, 2.5, 21),
        (1.0, 1.1, 46),
        (1.0, 0.9, None),
        (0.9, 1.1, 46),
        (0.8, 1.1, None),
        (0.6, 2.5, 21),
        (0.4, 9.0, None),
    ],
)
def test_weights_that_have_moved_far_for_nothing(level, moved, batch):
    """Less than 15 percent, or than half where few losses are known."""
    found = first([1.0, *[level] * 300], moved=moved)
    assert (found and found[1]) == batch
    if found:
        assert "though the weights have moved far" in found[0].seen
        assert found[0].level > found[0].limit


def test_a_level_within_its_noise():
    """It may be that it has gained."""
    for seed in range(5):
        for scale, batch in ((0.01, 46), (0.5, None)):
            losses = 0.95 * noise(seed, 300, scale)
            losses[0] = 1.0
            found = first(losses, moved=1.1)
            assert (found and found[1]) == batch


@pytest.mark.parametrize(("level", "batch"), [(2.9, 26), (3.1, 6), (100.0, 6)])
def test_losses_far_above_the_beginning(level, batch):
    found = first([1.0, *[level] * 30], moved=1.95)
    assert found[1] == batch
    assert ("far above the 1 of the beginning" in found[0].seen) == (batch == 6)
    assert first([1.0, *[level] * 300], moved=NEAR) is None


# What is no climb


@given(seed=SEEDS, scale=st.floats(0, 0.7), half=st.floats(20, 300))
def test_losses_that_fall(seed, scale, half):
    """With noise of any size, and with weights that move as far as they like once it is gained."""
    losses = falling(1500, half) * noise(seed, 1500, scale)
    assert first(losses, moved=NEAR) is None


@given(seed=SEEDS, scale=st.floats(0, 0.7))
def test_a_plateau_of_weights_that_hardly_move(seed, scale):
    """As of a memorisation task, in which nothing is learned for long."""
    losses = np.concatenate([np.ones(1000), falling(500) / 2.3]) * noise(seed, 1500, scale)
    assert first(losses, moved=NEAR) is None


@given(seed=SEEDS)
def test_losses_near_zero(seed):
    """They differ by factors of ten from one to the other, and that is nothing."""
    rng = np.random.default_rng(seed)
    losses = np.concatenate([np.geomspace(1, 1e-5, 200), 10 ** rng.uniform(-6, -5, 1000)])
    assert first(losses, moved=NEAR) is None


def test_losses_that_are_small_may_vary():
    """Less than a thousandth of the first is no divergence, if it is a hundred times the best."""
    for level, seen in ((0.0009, False), (0.0011, True)):
        found = first([1.0, *np.geomspace(1, 1e-5, 100), *[1e-5] * 50, *[level] * 50], moved=NEAR)
        assert (found is not None) == seen


def test_a_loss_of_zero_does_not_hide_what_never_falls():
    losses = [1.0, 1.0, 0.0, *[1.0] * 100]
    assert first(losses, moved=1.1)[1] == 46
    assert first([2 * loss for loss in losses], moved=2.5)[1] == 21


@given(seed=SEEDS, share=st.floats(0, 0.5))
def test_losses_of_which_more_and_more_are_zero(seed, share):
    """As hinges have them: the median flips between zero and what is left."""
    rng = np.random.default_rng(seed)
    losses = noise(seed, 1000, 0.3)
    losses[rng.random(1000) < np.linspace(0, share, 1000)] = 0.0
    assert first(losses, moved=NEAR) is None


def test_a_first_loss_of_next_to_nothing():
    assert first([1e-321, 0.0, *[1e-321] * 100]) is None


@given(seed=SEEDS)
def test_negative_losses(seed):
    rng = np.random.default_rng(seed)
    losses = np.maximum(1 - np.arange(1000) / 100, -3) + 0.3 * rng.normal(size=1000)
    assert first(losses, moved=NEAR) is None


@given(seed=SEEDS, share=st.floats(0, 0.1))
def test_batches_with_outliers(seed, share):
    rng = np.random.default_rng(seed)
    losses = falling(800) * noise(seed, 800, 0.3)
    losses[1:][rng.random(799) < share] *= 30
    assert first(losses, moved=NEAR) is None


def test_the_peak_of_a_cycle():
    """Losses that rise by a fifth while the learning rate is high, and go on falling."""
    way = np.interp(np.arange(600), [0, 150, 250, 599], [0.8, -0.8, -0.6, -2.5])
    for seed in range(20):
        assert first(np.exp(way) * noise(seed, 600, 0.25), moved=NEAR) is None


def test_it_is_falling_now():
    """The level lags, and weights may move far in what was not known to be a plateau."""
    assert first([1.0] * 33 + [0.5] * 3 + [0.1] * 200, moved=1.4) is None
    assert first([1.0] * 33 + [0.95] * 3 + [0.1] * 200, moved=1.4) is not None


# What is one


@pytest.mark.parametrize("seed", range(5))
def test_a_slow_climb(seed):
    losses = np.concatenate([falling(150), np.linspace(0.35, 2, 200)]) * noise(seed, 350, 0.3)
    assert 175 < first(losses, moved=NEAR)[1] < 290


@pytest.mark.parametrize("seed", range(5))
def test_a_climb_of_negative_losses(seed):
    way = np.interp(np.arange(700), [0, 300, 400, 699], [1, -3, -3, 2])
    found = first(way + 0.3 * np.random.default_rng(seed).normal(size=700), moved=NEAR)
    assert 400 < found[1] < 600
    assert found[0].level > found[0].limit


# Going back


def gone_back(losses):
    climbs = Climbs(1 / 3)
    seen, count = first(losses, climbs)
    climbs.go_back(seen)
    return climbs, seen, count


UP = [2.0, *[0.5] * 40, *[1.5] * 40]


def test_the_best_weights_are_those_before_it_climbed():
    climbs = Climbs(None)
    assert not any(climbs.add(loss) for loss in UP)
    climbs = Climbs(1 / 3)
    best = [place for place, loss in enumerate(UP) if climbs.add(loss)]
    assert best[0] == LEVEL - 1
    climbs = Climbs(1 / 3)
    rising = np.concatenate([np.linspace(2, 1, 100), np.linspace(1, 2, 100)])
    best = [place for place, loss in enumerate(rising) if climbs.add(loss)]
    assert 98 <= best[-1] <= 113


def test_each_failure_lowers_by_more_until_there_is_a_new_best():
    climbs, seen, _ = gone_back(UP)
    powers = [seen.power]
    for _ in range(2):
        seen, _ = first([*[0.5] * 5, *[1.5] * 40], climbs)
        climbs.go_back(seen)
        powers.append(seen.power)
    assert powers == [2, 3, 4]
    seen, _ = first([*[0.4] * 60, *[1.5] * 60], climbs)
    assert seen.power == 2


def test_after_several_failures_it_is_quiet():
    climbs, _, _ = gone_back(UP)
    for _ in range(TRIES - 1):
        seen, _ = first([*[0.5] * 5, *[1.5] * 40], climbs)
        climbs.go_back(seen)
    assert first([*[0.5] * 5, *[9.0] * 400], climbs) is None


def test_data_that_have_changed():
    """Where the best weights do no better, going back was in vain."""
    for losses, is_vain in (([1.5] * 3, True), ([0.5, 1.5, 0.6], False)):
        climbs, seen, _ = gone_back(UP)
        vain = []
        for loss in losses:
            climbs.add(loss)
            vain.append(climbs.in_vain())
        assert vain == [None, None, seen if is_vain else None]
        assert (first([1.5] * 100, climbs) is None) == is_vain


def test_the_beginning_again():
    climbs = Climbs(1 / 3)
    assert first([2.0, *[9.0] * 10], climbs) is not None
    climbs.begin_anew()
    assert climbs.is_young
    assert first([4.0, *[2.5] * 10], climbs, NEAR) is None
    # Both are losses of the same weights.
    assert climbs.start == pytest.approx(3.0)


def test_the_beginning_is_soon_over():
    climbs = Climbs(1 / 3)
    for _ in range(START):
        assert climbs.is_young
        climbs.add(1.0)
    climbs.add(1.0)
    assert not climbs.is_young
    assert not Climbs(None).is_young


def test_without_a_share_nothing_is_seen():
    assert first([1.0, *[0.1] * 50, *[50.0] * 50], Climbs(None)) is None
