"""Complex variables: with every setting they train as their real and imaginary parts do."""

import keras
import numpy as np
import pytest

from nagd_keras import NAGD
from tests.family import BRIEF, STEPS
from tests.support.drivers import DRIVERS, to_float64
from tests.support.tolerances import TRAJECTORY

try:
    keras.Variable(np.ones(1, "complex64"), dtype="complex64")
except ValueError:
    pytest.skip("this version of Keras has no complex variables", allow_module_level=True)

MEMBERS = [m for m in BRIEF if not {"clipvalue", "direction"} & {*m.settings}]


def as_reals(z):
    z = np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(z, "complex64")))
    return np.stack([z.real, z.imag], axis=-1)


def as_complex(x):
    return x[..., 0] + 1j * x[..., 1]


class Trained:
    """An optimizer on variables whose values go in and come out as real numbers."""

    def __init__(self, member, start, driver, dtype):
        self.dtype, self.is_complex = dtype, dtype == "complex64"
        values = [as_complex(x) if self.is_complex else x for x in start]
        self.variables = [
            keras.Variable(keras.ops.convert_to_tensor(x, dtype), dtype=dtype, name=f"x{i}")
            for i, x in enumerate(values)
        ]
        self.start(NAGD(**{"learning_rate": 0.1, "momentum": 0.9, **member.settings}), driver)

    def start(self, optimizer, driver):
        self.optimizer = optimizer
        optimizer.build(self.variables)
        self._apply = DRIVERS[driver](optimizer, self.variables)

    def step(self, gradients):
        gradients = [as_complex(g) if self.is_complex else g for g in gradients]
        self._apply([keras.ops.convert_to_tensor(g, self.dtype) for g in gradients])

    @property
    def values(self):
        return [as_reals(v) if self.is_complex else to_float64(v) for v in self.variables]


@pytest.mark.keep(4)
@pytest.mark.parametrize("member", MEMBERS, ids=str)
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_complex_variable_is_two_real_ones(member, driver, rng):
    start = [rng.normal(size=(*shape, 2)) for shape in ((3, 2), (4,), ())]
    runs = [Trained(member, start, driver, dtype) for dtype in ("complex64", "float32")]
    room = TRAJECTORY["float32"] * max(np.max(np.abs(x)) for x in start)
    for run in runs:
        run.optimizer.tracks_gradient_norm = True
    for step in range(STEPS):
        if step == STEPS // 2:
            store = {}
            runs[0].optimizer.save_own_variables(store)
            runs[0].start(NAGD.from_config(runs[0].optimizer.get_config()), driver)
            runs[0].optimizer.load_own_variables(store)
            runs[0].optimizer.tracks_gradient_norm = True
        gradients = [(0.5 + i) * w - 0.2 for i, w in enumerate(runs[1].values)]
        gradients = [g * member.settings.get("loss_scale_factor", 1.0) for g in gradients]
        if step in member.spoiled:
            gradients[0][0, 0, 1] = np.nan  # an imaginary part
        for run in runs:
            run.step(gradients)
        for found, wanted in zip(*(run.values for run in runs), strict=True):
            assert np.max(np.abs(found - wanted)) <= room, f"step {step}"
        norms = [float(run.optimizer.gradient_norm) for run in runs]
        np.testing.assert_allclose(*norms, rtol=1e-5)
    for counter in ("age", "restarts", "skipped_updates"):
        assert len({int(getattr(run.optimizer, counter)) for run in runs}) == 1
    for counter in member.decides:
        assert int(getattr(runs[0].optimizer, counter)) > 0
    for run in runs:
        run.optimizer.swap_to_iterate()
    for found, wanted in zip(*(run.values for run in runs), strict=True):
        assert np.max(np.abs(found - wanted)) <= room


@pytest.mark.parametrize("settings", [{"clipvalue": 0.5}, {"slot_dtype": "float32"}], ids=str)
def test_what_complex_numbers_cannot_do(settings):
    real = keras.Variable(np.ones(1, "float32"), name="real")
    z = keras.Variable(np.ones(1, "complex64"), dtype="complex64", name="wave")
    (name,) = settings
    with pytest.raises(ValueError, match=f"`{name}` is for real variables.*variable wave"):
        NAGD(**settings).build([real, z])
