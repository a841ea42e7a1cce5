"""NAGD goes on where PyTorch's SGD stands: by a table of its steps, and beside it if installed."""

import copy
import json

import keras
import numpy as np
import pytest

from nagd_keras import NAGD, convert
from tests.reference import sgd_problem, torch_sgd_table
from tests.support.drivers import snapshot, to_float64
from tests.support.tolerances import TRAJECTORY, assert_close

RECORD = json.loads(torch_sgd_table.TABLE.read_text())
PATHS = ("conv/kernel", "dense/kernel", "dense/bias")
TRANSPOSES = {"conv": (2, 3, 1, 0), "dense": (1, 0)}
BACK = [(3, 2, 0, 1), (1, 0), (0,)]  # from Keras' layout to PyTorch's


def named(value, path, dtype="float32"):
    """A Keras variable of a path."""
    layer, _, name = path.partition("/")
    with keras.name_scope(layer):
        return keras.Variable(np.asarray(value), dtype=dtype, name=name)


def state_dict(table=RECORD):
    """What torch.optim.SGD.state_dict() returned, with NumPy arrays."""
    buffers = zip(table["momentum_buffers"], sgd_problem.TORCH_SHAPES, strict=True)
    arrays = [np.asarray(b, "float32").reshape(shape) for b, shape in buffers]
    return {
        "state": {i: {"momentum_buffer": array} for i, array in enumerate(arrays)},
        "param_groups": copy.deepcopy(table["param_groups"]),
    }


def keras_variables(point):
    """Keras' variables of a PyTorch model, transposed as one has to."""
    conv, dense, bias = sgd_problem.arrays(point, sgd_problem.TORCH_SHAPES)
    values = np.transpose(conv, (2, 3, 1, 0)), dense.T, bias
    return [named(value, path) for value, path in zip(values, PATHS, strict=True)]


def as_torch(variables):
    """The values of Keras' variables in PyTorch's layout."""
    return [np.transpose(to_float64(v), back) for v, back in zip(variables, BACK, strict=True)]


def flat(arrays):
    return np.concatenate([np.ravel(a) for a in arrays])


def step(optimizer, variables):
    gradients = sgd_problem.gradient(as_torch(variables))
    forth = (2, 3, 1, 0), (1, 0), (0,)
    optimizer.apply(
        [np.transpose(g, axes) for g, axes in zip(gradients, forth, strict=True)], variables
    )


def test_the_next_steps_are_pytorchs():
    variables = keras_variables(RECORD["points"][0])
    optimizer = convert.from_torch_sgd(state_dict(), variables, transposes=TRANSPOSES)
    assert type(optimizer) is NAGD
    assert optimizer.get_config()["learning_rate"] == 0.2
    assert optimizer.get_config()["momentum"] == 0.9
    assert optimizer.get_config()["learning_rate_multipliers"] is None
    for t, point in enumerate(RECORD["points"]):
        assert_close(flat(as_torch(variables)), np.array(point), TRAJECTORY["float32"], f"{t}")
        step(optimizer, variables)
    assert len(RECORD["points"]) == sgd_problem.STEPS + 1
    assert int(optimizer.age) == int(optimizer.iterations) == sgd_problem.STEPS + 1


def test_in_groups_with_learning_rates_and_in_keras_order():
    """Against the textbook: PyTorch's rule, in NumPy, with a rate for each parameter."""
    state = state_dict()
    group = state["param_groups"][0]
    state["param_groups"] = [{**group, "params": [0, 1]}, {**group, "params": [2], "lr": 0.05}]
    variables = keras_variables(RECORD["points"][0])
    other_order = [variables[i] for i in (2, 0, 1)]
    optimizer = convert.from_torch_sgd(
        state, variables, transposes=TRANSPOSES, trainable_variables=other_order
    )
    assert optimizer.get_config()["learning_rate_multipliers"] == {"^dense/bias$": 0.25}
    shapes = [tuple(s.shape) for s in optimizer.displacements]
    assert shapes == [tuple(v.shape) for v in other_order]

    rates = [0.2, 0.2, 0.05]
    parameters = [x.astype("float64") for x in as_torch(variables)]
    buffers = [entry["momentum_buffer"].astype("float64") for entry in state["state"].values()]
    for t in range(100):
        for i, g in enumerate(sgd_problem.gradient(parameters)):
            buffers[i] = 0.9 * buffers[i] + g
            parameters[i] = parameters[i] - rates[i] * (g + 0.9 * buffers[i])
        step(optimizer, variables)
        tolerance = TRAJECTORY["float32"]
        assert_close(flat(as_torch(variables)), flat(parameters), tolerance, f"step {t}")


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("buffer", [None, "no state"])
def test_without_buffers_displacements_are_zero(momentum, buffer):
    state = state_dict()
    state["param_groups"][0].update(momentum=momentum, nesterov=momentum > 0)
    state["state"] = {} if buffer else {i: {"momentum_buffer": None} for i in range(3)}
    variables = keras_variables(RECORD["points"][0])
    optimizer = convert.from_torch_sgd(state, variables, transposes=TRANSPOSES)
    assert float(optimizer.momentum) == np.float32(momentum)
    assert not np.any(flat(snapshot(optimizer.displacements)))


def test_momentum_0_forgets_the_buffers():
    state = state_dict()
    state["param_groups"][0].update(momentum=0, nesterov=False, dampening=0.5)
    variables = keras_variables(RECORD["points"][0])
    optimizer = convert.from_torch_sgd(state, variables, transposes=TRANSPOSES)
    assert not np.any(flat(snapshot(optimizer.displacements)))


@pytest.mark.parametrize("rates", [(0.2, 0.0), (0.0, 0.2), (0.0, 0.0)])
def test_a_learning_rate_of_zero_freezes(rates):
    state = state_dict()
    group = state["param_groups"][0]
    state["param_groups"] = [
        {**group, "params": numbers, "lr": rate}
        for numbers, rate in zip(([0], [1, 2]), rates, strict=True)
    ]
    variables = keras_variables(RECORD["points"][0])
    optimizer = convert.from_torch_sgd(state, variables, transposes=TRANSPOSES)
    assert float(optimizer.learning_rate) == np.float32(max(rates))
    before = snapshot(variables)
    step(optimizer, variables)
    for i, (now, was) in enumerate(zip(snapshot(variables), before, strict=True)):
        assert np.any(now != was) == (rates[min(i, 1)] > 0)


def test_the_first_pattern_counts_and_none_is_as_it_is():
    variable = named(np.zeros((2, 2)), "hidden/kernel")
    state = {
        "state": {0: {"momentum_buffer": np.array([[1.0, 2.0], [3.0, 4.0]])}},
        "param_groups": [{**RECORD["param_groups"][0], "params": [0]}],
    }
    for transposes, wanted in [
        ({"kernel": None, "hidden": (1, 0)}, [[1, 2], [3, 4]]),
        ({"hidden": [1, 0], "kernel": None}, [[1, 3], [2, 4]]),
    ]:
        optimizer = convert.from_torch_sgd(state, [variable], transposes=transposes)
        found = to_float64(optimizer.displacements[0])
        assert_close(found, -0.2 * 0.9 * np.array(wanted), 2.0**-24)


def test_the_state_dict_stays_as_it_was():
    state, same = state_dict(), state_dict()
    convert.from_torch_sgd(state, keras_variables(RECORD["points"][0]), transposes=TRANSPOSES)
    assert state["param_groups"] == same["param_groups"]
    for i in range(3):
        np.testing.assert_array_equal(*(s["state"][i]["momentum_buffer"] for s in (state, same)))


def test_the_table_is_what_pytorch_gives():
    pytest.importorskip("torch")
    state, points = torch_sgd_table.trained()
    assert_close(points[0], np.array(RECORD["points"][0]), TRAJECTORY["float32"])
    assert_close(points[-1], np.array(RECORD["points"][-1]), TRAJECTORY["float32"])
    assert state["param_groups"][0].keys() >= RECORD["param_groups"][0].keys()
    buffer = state["state"][2]["momentum_buffer"]
    assert_close(buffer, np.array(RECORD["momentum_buffers"][2]), TRAJECTORY["float32"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_tensors_of_pytorch(dtype):
    torch = pytest.importorskip("torch")
    parameter = torch.nn.Parameter(torch.ones(2, 2, dtype=getattr(torch, dtype)))
    optimizer = torch.optim.SGD([parameter], torch.tensor(0.5), momentum=0.5, nesterov=True)
    gradient = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    parameter.grad = gradient.to(parameter.dtype)
    optimizer.step()
    variable = keras.Variable(parameter.detach().float().numpy().T, dtype=dtype)
    new = convert.from_torch_sgd(optimizer.state_dict(), [variable], transposes={".": (1, 0)})
    np.testing.assert_array_equal(to_float64(new.displacements[0]), -0.25 * gradient.numpy().T)
    parameter.grad = gradient.to(parameter.dtype)
    optimizer.step()
    new.apply([keras.ops.cast(gradient.numpy().T, dtype)], [variable])
    np.testing.assert_array_equal(to_float64(variable), parameter.detach().double().numpy().T)


L = keras.layers
# Keras' layer, PyTorch's, its arguments, the axes of the kernel as from_torch_sgd's table has them,
# and the size of the inputs. Numbers of channels are equal, so that shapes tell nothing.
LAYERS = [
    (L.Dense(3), "Linear", (3, 3), {}, (1, 0), ()),
    (L.Conv1D(3, 2), "Conv1d", (3, 3, 2), {}, (2, 1, 0), (5,)),
    (L.Conv2D(3, 2), "Conv2d", (3, 3, 2), {}, (2, 3, 1, 0), (5, 4)),
    (L.Conv3D(3, 2), "Conv3d", (3, 3, 2), {}, (2, 3, 4, 1, 0), (4, 4, 3)),
    (L.Conv1DTranspose(3, 2), "ConvTranspose1d", (3, 3, 2), {}, (2, 1, 0), (5,)),
    (L.Conv2DTranspose(3, 2), "ConvTranspose2d", (3, 3, 2), {}, (2, 3, 1, 0), (5, 4)),
    (L.Conv3DTranspose(3, 2), "ConvTranspose3d", (3, 3, 2), {}, (2, 3, 4, 1, 0), (4, 4, 3)),
    (L.DepthwiseConv1D(2), "Conv1d", (3, 3, 2), {"groups": 3}, (2, 0, 1), (5,)),
    (L.DepthwiseConv2D(2), "Conv2d", (3, 3, 2), {"groups": 3}, (2, 3, 0, 1), (5, 4)),
]


@pytest.mark.parametrize(
    ("layer", "name", "arguments", "settings", "axes", "size"),
    LAYERS,
    ids=[type(layer[0]).__name__ for layer in LAYERS],
)
def test_the_documented_axes_of_layers(rng, layer, name, arguments, settings, axes, size):
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn, name)(*arguments, **settings)
    x = rng.normal(size=(2, 3, *size)).astype("float32")
    channels_last = (0, *range(2, x.ndim), 1)
    layer.build(np.transpose(x, channels_last).shape)
    weight, bias = (p.detach().numpy() for p in theirs.parameters())
    layer.set_weights([np.transpose(weight, axes), bias])
    wanted = np.transpose(theirs(torch.tensor(x)).detach().numpy(), channels_last)
    found = keras.ops.convert_to_numpy(layer(np.transpose(x, channels_last)))
    assert_close(found, wanted, TRAJECTORY["float32"])
    assert f"{axes} |" in convert.from_torch_sgd.__doc__


@pytest.mark.parametrize(
    ("layer", "name"),
    [(L.LSTM(3, use_bias=False), "LSTM"), (L.SimpleRNN(3, use_bias=False), "RNN")],
)
def test_the_documented_axes_of_recurrent_layers(rng, layer, name):
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn, name)(3, 3, bias=False, batch_first=True)
    x = rng.normal(size=(2, 4, 3)).astype("float32")
    layer.build(x.shape)
    layer.set_weights([p.detach().numpy().T for p in theirs.parameters()])
    wanted = theirs(torch.tensor(x))[0][:, -1].detach().numpy()
    assert_close(keras.ops.convert_to_numpy(layer(x)), wanted, TRAJECTORY["float32"])


def test_a_network_goes_on_beside_pytorchs(rng):
    """A network's own gradients, from two frameworks; 100 steps of both."""
    torch = pytest.importorskip("torch")
    x = rng.normal(size=(8, 2, 5, 5)).astype("float32")
    y = np.sin(x.sum(axis=(2, 3))).astype("float32")
    torch.manual_seed(0)
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(2, 2, 3), torch.nn.Tanh(), torch.nn.AvgPool2d(3), torch.nn.Flatten()
    )
    theirs.append(torch.nn.Linear(2, 2))
    groups = [{"params": theirs[0].parameters()}, {"params": theirs[4].parameters(), "lr": 0.02}]
    optimizer = torch.optim.SGD(groups, lr=0.05, momentum=0.9, nesterov=True)

    def step():
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(theirs(torch.tensor(x)), torch.tensor(y)).backward()
        optimizer.step()

    for _ in range(7):
        step()
    conv, dense = L.Conv2D(2, 3, activation="tanh", name="conv"), L.Dense(2, name="dense")
    model = keras.Sequential([keras.Input((5, 5, 2)), conv, L.GlobalAveragePooling2D(), dense])
    forth = (2, 3, 1, 0), (0,), (1, 0), (0,)

    def weights():
        # Copies, since PyTorch updates in place, and JAX does not copy.
        arrays = [p.detach().numpy().copy() for p in theirs.parameters()]
        return [np.transpose(a, axes) for a, axes in zip(arrays, forth, strict=True)]

    model.set_weights(weights())
    transposes = {"conv/kernel": (2, 3, 1, 0), "dense/kernel": (1, 0)}
    model.compile(
        optimizer=convert.from_torch_sgd(
            optimizer.state_dict(), model.trainable_variables, transposes=transposes
        ),
        loss="mse",
    )
    for t in range(100):
        step()
        model.train_on_batch(np.transpose(x, (0, 2, 3, 1)), y)
        assert_close(flat(model.get_weights()), flat(weights()), TRAJECTORY["float32"], f"step {t}")


def trained_embedding(sparse, **settings):
    """PyTorch's table with its SGD after two steps, of which each looks up some rows."""
    torch = pytest.importorskip("torch")
    table = torch.nn.Embedding.from_pretrained(torch.ones(4, 2), freeze=False, sparse=sparse)
    sgd = torch.optim.SGD(table.parameters(), lr=0.5, momentum=0.5, nesterov=True, **settings)
    for rows in ([1, 1, 2], [2, 0]):
        sgd.zero_grad()
        table(torch.tensor(rows)).sum().backward()
        sgd.step()
    return sgd.state_dict()


def displacement_of(state_dict):
    x = named(np.ones((4, 2)), "table/embeddings")
    optimizer = convert.from_torch_sgd(state_dict, [x], transposes={"embeddings": None})
    return to_float64(optimizer.displacements[0])


def test_sparse_buffers():
    """The buffer is .5 times the first gradient plus the second, by rows: 1, 1, 1.5, 0."""
    found = displacement_of(trained_embedding(sparse=True))
    wanted = -0.5 * 0.5 * np.array([1.0, 1.0, 1.5, 0.0])
    np.testing.assert_array_equal(found, np.stack([wanted, wanted], axis=1))
    np.testing.assert_array_equal(found, displacement_of(trained_embedding(sparse=False)))


@pytest.mark.parametrize("setting", ["foreach", "fused", "differentiable"])
def test_how_pytorch_executes_its_steps_does_not_matter(setting, tmp_path):
    """Read from a file as PyTorch reads it if nothing else is said."""
    torch = pytest.importorskip("torch")
    if setting == "differentiable":  # whose steps go on from outside of PyTorch's gradients only
        found = trained_embedding(sparse=False)
        found["param_groups"][0]["differentiable"] = True
    else:
        found = trained_embedding(sparse=False, **{setting: True})
    torch.save(found, tmp_path / "sgd.pt")
    read = torch.load(tmp_path / "sgd.pt", weights_only=True)
    np.testing.assert_array_equal(
        displacement_of(read), displacement_of(trained_embedding(sparse=False))
    )


def test_buffers_without_data():
    torch = pytest.importorskip("torch")
    found = trained_embedding(sparse=False)
    found["state"][0]["momentum_buffer"] = torch.zeros(4, 2, device="meta")
    with pytest.raises(ValueError, match=r"momentum_buffer 0 holds no data.*on a real device"):
        displacement_of(found)


def test_a_checkpoint_of_a_whole_run():
    with pytest.raises(TypeError, match=r"dict with \['model', 'optimizer'\].*of the optimizer"):
        displacement_of({"model": {}, "optimizer": trained_embedding(sparse=False)})
