"""Properties over shapes, dtypes, numbers of variables and configurations."""

import keras
import numpy as np
from hypothesis import assume, given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from nagd_keras import NAGD
from tests.support.drivers import Run, to_float64
from tests.support.limits import reason
from tests.support.problems import Table
from tests.support.tolerances import UNIT

STEPS = 20
DTYPES = st.sampled_from([x for x in sorted(UNIT) if x != "float64" or not reason(x)])
SHAPES = st.lists(
    st.lists(st.integers(0, 3), min_size=0, max_size=5).map(tuple), min_size=1, max_size=4
)
TABLES = st.integers(0, 2**32 - 1).map(
    lambda seed: Table(np.random.default_rng(seed).uniform(0, 0.99, STEPS + 2), "float32")
)
RATES = st.floats(0, 1, width=32)
MOMENTA = st.floats(0, 1, exclude_max=True, width=32)
CLIPPINGS = st.one_of(
    st.just({}),
    st.sampled_from(["clipnorm", "clipvalue", "global_clipnorm"]).flatmap(
        lambda name: st.fixed_dictionaries({name: st.floats(0.125, 4)})
    ),
)
AVERAGES = st.one_of(
    st.just({}),
    st.fixed_dictionaries(
        {
            "use_ema": st.just(True),
            "ema_momentum": st.floats(0, 1),
            "ema_overwrite_frequency": st.none() | st.integers(1, 5),
        }
    ),
)
CONFIGURATIONS = st.builds(
    lambda hyperparameters, clipping, averages: {**hyperparameters, **clipping, **averages},
    st.fixed_dictionaries(
        {
            "learning_rate": RATES | TABLES,
            "momentum": MOMENTA | TABLES,
            "weight_decay": st.none() | RATES | TABLES,
            "loss_scale_factor": st.none() | st.sampled_from([0.5, 2.0, 1024.0]),
            "gradient_accumulation_steps": st.none() | st.integers(2, 4),
            "name": st.sampled_from(["nagd", "other"]),
        }
    ),
    CLIPPINGS,
    AVERAGES,
)


def arrays(shapes, seed):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) for shape in shapes]


@settings_of_hypothesis(max_examples=10)
@given(settings=CONFIGURATIONS, shapes=SHAPES, dtype=DTYPES)
def test_the_config_gives_an_optimizer_with_the_same_next_steps(settings, shapes, dtype):
    # Keras' moving average itself fails on TensorFlow where a variable has an empty axis.
    assume(not ("use_ema" in settings and any(0 in shape for shape in shapes)))
    original = NAGD(**settings)
    again = NAGD.from_config(original.get_config())
    assert again.get_config() == original.get_config()
    assert again.name == original.name
    runs = [Run(optimizer, arrays(shapes, 0), dtype) for optimizer in (original, again)]
    for t in range(STEPS):
        for run in runs:
            run.step(arrays(shapes, t + 1))
        for a, b in zip(runs[0].look_ahead, runs[1].look_ahead, strict=True):
            np.testing.assert_array_equal(a, b)


@given(shapes=SHAPES, dtype=DTYPES, momentum=MOMENTA, rate=RATES)
def test_one_update_of_any_shape_is_the_formula(shapes, dtype, momentum, rate):
    run = Run(NAGD(rate, momentum), arrays(shapes, 0), dtype)
    for t in range(3):
        before = run.look_ahead, [to_float64(s) for s in run.optimizer.displacements]
        gradients = [to_float64(keras.ops.cast(g, dtype)) for g in arrays(shapes, t + 1)]
        run.step(gradients)
        slots = [to_float64(s) for s in run.optimizer.displacements]
        for w, s, g, w_next, s_next in zip(*before, gradients, run.look_ahead, slots, strict=True):
            assert w_next.shape == s_next.shape == w.shape
            expected = momentum * (s - rate * g)
            # At most four roundings of numbers no larger than these, two in the slot; 2^-25 is
            # half of the smallest number that float16 has.
            room = 4 * UNIT[dtype] * (np.abs(w) + np.abs(s) + 2 * rate * np.abs(g)) + 2.0**-25
            assert np.all(np.abs(s_next - expected) <= room)
            assert np.all(np.abs(w_next - (w - rate * g + expected)) <= room)


@given(shapes=SHAPES, dtype=DTYPES)
def test_slots_are_like_their_variables_and_start_at_zero(shapes, dtype):
    run = Run(NAGD(), arrays(shapes, 0), dtype)
    for variable, slot in zip(run.variables, run.optimizer.displacements, strict=True):
        assert tuple(slot.shape) == tuple(variable.shape)
        assert keras.backend.standardize_dtype(slot.dtype) == dtype
        assert not np.any(to_float64(slot))
        assert not slot.trainable
