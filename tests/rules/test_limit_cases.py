"""With constant momentum NAGD is Keras' SGD(nesterov=True); with momentum 0, gradient descent."""

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import pytest

from nagd_keras import NAGD
from tests.reference.nesterov import textbook
from tests.support.drivers import DRIVERS, Run, snapshot, to_float64
from tests.support.limits import needs
from tests.support.problems import random_quadratic
from tests.support.tolerances import TRAJECTORY, assert_close

# A wrong term shows within a few steps, and counts of three and seven come round often in these.
# That rounding does not add up over more of them is for `test_reference`.
STEPS = 75
# Powers of two: Keras turns its Python floats into float32 on the way into float64 arithmetic.
LEARNING_RATE, MOMENTUM = 0.25, 0.875


@dataclass(frozen=True)
class Case:
    """A setting of Keras' base optimizer."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    excluded: str | None = None  # from weight decay

    def __str__(self) -> str:
        return self.name

    @property
    def clips_by_norm(self) -> bool:
        return not {"clipnorm", "global_clipnorm"}.isdisjoint(self.settings)


PLAIN = Case("plain")
CASES = [
    PLAIN,
    Case("weight_decay", {"weight_decay": 2.0**-5}),
    Case("weight_decay_excluded", {"weight_decay": 2.0**-5}, excluded="x1"),
    Case("clipnorm", {"clipnorm": 0.5}),
    Case("clipvalue", {"clipvalue": 0.25}),
    Case("global_clipnorm", {"global_clipnorm": 0.5}),
    Case("ema", {"use_ema": True, "ema_momentum": 0.75}),
    Case("ema_overwrite", {"use_ema": True, "ema_momentum": 0.75, "ema_overwrite_frequency": 7}),
    Case("accumulation", {"gradient_accumulation_steps": 3}),
    Case("loss_scale", {"loss_scale_factor": 2.0**7}),
    Case(
        "all",
        {
            "weight_decay": 2.0**-5,
            "global_clipnorm": 0.5,
            "use_ema": True,
            "ema_momentum": 0.75,
            "ema_overwrite_frequency": 7,
            "gradient_accumulation_steps": 3,
            "loss_scale_factor": 2.0**7,
        },
        excluded="x1",
    ),
]


def noisy_gradients(rng, problem):
    noise = 0.1 * rng.normal(size=(STEPS, len(problem.b)))
    return lambda t, x: problem.gradient(x) + noise[t]


def start(optimizer, case, x, dtype, driver="eager"):
    if case.excluded:
        optimizer.exclude_from_weight_decay(var_names=[case.excluded])
    return Run(optimizer, [x[:7], x[7:].reshape(1, 5)], dtype, driver)


def flat(run):
    return np.concatenate([np.ravel(x) for x in run.look_ahead])


def halves(g):
    return [g[:7], g[7:].reshape(1, 5)]


def averages(optimizer):
    """The moving averages, which `finalize_variable_values` writes into the variables."""
    optimizer.finalize_variable_values(optimizer._trainable_variables)
    return snapshot(optimizer._trainable_variables)


def trajectory(optimizer, case, x, gradient, dtype, driver="eager", steps=STEPS):
    run = start(optimizer, case, x, dtype, driver)
    scale = case.settings.get("loss_scale_factor", 1.0)  # as `scale_loss` scales the loss
    points = []
    for t in range(steps):
        points.append(flat(run))
        run.step(halves(scale * gradient(t, points[-1])))
    return [*points, flat(run)]


@pytest.mark.keep(1)
@pytest.mark.parametrize(
    ("case", "dtype"),
    # In float32 the first and the last, which has all that can be set together.
    [pytest.param(case, "float64", marks=needs("float64")) for case in CASES]
    + [(CASES[i], "float32") for i in (0, -1)],
    ids=str,
)
def test_constant_momentum_is_keras_sgd(rng, case, dtype):
    if dtype == "float64":
        keras.config.set_floatx("float64")
    tolerance = TRAJECTORY[dtype]
    if keras.backend.backend() != "tensorflow" and case.clips_by_norm:
        # There Keras' SGD divides by the larger of norm and limit, which `keras.ops.maximum` makes
        # a float32 of two float64; `test_clipping_in_float64` holds ours to the formula.
        tolerance = TRAJECTORY["float32"]
    problem, x = random_quadratic(rng, 12), rng.normal(size=12)
    gradient = noisy_gradients(rng, problem)
    sgd = keras.optimizers.SGD(LEARNING_RATE, momentum=MOMENTUM, nesterov=True, **case.settings)
    expected = trajectory(sgd, case, x, gradient, dtype)
    for driver in DRIVERS:
        nagd = NAGD(LEARNING_RATE, MOMENTUM, **case.settings)
        found = trajectory(nagd, case, x, gradient, dtype, driver)
        for t, (a, b) in enumerate(zip(found, expected, strict=True)):
            assert_close(a, b, tolerance, f"{driver}, point {t}")
        # The slot is SGD's velocity times the momentum; both were made of gradients at points
        # that differ in rounding, so the iterates that they give are what agrees.
        slots = np.concatenate([np.ravel(to_float64(s)) for s in nagd.displacements])
        velocities = np.concatenate([np.ravel(to_float64(v)) for v in sgd.momentums])
        iterate = expected[-1] - MOMENTUM * velocities
        assert_close(found[-1] - slots, iterate, tolerance, f"{driver}, iterate")
        if case.settings.get("use_ema"):
            for average, wanted in zip(averages(nagd), averages(sgd), strict=True):
                assert_close(average, wanted, tolerance, f"{driver}, average")
        updates = STEPS // case.settings.get("gradient_accumulation_steps", 1)
        assert int(nagd.age) == updates
        assert int(nagd.iterations) == updates


@pytest.mark.parametrize("limit", ["clipnorm", "global_clipnorm"])
@pytest.mark.parametrize("driver", DRIVERS)
def test_clipping_in_float64(rng, float64, limit, driver):
    """All digits of the norm count, which is larger than the limit in the first step only."""
    gradients = [rng.normal(size=12), 1e-3 * rng.normal(size=12)]
    run = Run(NAGD(1.0, 0.0, **{limit: 0.5}), [np.zeros(12)], "float64", driver)
    wanted = -gradients[0] * 0.5 / np.linalg.norm(gradients[0])
    for gradient, last in zip(gradients, (0.0, -gradients[1]), strict=True):
        run.step([gradient])
        assert_close(run.look_ahead[0], wanted + last, TRAJECTORY["float64"])


# Scaling by a power of two and back changes nothing, as it should.
WITHOUT_EFFECT = ("plain", "loss_scale")


@pytest.mark.keep(4)
@pytest.mark.parametrize("case", [c for c in CASES if c.name not in WITHOUT_EFFECT], ids=str)
def test_each_setting_does_something(rng, float64, case):
    """Else the comparison above would hold for a setting that is never switched on."""
    problem, x = random_quadratic(rng, 12), rng.normal(size=12)
    gradient = noisy_gradients(rng, problem)
    nagd = NAGD(LEARNING_RATE, MOMENTUM, **case.settings)
    steps = 20  # Eager ones are slow.
    found = trajectory(nagd, case, x, gradient, "float64", steps=steps)
    plain = trajectory(NAGD(LEARNING_RATE, MOMENTUM), PLAIN, x, gradient, "float64", steps=steps)
    if case.settings.get("use_ema") and "ema_overwrite_frequency" not in case.settings:
        found.append(np.concatenate([np.ravel(average) for average in averages(nagd)]))
    assert not np.allclose(found[-1], plain[-1], rtol=1e-6)


def test_defaults_are_those_of_keras_sgd(rng):
    problem, x = random_quadratic(rng, 12), rng.normal(size=12)
    gradient = noisy_gradients(rng, problem)
    sgd = keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True)
    expected = trajectory(sgd, PLAIN, x, gradient, "float32")
    found = trajectory(NAGD(), PLAIN, x, gradient, "float32")
    assert_close(found[-1], expected[-1], TRAJECTORY["float32"])


def test_momentum_zero_is_gradient_descent_and_can_be_raised(rng, float64):
    problem, x = random_quadratic(rng, 12), rng.normal(size=12)
    gradient = noisy_gradients(rng, problem)
    descent = trajectory(keras.optimizers.SGD(LEARNING_RATE), PLAIN, x, gradient, "float64")
    found = trajectory(NAGD(LEARNING_RATE, 0), PLAIN, x, gradient, "float64")
    for a, b in zip(found, descent, strict=True):
        assert_close(a, b, TRAJECTORY["float64"])

    raised_at = 25
    mu = [0.0] * (raised_at + 1) + [MOMENTUM] * (STEPS - raised_at)
    expected = textbook(problem.gradient, x, mu, [LEARNING_RATE] * STEPS)
    for driver in DRIVERS:
        nagd = NAGD(LEARNING_RATE, 0.0)
        run = start(nagd, PLAIN, x, "float64", driver)
        for t, point in enumerate(expected[:-1]):
            assert_close(flat(run), point.look_ahead, TRAJECTORY["float64"], f"point {t}")
            if t == raised_at:
                nagd.momentum = MOMENTUM
            run.step(halves(problem.gradient(flat(run))))
