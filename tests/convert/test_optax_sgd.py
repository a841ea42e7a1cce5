"""NAGD goes on where Optax' SGD stands: by a table of its steps, and beside it if installed."""

import json
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest

from nagd_keras import NAGD, convert
from tests.convert.test_torch_sgd import flat, named
from tests.reference import optax_sgd_table, sgd_problem
from tests.support.drivers import snapshot, to_float64
from tests.support.tolerances import TRAJECTORY, assert_close

RECORD = json.loads(optax_sgd_table.TABLE.read_text())
GIVEN = {"learning_rate": sgd_problem.RATE, "momentum": sgd_problem.MOMENTUM}
TRANSPOSES = {"dense/kernel": (1, 0)}  # (out, in), as in Equinox


# As in Optax, by the names of their fields.
class TraceState(NamedTuple):
    trace: Any


class EmptyState(NamedTuple):
    pass


class ScaleByScheduleState(NamedTuple):
    count: Any


class MaskedState(NamedTuple):
    inner_state: Any


class MaskedNode(NamedTuple):
    pass


class PartitionState(NamedTuple):
    inner_states: Any


class MultiStepsState(NamedTuple):
    mini_step: Any
    inner_opt_state: Any
    acc_grads: Any


class InjectStatefulHyperparamsState(NamedTuple):
    count: Any
    hyperparams: Any
    hyperparams_states: Any
    inner_state: Any


def trace(leaves=RECORD["trace"]):
    kernel, bias, weight = (
        np.asarray(leaf, "float32").reshape(shape)
        for leaf, shape in zip(leaves, sgd_problem.OPTAX_SHAPES, strict=True)
    )
    return {"dense": {"weight": weight, "bias": bias}, "conv": {"kernel": kernel}}


def state(tail=EmptyState()):  # noqa: B008  A tuple without elements.
    return (TraceState(trace()), tail)


def keras_variables(point=RECORD["points"][0]):
    """Keras' variables, nested as the parameters are; the dense kernel is (in, out)."""
    kernel, bias, weight = sgd_problem.arrays(point, sgd_problem.OPTAX_SHAPES)
    return {
        "conv": {"kernel": named(kernel, "conv/kernel")},
        "dense": {"bias": named(bias, "dense/bias"), "weight": named(weight.T, "dense/kernel")},
    }


def listed(nest):
    return [nest["conv"]["kernel"], nest["dense"]["bias"], nest["dense"]["weight"]]


def as_optax(variables):
    kernel, bias, weight = (to_float64(v) for v in variables)
    return [kernel, bias, weight.T]


def step(optimizer, variables):
    kernel, bias, weight = sgd_problem.gradient(as_optax(variables))
    optimizer.apply([kernel, bias, weight.T], variables)


@pytest.mark.parametrize("nested", [True, False])
def test_the_next_steps_are_optaxs(nested):
    nest = keras_variables()
    variables = listed(nest)
    optimizer = convert.from_optax_sgd(
        state(), nest if nested else variables, **GIVEN, transposes=TRANSPOSES
    )
    assert type(optimizer) is NAGD
    assert optimizer.get_config()["momentum"] == 0.9
    for t, point in enumerate(RECORD["points"]):
        assert_close(flat(as_optax(variables)), np.array(point), TRAJECTORY["float32"], f"{t}")
        step(optimizer, variables)
    assert len(RECORD["points"]) == sgd_problem.STEPS + 1


def displacements(found_state, variables=None, transposes=TRANSPOSES, **given):
    variables = keras_variables() if variables is None else variables
    optimizer = convert.from_optax_sgd(found_state, variables, transposes=transposes, **given)
    return optimizer, snapshot(optimizer.displacements)


def exact(rate, momentum=0.9):
    kernel, bias, weight = (-rate * momentum * x for x in listed(trace()))
    return [kernel, bias, weight.T]


def assert_displaced(found, rate, momentum=0.9):
    for a, b in zip(found, exact(rate, momentum), strict=True):
        assert_close(a, b, 4 * 2.0**-24)


def test_a_schedule_is_read_at_the_count():
    schedule = keras.optimizers.schedules.PolynomialDecay(0.4, 10, 0.2)
    optimizer, found = displacements(
        state(ScaleByScheduleState(np.int32(5))), learning_rate=schedule, momentum=0.9
    )
    assert_displaced(found, 0.3)
    assert int(optimizer.age) == int(optimizer.iterations) == 5
    assert float(optimizer.learning_rate) == pytest.approx(0.3)


def injected(hyperparams_states=(), tail=EmptyState()):  # noqa: B008
    numbers = {"learning_rate": np.float32(0.2), "momentum": np.float32(0.9)}
    return InjectStatefulHyperparamsState(
        np.int32(7),
        numbers,
        dict.fromkeys(hyperparams_states, ScaleByScheduleState(7)),
        state(tail),
    )


def test_injected_hyperparameters_are_found():
    optimizer, found = displacements(injected())
    assert_displaced(found, 0.2)
    assert optimizer.get_config()["learning_rate"] == 0.2
    assert optimizer.get_config()["momentum"] == 0.9
    assert int(optimizer.age) == int(optimizer.iterations) == 7


def test_what_is_given_goes_before_what_is_injected():
    optimizer, found = displacements(injected(["learning_rate"]), learning_rate=0.1)
    assert_displaced(found, 0.1)
    assert float(optimizer.momentum) == np.float32(0.9)
    assert_displaced(displacements(injected(), momentum=0.5)[1], 0.2, 0.5)


def test_a_chain_in_a_chain():
    assert_displaced(displacements((EmptyState(), state()), **GIVEN)[1], 0.2)


def restored(part, sequence=lambda parts: {str(i): part for i, part in enumerate(parts)}):
    """What becomes of a state in a file of Flax', in which all is a dictionary."""
    if hasattr(part, "_asdict"):
        return {name: restored(each, sequence) for name, each in part._asdict().items()}
    if isinstance(part, dict):
        return {name: restored(each, sequence) for name, each in part.items()}
    if isinstance(part, (tuple, list)):
        return sequence([restored(each, sequence) for each in part])
    return part


@pytest.mark.parametrize("sequence", [None, list], ids=["Flax", "Orbax"])
def test_restored_states(sequence):
    """Without the types of Optax, the fields still have their names."""
    given = {} if sequence is None else {"sequence": sequence}
    assert_displaced(displacements(restored(state(), **given), **GIVEN)[1], 0.2)
    optimizer, found = displacements(restored(injected(), **given))
    assert_displaced(found, 0.2)
    assert int(optimizer.age) == 7
    counted = restored((EmptyState(), state(ScaleByScheduleState(np.int32(5)))), **given)
    optimizer, found = displacements(counted, **GIVEN)
    assert_displaced(found, 0.2)
    assert int(optimizer.age) == 5


def test_restored_lists_keep_their_order():
    """Of which the eleventh does not come behind the second, as text would."""
    arrays = [np.full(1, float(i), "float32") for i in range(12)]
    variables = [keras.Variable([0.0], name=f"x{i}") for i in range(12)]
    _, found = displacements(
        restored((TraceState(arrays), EmptyState())), variables, transposes=None, **GIVEN
    )
    for i, array in enumerate(found):
        assert_close(array, np.full(1, -0.18 * i), 2.0**-22)


@pytest.mark.parametrize("form", [lambda part: part, restored], ids=["as it is", "restored"])
def test_masks_and_groups(form):
    """What is masked out has no trace, and no variable here."""
    variables = keras_variables()
    masked = (TraceState({**trace(), "conv": {"kernel": MaskedNode()}}), EmptyState())
    group = PartitionState({"still": MaskedState(EmptyState()), "train": MaskedState(masked)})
    for found_state in (MaskedState(masked), group):
        _, found = displacements(form(found_state), {"dense": variables["dense"]}, **GIVEN)
        for a, b in zip(found, exact(0.2)[1:], strict=True):
            assert_close(a, b, 4 * 2.0**-24)


@pytest.mark.parametrize(
    ("odd", "says"),
    [
        (PartitionState({"a": MaskedState(state()), "b": state()}), "a state with 2, as"),
        (MultiStepsState(0, state(), trace()), r"MultiStepsState.*MultiSteps`, pass that part"),
        ({"step": 3, "params": trace(), "opt_state": state()}, r"dict .*'opt_state'.*pass that"),
        (restored(MultiStepsState(0, state(), trace())), "'inner_opt_state'.*pass that part"),
        ((EmptyState(), {}), "without one"),
    ],
)
def test_states_that_are_not_that_of_one_sgd(odd, says):
    with pytest.raises(ValueError, match=says):
        displacements(odd, **GIVEN)


def test_variables_are_built_in_the_order_of_the_model():
    nest = keras_variables()
    kernel, bias, weight = listed(nest)
    _, found = displacements(state(), nest, trainable_variables=[kernel, weight, bias], **GIVEN)
    assert_displaced([found[0], found[2], found[1]], 0.2)


@dataclass
class Linear:
    """As a module of Equinox: the fields in order, without those that are static or None."""

    weight: Any
    bias: Any
    size: int = field(default=3, metadata={"static": True})
    extra: Any = None


def test_modules_and_ordered_dictionaries():
    tree = trace()
    module = Linear(tree["dense"]["weight"], tree["dense"]["bias"])
    nest = keras_variables()
    variables = [nest["dense"]["weight"], nest["dense"]["bias"], nest["conv"]["kernel"]]
    for top in ([module, tree["conv"]], OrderedDict(b=module, a=tree["conv"])):
        _, found = displacements((TraceState(top), EmptyState()), variables, **GIVEN)
        assert_displaced([found[2], found[1], found[0]], 0.2)
    # By name where the variables are nested, in whatever order.
    same = {"b": {"bias": variables[1], "weight": variables[0]}, "a": nest["conv"]}
    top = {"b": module, "a": tree["conv"]}
    optimizer, _ = displacements((TraceState(top), EmptyState()), same, **GIVEN)
    for v, s in zip(optimizer._trainable_variables, optimizer.displacements, strict=True):
        i = [id(each) for each in listed(nest)].index(id(v))
        assert_close(to_float64(s), exact(0.2)[i], 4 * 2.0**-24)


def test_a_single_variable():
    x = keras.Variable([1.0, 2.0])
    optimizer = convert.from_optax_sgd((TraceState(np.ones(2)), EmptyState()), x, **GIVEN)
    assert_close(to_float64(optimizer.displacements[0]), np.full(2, -0.18), 2.0**-23)


def test_without_transposes_arrays_are_as_they_are():
    nest = keras_variables()
    _, found = displacements(state(), nest, transposes=None, **GIVEN)
    assert_displaced([found[0], found[1], found[2].T], 0.2)
    assert np.any(found[2] != found[2].T)


@pytest.mark.parametrize("kind", ["plain", "schedule", "injected"])
def test_beside_optax(kind):
    optax = pytest.importorskip("optax")
    settings = {"momentum": sgd_problem.MOMENTUM, "nesterov": True}
    given = dict(GIVEN)
    if kind == "plain":
        theirs = optax.sgd(sgd_problem.RATE, **settings)
    elif kind == "schedule":
        theirs = optax.sgd(optax.constant_schedule(sgd_problem.RATE), **settings)
    else:
        theirs, given = optax.inject_hyperparams(optax.sgd)(sgd_problem.RATE, **settings), {}
    found_state, points = optax_sgd_table.trained(theirs)
    assert_close(points[-1], np.array(RECORD["points"][-1]), TRAJECTORY["float32"])
    nest = keras_variables(points[0])
    variables = listed(nest)
    optimizer = convert.from_optax_sgd(found_state, nest, transposes=TRANSPOSES, **given)
    assert int(optimizer.age) == (0 if kind == "plain" else sgd_problem.FIRST)
    for t, point in enumerate(points):
        assert_close(flat(as_optax(variables)), point, TRAJECTORY["float32"], f"step {t}")
        step(optimizer, variables)


def test_flax_and_keras_have_the_same_layouts(rng):
    pytest.importorskip("flax")
    import jax
    from flax import linen

    numbers, tokens = rng.normal(size=(2, 6, 5, 3)).astype("float32"), np.array([[0, 2, 1]])
    layers = [
        (linen.Dense(3), keras.layers.Dense(3), numbers, ["kernel", "bias"]),
        (linen.Conv(3, (2, 2), padding="VALID"), keras.layers.Conv2D(3, 2), numbers, None),
        (linen.Embed(3, 3), keras.layers.Embedding(3, 3), tokens, ["embedding"]),
    ]
    for theirs, ours, x, names in layers:
        parameters = theirs.init(jax.random.key(0), x)
        ours.build(x.shape)
        arrays = [np.asarray(parameters["params"][n]) for n in names or ["kernel", "bias"]]
        ours.set_weights(arrays)
        wanted = np.asarray(theirs.apply(parameters, x))
        assert_close(keras.ops.convert_to_numpy(ours(x)), wanted, TRAJECTORY["float32"])


def test_a_module_of_equinox():
    eqx = pytest.importorskip("equinox")
    import jax
    import optax

    module = eqx.nn.MLP(3, 3, 3, 1, key=jax.random.key(0))
    parameters = eqx.filter(module, eqx.is_array)
    theirs = optax.sgd(0.5, momentum=0.5, nesterov=True)
    found_state = theirs.update(parameters, theirs.init(parameters))[1]
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(parameters)]
    variables = [keras.Variable(leaf.T, name=f"x{i}") for i, leaf in enumerate(leaves)]
    optimizer = convert.from_optax_sgd(
        found_state, variables, learning_rate=0.5, momentum=0.5, transposes={"": (1, 0)}
    )
    for s, leaf in zip(optimizer.displacements, leaves, strict=True):
        np.testing.assert_array_equal(to_float64(s), -0.25 * leaf.astype("float64").T)
