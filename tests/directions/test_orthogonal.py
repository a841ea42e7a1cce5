"""What the orthogonal direction makes of matrices, whatever they are like."""

import keras
import numpy as np
import pytest

from nagd_keras import NAGD, directions
from nagd_keras.rules.layouts import layouts
from nagd_keras.rules.newton_schulz import MUON, orthogonalized
from tests.reference import directions as reference
from tests.support.drivers import to_float64


def matrix(rng, rows, columns, condition):
    """One with singular values from 1 down to 1 / condition."""
    u, _ = np.linalg.qr(rng.normal(size=(rows, rows)))
    v, _ = np.linalg.qr(rng.normal(size=(columns, columns)))
    values = np.geomspace(1, 1 / condition, min(rows, columns))
    return (u[:, : len(values)] * values) @ v[: len(values)]


def direct(direction, path, g, steps=3):
    """The last direction of some steps with one gradient, computed in float32."""
    (way,) = direction.for_variables([path], [g.shape])
    slots = {n: keras.ops.zeros(way.slot_shape(n, g.shape)) for n in way.slots}
    for t in range(1, steps + 1):
        found, slots = way.direct(
            keras.ops.cast(g, "float32"), slots, keras.ops.convert_to_tensor(float(t))
        )
    return to_float64(found)


@pytest.mark.parametrize("shape", [(8, 8), (16, 5), (5, 16), (128, 128), (60, 500)])
@pytest.mark.parametrize("condition", [1, 10, 100])
def test_singular_values_become_one(shape, condition, rng):
    found = orthogonalized(keras.ops.convert_to_tensor(matrix(rng, *shape, condition), "float32"))
    values = np.linalg.svd(to_float64(found), compute_uv=False)
    assert np.all((values > 0.9) & (values < 1.1))


@pytest.mark.parametrize("lost", [0, 13, 16], ids=["32 bits", "TensorFloat-32", "bfloat16"])
def test_products_of_fewer_bits_do_no_harm(lost, rng, monkeypatch):
    """As accelerators make them: of factors that are rounded. A rank of 1 is the hardest."""
    exact = keras.ops.matmul

    def rounded(x):
        bits = np.asarray(to_float64(x), np.float32).view(np.uint32)
        half = np.uint32(1 << lost >> 1)
        return keras.ops.convert_to_tensor((((bits + half) >> lost) << lost).view(np.float32))

    monkeypatch.setattr(keras.ops, "matmul", lambda a, b: exact(rounded(a), rounded(b)))
    one = np.outer(rng.integers(0, 2, 64) + 1.0, np.sign(rng.normal(size=128)))
    for g in (one, rng.normal(size=(64, 64)), matrix(rng, 48, 96, 100)):
        found = orthogonalized(keras.ops.convert_to_tensor(g, "float32"))
        assert np.linalg.norm(to_float64(found), 2) < 1.1


def test_an_output_that_hardly_has_a_gradient_stays_so(rng):
    """Its square is zero in 32 bits; it does not take all of the step."""
    g = rng.normal(size=(6, 4))
    g[:, 1] *= 1e-22
    step = direct(directions.Orthogonal(), "kernel", g)
    assert np.all(np.linalg.norm(step[:, [0, 2, 3]], axis=0) > 0.1)
    assert np.linalg.norm(step[:, 1]) < 1e-3


@pytest.mark.parametrize("size", [1e-30, 1e-6, 1.0, 1e6, 1e30])
def test_the_size_of_a_gradient_does_not_matter(size, rng):
    g = rng.normal(size=(6, 4))
    one, other = (direct(directions.Orthogonal(), "kernel", g * x) for x in (1.0, size))
    np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("g", [np.zeros((4, 3)), np.ones((4, 3)), np.eye(4)[:, :3] * 1e-40])
def test_degenerate_gradients_make_finite_steps(g):
    found = direct(directions.Orthogonal(), "kernel", g)
    assert np.isfinite(found).all()
    assert np.abs(found).max() < 2


def test_rotated_inputs_rotate_the_step(rng):
    """Of outputs too, where they are not brought to one length."""
    g = rng.normal(size=(6, 4))
    q, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    p, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    whole, plain = directions.Orthogonal(), directions.Orthogonal(normalize=False)
    step = direct(whole, "kernel", g)
    np.testing.assert_allclose(direct(whole, "kernel", q @ g), q @ step, atol=2e-5)
    step = direct(plain, "kernel", g)
    np.testing.assert_allclose(direct(plain, "kernel", q @ g @ p), q @ step @ p, atol=2e-5)


def test_heads_that_change_places_change_those_of_the_step(rng):
    g = rng.normal(size=(6, 3, 4))
    step = direct(directions.Orthogonal(), "attention/query/kernel", g)
    order = [2, 0, 1]
    swapped = direct(directions.Orthogonal(), "attention/query/kernel", g[:, order])
    np.testing.assert_allclose(swapped, step[:, order], atol=1e-6)


def test_it_is_muons_step_without_more(rng):
    """With Jordan's coefficients, momentum 0 and outputs as they come."""
    g = rng.normal(size=(5, 7)).astype("float32")
    found = to_float64(orthogonalized(keras.ops.convert_to_tensor(g), MUON))
    wanted = reference.newton_schulz(g.astype("float64"), reference.MUON, order=2, margin=1)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def model():
    inputs = keras.Input((8, 4))
    x = keras.layers.MultiHeadAttention(2, 3, name="attention")(inputs, inputs)
    x = keras.layers.Conv1D(6, 3, padding="same", name="conv")(x)
    x = keras.layers.SeparableConv1D(5, 3, name="separable")(x)
    x = keras.layers.LSTM(7, name="lstm", return_sequences=True)(x)
    x = keras.layers.Bidirectional(keras.layers.GRU(3, name="gru"), name="both")(x)
    return keras.Model(
        inputs, [keras.layers.Dense(1, name="one")(x), keras.layers.Dense(9, name="nine")(x)]
    )


CUT = {
    "attention/query/kernel": "2 of 4 x 3",
    "attention/attention_output/kernel": "2 of 3 x 4",
    "conv/kernel": "1 of 12 x 6",
    "separable/depthwise_kernel": "adaptive",
    "separable/pointwise_kernel": "1 of 6 x 5",
    "lstm/lstm_cell/kernel": "4 of 5 x 7",
    "lstm/lstm_cell/recurrent_kernel": "4 of 7 x 7",
    "forward_gru/gru_cell/recurrent_kernel": "3 of 3 x 3",
    "attention/query/bias": "adaptive",
    "forward_gru/gru_cell/bias": "adaptive",
    "lstm/lstm_cell/bias": "adaptive",
    "one/kernel": "adaptive",
    "nine/kernel": "1 of 6 x 9",
}


def test_each_layer_is_cut_as_it_is_used():
    variables = model().trainable_variables
    found = dict(directions.Orthogonal().describe(variables))
    for end, cut in CUT.items():
        (said,) = {x for path, x in found.items() if f"/{path}".endswith(f"/{end}")} or {None}
        assert said == cut, (end, found)


def test_a_batch_of_matrices_and_a_table(rng):
    paths, shapes = ["experts/w", "words/embeddings"], [(3, 4, 5), (100, 8)]
    experts, table = layouts(paths, shapes)
    assert str(experts) == "3 of 4 x 5"
    assert table is None
    x = rng.normal(size=(3, 4, 5))
    np.testing.assert_array_equal(
        to_float64(experts.cut(keras.ops.array(x, "float32"))), np.float32(x)
    )


@pytest.mark.keep(1)
@pytest.mark.parametrize("direction", ["adaptive", "orthogonal"])
def test_a_step_is_about_as_long_as_the_learning_rate(direction, rng):
    """On every layout: the root mean square of the steps of noise, by element."""
    net = model()
    optimizer = NAGD(0.01, 0.8, direction=direction)
    optimizer.build(net.trainable_variables)
    start = [to_float64(v) for v in net.trainable_variables]
    for _ in range(30):
        optimizer.apply(
            [rng.normal(size=v.shape).astype("float32") for v in net.trainable_variables]
        )
    for v, before in zip(net.trainable_variables, start, strict=True):
        # Thirty steps of noise with a memory of five: between straight on and a random walk.
        moved = np.sqrt(np.mean((to_float64(v) - before) ** 2)) / 0.01
        assert 1 < moved < 30, v.path


BAD = {
    "beta 1": ({"beta": 1.0}, ValueError, "beta"),
    "a negative beta_2": ({"beta_2": -0.1}, ValueError, "beta_2"),
    "epsilon 0": ({"epsilon": 0.0}, ValueError, "larger than 0"),
    "scale 0": ({"scale": 0}, ValueError, "larger than 0"),
    "normalize 1": ({"normalize": 1}, TypeError, "True or False"),
    "one pattern": ({"exclude": "head"}, TypeError, "list of regular expressions"),
    "no pattern": ({"exclude": ["("]}, ValueError, "takes regular expressions"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_settings(name):
    settings, error, message = BAD[name]
    with pytest.raises(error, match=message):
        directions.Orthogonal(**settings)


def test_a_pattern_that_excludes_nothing():
    optimizer = NAGD(direction=directions.Orthogonal(exclude=["head"]))
    with pytest.raises(ValueError, match="'head', which is found in the path of no variable"):
        optimizer.build([keras.Variable(np.ones((2, 2)), name="kernel")])
    assert not optimizer.built


def test_an_unknown_name():
    with pytest.raises(ValueError, match=r"'gradient', 'adaptive', 'orthogonal'.*'muon'"):
        NAGD(direction="muon")


def test_complex_variables_are_refused():
    variable = keras.Variable(np.ones(2, "complex64"), dtype="complex64")
    with pytest.raises(ValueError, match="`direction` is for real variables only"):
        NAGD(direction="adaptive").build([variable])


def test_saved_and_loaded_with_its_settings(tmp_path, rng):
    direction = directions.Orthogonal(0.5, scale=0.1, exclude=["out"])
    net = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2, name="out")]
    )
    net.compile(NAGD(direction=direction), "mse", run_eagerly=True)
    x, y = rng.normal(size=(8, 4)), rng.normal(size=(8, 2))
    net.train_on_batch(x, y)
    net.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.optimizer.direction.get_config() == direction.get_config()
    for one in (net, again):
        one.train_on_batch(x, y)
    for a, b in zip(net.optimizer.variables, again.optimizer.variables, strict=True):
        np.testing.assert_array_equal(to_float64(a), to_float64(b))
