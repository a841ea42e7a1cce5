"""The learning-rate range test takes whatever data the model's `fit` takes."""

import keras
import numpy as np
import pytest

from nagd_keras import NAGD
from nagd_keras.callbacks import find_learning_rate
from tests.support.drivers import assert_identical, snapshot, to_float64
from tests.support.sweeps import rich_model, sweep
from tests.support.training import BATCH, data, network

pytestmark = pytest.mark.filterwarnings("ignore:The range test is not sure")

# So small that the model stays as it is, and each loss tells of its batch.
STILL = {"min": 1e-12, "max": 1e-11, "stop_at": 1e9}


def eager(optimizer=None):
    return network(NAGD() if optimizer is None else optimizer, run_eagerly=True)


def several():
    """A model of two inputs and two outputs."""
    keras.utils.set_random_seed(0)
    inputs = [keras.Input((4,), name="a"), keras.Input((4,), name="b")]
    joined = keras.layers.Concatenate()(inputs)
    outputs = [keras.layers.Dense(1, name=name)(joined) for name in "pq"]
    return inputs, outputs


x, y = data()
WEIGHTS = np.linspace(0.0, 2.0, len(x)).astype("float32")
FORMS = {
    "lists": (lambda a, b: [a, b], {}),
    "tuples": (lambda a, b: (a, b), {}),
    "dictionaries": (None, {}),
    "one weight": (lambda a, b: [a, b], {"sample_weight": WEIGHTS}),
    "weights": (lambda a, b: [a, b], {"sample_weight": [WEIGHTS, WEIGHTS]}),
}


@pytest.mark.keep(1)
@pytest.mark.parametrize("form", FORMS)
def test_several_inputs_and_targets(form):
    """Of which each is weighted: the sum of what two models of one output have."""
    inputs, outputs = several()
    pair, settings = FORMS[form]
    if pair is None:
        model = keras.Model(inputs, dict(zip("pq", outputs, strict=True)))
        model.compile(NAGD(), {"p": "mse", "q": "mse"}, run_eagerly=True)
        given = {"a": x, "b": x}, {"p": y, "q": 2 * y}
    else:
        model = keras.Model(inputs, outputs)
        model.compile(NAGD(), ["mse", "mse"], run_eagerly=True)
        given = pair(x, x), pair(y, 2 * y)
    before = snapshot(model)
    found = sweep(model, *given, steps=2, batch_size=len(x), **STILL, **settings)
    p, q = (to_float64(keras.Model(inputs, output)([x, x])) for output in outputs)
    errors = ((p - y) ** 2 + (q - 2 * y) ** 2)[:, 0]
    wanted = np.mean(errors * (WEIGHTS if settings else 1.0))
    np.testing.assert_allclose(found.losses, wanted, rtol=1e-5)
    assert_identical(snapshot(model), before)


class Table:
    """As pandas' tables and columns are seen from outside."""

    def __init__(self, array):
        self.iloc, self.dtype, self.shape = array, array.dtype, array.shape

    def __array__(self, dtype=None, copy=None):
        return np.array(self.iloc, dtype)

    def __len__(self):
        return len(self.iloc)


def of_torch(array, dtype="float32"):
    torch = pytest.importorskip("torch")
    return torch.tensor(array, dtype=getattr(torch, dtype), requires_grad=True)


ARRAYS = {
    "float64": lambda a: a.astype("float64"),
    "table or column": lambda a: Table(a[:, 0] if a.shape[1] == 1 else a),
    "backend": lambda a: keras.ops.convert_to_tensor(a),
    "bfloat16": lambda a: keras.ops.cast(a, "bfloat16"),
    "torch": of_torch,
    "torch, bfloat16": lambda a: of_torch(a, "bfloat16"),
}


@pytest.mark.keep(1)
@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_of_any_kind(kind):
    if "torch" in kind and keras.backend.backend() != "torch":
        pytest.skip("of PyTorch's tensors")
    made = [ARRAYS[kind](a) for a in (x, y)]
    found = sweep(eager(), *made, steps=3, **STILL)
    # A target of bfloat16 is rounded by up to its 2^-9, and so is the input.
    room = 2e-2 if "bfloat16" in kind else 1e-5
    np.testing.assert_allclose(found.losses, sweep(eager(), x, y, steps=3, **STILL).losses, room)
    for array in made:
        assert getattr(array, "grad", None) is None


def test_targets_without_an_axis():
    wanted = sweep(eager(), x, y, steps=3, **STILL).losses
    np.testing.assert_array_equal(sweep(eager(), x, y[:, 0], steps=3, **STILL).losses, wanted)


@pytest.mark.long
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="which has texts")
def test_texts():
    texts = np.array([f"{'good' if i % 2 else 'bad'} {i}" for i in range(len(x))], object)
    words = keras.layers.TextVectorization(output_mode="multi_hot", vocabulary=["good", "bad"])
    model = keras.Sequential([keras.Input((), dtype="string"), words, keras.layers.Dense(1)])
    model.compile(NAGD(), "mse", run_eagerly=True)
    losses = sweep(model, texts, y, steps=3, **STILL).losses
    np.testing.assert_array_equal(
        losses, sweep(model, keras.ops.convert_to_tensor(texts), y, steps=3, **STILL).losses
    )


def test_what_fit_refuses_is_refused_in_its_words():
    with pytest.raises(ValueError, match="Unrecognized data type"):
        sweep(eager(), x, [1.0] * len(x))


# Data in batches


def batches(number, size=BATCH):
    """Batches whose losses are told apart by the sizes of their targets."""
    for i in range(number):
        yield x[:size], np.full((size, 1), float(i + 1), "float32")


def losses_of_batches(model, number):
    return [np.mean((to_float64(model(a)) - b) ** 2) for a, b in batches(number)]


class Dataset(keras.utils.PyDataset):
    def __init__(self, number):
        super().__init__()
        self.batches = list(batches(number))

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, i):
        return self.batches[i]


@pytest.mark.keep(1)
@pytest.mark.parametrize("built", [True, False])
@pytest.mark.parametrize("steps", [5, 10])
def test_a_generator_has_each_batch_once(steps, built):
    """Every batch is seen, in order; the first two are not taken again in place of the others."""
    if not built:
        model = rich_model(NAGD(), built=False)
        assert len(sweep(model, batches(10), steps=steps, **STILL).losses) == steps
        return
    model = eager()
    found = sweep(model, batches(10), steps=steps, **STILL)
    np.testing.assert_allclose(found.losses, losses_of_batches(model, steps), rtol=1e-5)


def test_a_generator_that_ends_too_soon():
    model = eager()
    before = snapshot(model)
    with pytest.warns(UserWarning, match=r"ended after 10 of 30 batches.* or steps=10\.") as seen:
        found = sweep(model, batches(10), **STILL)
    last = f"above {found.learning_rates[-1]:.3g} was tried"
    assert any(last in str(each.message) for each in seen)
    np.testing.assert_allclose(found.losses, losses_of_batches(model, 10), rtol=1e-5)
    np.testing.assert_allclose(found.learning_rates, np.geomspace(1e-12, 1e-11, 30)[:10])
    assert_identical(snapshot(model), before)


@pytest.mark.long
def test_a_generator_without_a_second_batch():
    with pytest.raises(ValueError, match=r"Received: 1\. The data ended after 1 of 30 batches"):
        sweep(eager(), batches(1))


def test_a_model_that_is_not_built_needs_a_batch():
    with pytest.raises(ValueError, match=r"not built.*Call the model on a batch"):
        sweep(rich_model(NAGD(), built=False), batches(0))


@pytest.mark.long
def test_datasets_are_begun_again():
    for built in (True, False):
        model = rich_model(NAGD(), built=built)
        assert len(sweep(model, Dataset(6), steps=20, **STILL).losses) == 20
    model = eager()
    found = sweep(model, Dataset(6), steps=9, **STILL)
    wanted = losses_of_batches(model, 6)
    np.testing.assert_allclose(found.losses, [*wanted, *wanted[:3]], rtol=1e-5)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="needs TensorFlow or PyTorch")
def test_datasets_of_other_frameworks():
    """The last batch, which is smaller, has its own loss."""
    if keras.backend.backend() == "torch":
        import torch

        pairs = torch.utils.data.TensorDataset(torch.tensor(x[:20]), torch.tensor(y[:20]))
        batched = torch.utils.data.DataLoader(pairs, BATCH)
    else:
        import tensorflow as tf

        batched = tf.data.Dataset.from_tensor_slices((x[:20], y[:20])).batch(BATCH)
    model = eager()
    found = sweep(model, batched, steps=6, **STILL)
    parts = [slice(0, 8), slice(8, 16), slice(16, 20)]
    wanted = [np.mean((to_float64(model(x[part])) - y[part]) ** 2) for part in parts]
    np.testing.assert_allclose(found.losses, wanted * 2, rtol=1e-5)


@pytest.mark.long
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="of TensorFlow's datasets")
def test_a_dataset_around_a_generator_that_cannot_be_begun_again():
    import tensorflow as tf

    shapes = tuple(tf.TensorSpec((None, a.shape[1]), "float32") for a in (x, y))
    once = batches(7)
    dataset = tf.data.Dataset.from_generator(lambda: once, output_signature=shapes)
    with pytest.warns(UserWarning, match="ended after 7 of 30 batches"):
        assert len(sweep(network(NAGD()), dataset, **STILL).losses) == 7
    anew = tf.data.Dataset.from_generator(lambda: batches(7), output_signature=shapes)
    assert len(sweep(network(NAGD()), anew, steps=20, **STILL).losses) == 20


# A `fit` of the model's own


class Preprocessing(keras.Sequential):
    """Takes what only its own `fit` understands, as KerasHub's tasks do."""

    def fit(self, x=None, y=None, batch_size=None, **settings):
        x = np.stack([x["twice"]] * 2, axis=1).astype("float32")
        return super().fit(x, y, batch_size=batch_size, **settings)


@pytest.mark.long
@pytest.mark.parametrize("form", [np.asarray, list])
def test_a_fit_of_the_models_own_gets_what_it_understands(form):
    """Lists of numbers among that, which Keras' own refuses."""
    model = Preprocessing([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(NAGD(), "mse", run_eagerly=True)
    before = snapshot(model)
    raw = {"twice": form(x[:, 0].tolist())}
    found = sweep(model, raw, y, steps=8, batch_size=len(x), **STILL)
    predicted = to_float64(model(np.stack([x[:, 0]] * 2, axis=1)))
    np.testing.assert_allclose(found.losses, np.mean((predicted - y) ** 2), rtol=1e-5)
    assert len(found.losses) == 8
    assert_identical(snapshot(model), before)


class Hidden(keras.layers.Layer):
    """Makes 0 of NaN, as ReLU does where it is computed as a maximum."""

    def call(self, x):
        return keras.ops.where(keras.ops.isnan(x), 0.0, x)


@pytest.mark.parametrize("spoiled", [slice(None), 5], ids=["all", "one row"])
def test_nan_that_the_loss_does_not_show(spoiled):
    """The loss stays finite, and the weights do not."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(8), Hidden(), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(NAGD(), "mse")
    inputs = np.array(x)
    inputs[spoiled] = np.nan
    before = snapshot(model)
    with pytest.warns(UserWarning, match="a weight is not finite.*look for NaN in the data"):
        found = find_learning_rate(model, inputs, y, batch_size=BATCH, verbose=0)
    assert not found.is_sure
    assert found.suggested == pytest.approx(0.01)
    assert_identical(before, snapshot(model))
