"""Where a direction is a method that others have, it makes their steps."""

import keras
import numpy as np
import pytest

from nagd_keras import NAGD, directions
from tests.support.drivers import Run, to_float64
from tests.support.tolerances import TRAJECTORY, assert_close


def test_without_momentum_adaptive_is_adopt(rng):
    """Taniguchi et al. (2024), algorithm 2, with beta_1 = 0, and (t + 1)^(1/4) as its bound."""
    rate, beta_2, epsilon = 0.01, 0.99, 1e-6
    start = rng.normal(size=6)
    run = Run(NAGD(rate, 0.0, direction=directions.Adaptive(beta_2, epsilon)), [start], "float32")
    theta, rate = run.look_ahead[0], float(np.float32(rate))
    gradients = [np.float32(rng.normal(size=6)).astype("float64") for _ in range(50)]
    run.step([gradients[0]])
    v = gradients[0] ** 2  # v_0, for which the first gradient is used up
    for t, g in enumerate(gradients[1:], 1):
        theta = theta - rate * np.clip(
            g / np.maximum(np.sqrt(v), epsilon), -((t + 1) ** 0.25), (t + 1) ** 0.25
        )
        v = beta_2 * v + (1 - beta_2) * g**2
        run.step([g])
        assert_close(run.look_ahead[0], theta, TRAJECTORY["float32"], f"update {t}")


@pytest.mark.skipif(
    tuple(map(int, keras.__version__.split(".")[:2])) < (3, 15), reason="an earlier Muon of Keras"
)
def test_without_momentum_orthogonal_is_keras_muon(rng):
    """With Muon's coefficients, and outputs as they come."""
    start = rng.normal(size=(5, 8))
    direction = directions.Orthogonal(0.95, normalize=False, iteration="muon")
    runs = [
        Run(NAGD(0.01, 0.0, direction=direction), [start], "float32"),
        Run(keras.optimizers.Muon(0.01, momentum=0.95, weight_decay=0.0), [start], "float32"),
    ]
    for t in range(30):
        g = rng.normal(size=(5, 8))
        for run in runs:
            run.step([g])
        # Both are float32, and Keras' adds 1e-7 to the norm.
        assert_close(*(run.look_ahead[0] for run in runs), 4 * TRAJECTORY["float32"], f"step {t}")
    assert np.abs(runs[0].look_ahead[0] - start).max() > 0.01


class Same(directions.Direction):
    """The gradient, given as a direction of one's own."""

    def direct(self, gradient, slots, t):
        return gradient, {}


@pytest.mark.parametrize("settings", [{}, {"clipnorm": 0.5}, {"restart": "gradient"}], ids=str)
def test_the_gradient_as_a_direction_is_the_gradient(settings, rng):
    starts = [rng.normal(size=(4, 3)), rng.normal(size=5)]
    runs = [
        Run(NAGD(0.05, 0.9, direction=direction, **settings), starts, "float32")
        for direction in (Same(), "gradient")
    ]
    for t in range(30):
        for run in runs:
            run.step(run.look_ahead)
        for a, b, start in zip(*(run.look_ahead for run in runs), starts, strict=True):
            room = TRAJECTORY["float32"] * np.abs(start).max()  # The bowl ends at zero.
            assert np.abs(a - b).max() <= room, f"update {t}"


@pytest.mark.keep(2)
@pytest.mark.parametrize("direction", ["adaptive", "orthogonal"])
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_scale_of_the_loss_does_not_matter(direction, scale, rng):
    starts = [rng.normal(size=(6, 4)), rng.normal(size=5)]
    runs = [Run(NAGD(0.01, direction=direction), starts, "float32") for _ in range(2)]
    for t in range(50):
        noise = [rng.normal(size=start.shape) for start in starts]
        gradients = [1e-3 * (w + n) for w, n in zip(runs[0].look_ahead, noise, strict=True)]
        runs[0].step(gradients)
        runs[1].step([scale * g for g in gradients])
        for a, b in zip(*(run.look_ahead for run in runs), strict=True):
            assert_close(a, b, 4 * TRAJECTORY["float32"], f"update {t}")


@pytest.mark.parametrize("condition", [1, 10, 100])
def test_a_step_of_16_bits_is_orthogonal(condition, rng):
    """It is computed in 32 bits from what 16 bits hold of the gradient."""
    u, _ = np.linalg.qr(rng.normal(size=(24, 24)))
    v, _ = np.linalg.qr(rng.normal(size=(16, 16)))
    g = (u[:, :16] * np.geomspace(1, 1 / condition, 16)) @ v
    direction = directions.Orthogonal(normalize=False)
    optimizer = NAGD(0.01, 0.5, direction=direction, slot_dtype="float32")
    run = Run(optimizer, [np.zeros((24, 16))], "bfloat16")
    run.step([g])
    values = np.linalg.svd(to_float64(optimizer.displacements[0]), compute_uv=False)
    # s = -m e d, with e = .01 (1 - m), and d = .2 sqrt(24) times the orthogonal factor
    values /= 0.5 * 0.01 * 0.5 * 0.2 * 24**0.5
    assert np.all((values > 0.9) & (values < 1.1))


def test_a_variable_that_joins_late_begins_as_all_did(rng):
    """Its first steps are no longer than those of the others were: nothing counts for it yet."""
    optimizer = NAGD(0.01, 0.0, direction="adaptive")
    variables = [keras.Variable(np.zeros(2000), name=name) for name in ("early", "late")]
    optimizer.build(variables)
    late = variables[1]
    moved = []
    for t in range(400):
        before = to_float64(late)
        gradients = [rng.normal(size=2000), rng.normal(size=2000) if t >= 200 else np.zeros(2000)]
        optimizer.apply([keras.ops.cast(g, "float32") for g in gradients], variables)
        moved.append(np.sqrt(np.mean((to_float64(late) - before) ** 2)) / 0.01)
    assert not any(moved[:201])
    assert max(moved[201:]) < 3
    assert moved[-1] == pytest.approx(1, abs=0.1)


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="has no stateless updates")
@pytest.mark.parametrize("direction", ["gradient", "adaptive", "orthogonal"])
def test_a_stateless_update_leaves_the_variables_as_they_are(direction, rng):
    start, gradient = np.float32(rng.normal(size=(4, 3))), np.float32(rng.normal(size=(4, 3)))
    runs = [Run(NAGD(direction=direction), [start], "float32") for _ in range(2)]
    optimizer, (variable,) = runs[0].optimizer, runs[0].variables
    values, state = [variable.value], [v.value for v in optimizer.variables]
    for _ in range(2):
        given = [keras.ops.convert_to_tensor(gradient)]
        values, state = optimizer.stateless_apply(state, given, values)
        runs[1].step([gradient])
    np.testing.assert_array_equal(to_float64(variable), start)
    assert_close(to_float64(values[0]), runs[1].look_ahead[0], TRAJECTORY["float32"])
    assert np.abs(runs[1].look_ahead[0] - start).max() > 0
