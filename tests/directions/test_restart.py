"""What a restart is worth where the step is not the gradient's: the slope decides all the same."""

import keras
import numpy as np
import pytest

from nagd_keras import NAGD, schedules
from tests.support.drivers import LONG_RUNS, Run, to_float64

UPDATES, RATE, SHAPE = 1500, 0.03, (20, 10)


def gap(direction, scheme):
    """How far above its minimum a quadratic ends, whose curvatures are from 1 down to 1/10,000."""
    rng = np.random.default_rng(0)
    curvatures = rng.permutation(np.geomspace(1e-4, 1, np.prod(SHAPE))).reshape(SHAPE)
    rate = keras.optimizers.schedules.CosineDecay(RATE, UPDATES)
    optimizer = NAGD(rate, schedules.NesterovMomentum(), direction=direction, restart=scheme)
    run = Run(optimizer, [rng.normal(size=SHAPE)], "float32", LONG_RUNS)
    for _ in range(UPDATES):
        run.step([curvatures * run.look_ahead[0]])
    iterate = run.look_ahead[0] - to_float64(optimizer.displacements[0])
    return 0.5 * np.sum(curvatures * iterate**2), int(optimizer.restarts)


@pytest.mark.keep(1)
@pytest.mark.parametrize("direction", ["adaptive", "orthogonal"])
@pytest.mark.parametrize("scheme", ["gradient", "speed"])
def test_a_restart_makes_up_for_a_momentum_that_is_too_high(direction, scheme):
    without, none = gap(direction, None)
    restarted, times = gap(direction, scheme)
    assert none == 0
    assert times > 0
    assert restarted < without / 100


@pytest.mark.parametrize("direction", ["adaptive", "orthogonal"])
def test_it_restarts_where_the_displacement_leads_uphill(direction, rng):
    """By the inner product with the gradient, not with what the direction makes of it."""
    optimizer = NAGD(0.3, 0.95, direction=direction, restart="gradient")
    run = Run(optimizer, [rng.normal(size=(6, 4)), rng.normal(size=3)], "float32")
    plain = Run(NAGD(0.3, 0.95, direction=direction), run.look_ahead, "float32")
    decided = []
    for _ in range(60):
        # The same step without a restart says what the displacement would have been.
        for kind in ("displacement", *optimizer._state.slots.kinds()):
            pairs = zip(
                plain.optimizer._state.slots[kind], optimizer._state.slots[kind], strict=True
            )
            for to, source in pairs:
                if to is not None:
                    to.assign(source)
        for to, source in zip(plain.variables, run.variables, strict=True):
            to.assign(source)
        gradients = [np.float32(w + 0.3 * rng.normal(size=w.shape)) for w in run.look_ahead]
        before = int(optimizer.restarts)
        run.step(gradients)
        plain.step(gradients)
        ahead = [to_float64(s) for s in plain.optimizer.displacements]
        slope = sum(np.sum(g * s) for g, s in zip(gradients, ahead, strict=True))
        decided.append(int(optimizer.restarts) > before)
        assert decided[-1] == (slope > 0)
    assert 0 < sum(decided) < 60
