"""Conversions that are refused say why, and leave what they were given as it was."""

import copy
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest

from nagd_keras import NAGD, convert
from tests.convert.test_optax_sgd import (
    GIVEN,
    EmptyState,
    InjectStatefulHyperparamsState,
    TraceState,
    injected,
    keras_variables,
    listed,
    state,
    trace,
)
from tests.convert.test_torch_sgd import TRANSPOSES, named, state_dict
from tests.support.drivers import assert_identical, snapshot
from tests.support.problems import Table
from tests.support.training import network

SGD = keras.optimizers.SGD
SCHEDULE = Table([0.5] * 9, "float32")


def refused(error, says, function, *arguments, **settings):
    with pytest.raises(error) as raised:
        function(*arguments, **settings)
    for text in says:
        assert text in str(raised.value), str(raised.value)


class Derived(SGD):
    def update_step(self, gradient, variable, learning_rate):
        pass


class DerivedNAGD(NAGD):
    pass


def stepped(optimizer, **changes):
    """An optimizer after a step, with attributes set."""
    x = keras.Variable([1.0], name="x")
    optimizer.apply([keras.ops.ones(1)], [x])
    for name, value in changes.items():
        setattr(optimizer, name, value)
    return optimizer


def at_iterate():
    optimizer = stepped(NAGD())
    optimizer.swap_to_iterate()
    return optimizer


def wrapped(optimizer):
    return keras.optimizers.LossScaleOptimizer(optimizer)


FROM_KERAS = {
    "heavy ball": (
        lambda: SGD(momentum=0.9),
        ValueError,
        ("another method", "momentum=0.9, nesterov=False", "Begin anew with NAGD(momentum=0.9)"),
    ),
    "momentum 1": (
        lambda: SGD(momentum=1.0, nesterov=True),
        ValueError,
        ("`momentum` must be a finite number in [0, 1)", "momentum=1.0"),
    ),
    "loss scale": (
        lambda: wrapped(SGD(momentum=0.9, nesterov=True)),
        TypeError,
        ("Received: LossScaleOptimizer", "`inner_optimizer`", "`adopt(model, direction=...)`"),
    ),
    "NAGD": (NAGD, TypeError, ("Received: NAGD",)),
    "Adam": (keras.optimizers.Adam, TypeError, ("Received: Adam", "`adopt(model, direction=...)`")),
    "text": (lambda: "sgd", TypeError, ("Received: str", "keras.optimizers.SGD")),
    "None": (lambda: None, TypeError, ("Received: NoneType",)),
    "derived": (
        lambda: Derived(momentum=0.9, nesterov=True),
        TypeError,
        ("of no derived class", "Received: Derived"),
    ),
}


@pytest.mark.parametrize(("make", "error", "says"), FROM_KERAS.values(), ids=FROM_KERAS.keys())
def test_from_keras_sgd(make, error, says):
    given = make()
    before = snapshot(given) if hasattr(given, "variables") else []
    refused(error, says, convert.from_keras_sgd, given)
    assert_identical(snapshot(given) if before else [], before)


TO_KERAS = {
    "momentum schedule": (
        lambda: NAGD(momentum=SCHEDULE),
        ValueError,
        ("are numbers", "Received: a NAGD with momentum from a schedule", "Go on"),
    ),
    "momentum callable": (
        lambda: NAGD(momentum=lambda: 0.5),
        ValueError,
        ("momentum from a callable",),
    ),
    "weight decay schedule": (
        lambda: NAGD(weight_decay=SCHEDULE),
        ValueError,
        ("weight_decay from a schedule",),
    ),
    "weight decay callable": (
        lambda: NAGD(weight_decay=lambda: 0.5),
        ValueError,
        ("weight_decay from a callable",),
    ),
    "multipliers": (
        lambda: NAGD(learning_rate_multipliers={"x": 1.0, "y": 0.5}),
        ValueError,
        ("one learning rate", "learning_rate_multipliers={'y': 0.5}"),
    ),
    "scaled schedule": (
        lambda: stepped(NAGD(SCHEDULE), learning_rate=0.25),
        ValueError,
        ("a schedule of that cannot be scaled", "1 / float(optimizer.learning_rate_scale)"),
    ),
    "iterate": (at_iterate, ValueError, ("`optimizer.swap_to_lookahead()` first",)),
    "SGD": (SGD, TypeError, ("Only a NAGD", "Received: a SGD")),
    "loss scale": (
        lambda: wrapped(NAGD()),
        TypeError,
        ("Received: a LossScaleOptimizer", "`inner_optimizer`"),
    ),
    "derived": (DerivedNAGD, TypeError, ("of no derived class", "Received: a DerivedNAGD")),
}


@pytest.mark.parametrize(("make", "error", "says"), TO_KERAS.values(), ids=TO_KERAS.keys())
def test_to_keras_sgd(make, error, says):
    given = make()
    before = snapshot(given)
    refused(error, says, convert.to_keras_sgd, given)
    assert_identical(snapshot(given), before)


ADOPT = {
    "not compiled": (
        lambda: keras.Sequential([keras.layers.Dense(1)], name="mine"),
        ValueError,
        ("'mine' is not compiled", "model.compile(optimizer=NAGD(), loss=...)"),
    ),
    "no optimizer": (lambda: network(None), ValueError, ("not compiled with an optimizer",)),
    "Adam": (lambda: network("adam"), TypeError, ("Received: Adam",)),
    "NAGD": (lambda: network(NAGD()), TypeError, ("Received: NAGD",)),
    "heavy ball": (lambda: network(SGD(momentum=0.9)), ValueError, ("nesterov=False",)),
    "heavy ball, scaled": (
        lambda: network(wrapped(SGD(momentum=0.9))),
        ValueError,
        ("nesterov=False",),
    ),
    "optimizer": (SGD, TypeError, ("takes a compiled model", "Received: a SGD", "from_keras_sgd")),
}


@pytest.mark.parametrize(("make", "error", "says"), ADOPT.values(), ids=ADOPT.keys())
def test_adopt(make, error, says):
    given = make()
    before = dict(vars(given))
    config = getattr(getattr(given, "_compile_config", None), "config", {})
    config_before = dict(config)
    refused(error, says, convert.adopt, given)
    assert config == config_before
    assert all(vars(given)[name] is value for name, value in before.items())


def group(**changes):
    """A state dict whose only parameter group is changed."""
    given = state_dict()
    given["param_groups"][0].update(changes)
    return given


def two_groups(**changes):
    """A state dict of two parameter groups, the second changed."""
    given = state_dict()
    first = given["param_groups"][0]
    given["param_groups"] = [{**first, "params": [0, 1]}, {**first, "params": [2], **changes}]
    return given


def without(key):
    given = state_dict()
    del given["param_groups"][0][key]
    return given


def buffer(i, value):
    given = state_dict()
    given["state"][i] = value
    return given


def torch_variables():
    """Keras variables for the parameters of state_dict()."""
    shapes = {"conv/kernel": (1, 3, 2, 2), "dense/kernel": (3, 3), "dense/bias": (3,)}
    return [named(np.zeros(shape), path) for path, shape in shapes.items()]


ADAM = {"exp_avg": np.zeros(3), "step": 1}
TORCH_STATES = {
    "optimizer": (object, TypeError, ("Received: a object", "state dict of the optimizer")),
    "state dict of a model": (
        lambda: {"0.weight": np.ones(1)},
        TypeError,
        ("'state' and 'param_groups'", "Received: a dict", "not the optimizer or that of the"),
    ),
    "Adam": (lambda: buffer(2, ADAM), ValueError, ("keeps ['exp_avg', 'step']", "anew")),
    **{
        f"group without {key}": (
            lambda key=key: without(key),
            ValueError,
            (f"parameter groups lack ['{key}']", "another optimizer"),
        )
        for key in ("lr", "momentum", "dampening", "weight_decay", "nesterov", "params")
    },
    "weight decay": (
        lambda: group(weight_decay=0.01),
        ValueError,
        ("weight_decay=0.01", "group 0", "L2(weight_decay / 2)", "decoupled"),
    ),
    "weight decay in the second group": (
        lambda: two_groups(weight_decay=0.01),
        ValueError,
        ("in parameter group 1, weight_decay=0.01",),
    ),
    "maximize": (lambda: group(maximize=True), ValueError, ("maximize=True", "ascends")),
    "dampening": (lambda: group(dampening=0.5), ValueError, ("dampening=0.5", "group 0")),
    "heavy ball": (
        lambda: group(nesterov=False),
        ValueError,
        ("momentum=0.9, nesterov=False", "another method"),
    ),
    "two momenta": (lambda: two_groups(momentum=0.8), ValueError, ("momenta [0.9, 0.8]",)),
    "momentum 1": (lambda: group(momentum=1.0), ValueError, ("`momentum` must be", "1.0")),
    "learning rate": (lambda: group(lr=-1.0), ValueError, ("`learning_rate` must be", "-1.0")),
    "learning rate, text": (lambda: group(lr="0.1"), TypeError, ("`learning_rate` must be",)),
    "numbers of parameters": (
        lambda: group(params=[0, 1, 7]),
        ValueError,
        ("numbers them from 0",),
    ),
    "names of parameters": (lambda: group(params=["a", "b", "c"]), ValueError, ("from 0",)),
    "state of no parameter": (lambda: buffer(3, {}), ValueError, ("[0, 1, 2, 3] in the state",)),
    "two parameters": (
        lambda: {"state": {}, "param_groups": group(params=[0, 1])["param_groups"]},
        ValueError,
        ("3 variables, conv/kernel, dense/kernel, dense/bias, for the parameters [0, 1]",),
    ),
    "shape of a vector": (
        lambda: buffer(2, {"momentum_buffer": np.zeros(4)}),
        ValueError,
        ("shape (4,) for the variable dense/bias of shape (3,)", "in the order"),
    ),
    "shape of a kernel": (
        lambda: buffer(0, {"momentum_buffer": np.zeros((2, 2, 3, 1))}),
        ValueError,
        ("shape (2, 2, 3, 1), transposed by (2, 3, 1, 0)", "conv/kernel of shape (1, 3, 2, 2)"),
    ),
    "dimensions": (
        lambda: buffer(1, {"momentum_buffer": np.zeros(9)}),
        ValueError,
        ("shape (9,), transposed by (1, 0)", "dense/kernel"),
    ),
}


@pytest.mark.parametrize(("make", "error", "says"), TORCH_STATES.values(), ids=TORCH_STATES.keys())
def test_states_of_pytorch(make, error, says):
    given = make()
    before = copy.deepcopy(given) if isinstance(given, dict) else None
    variables = torch_variables()
    refused(error, says, convert.from_torch_sgd, given, variables, transposes=TRANSPOSES)
    if before is not None:
        assert repr(given) == repr(before)


def test_two_variables_of_a_path_with_different_rates():
    a, b = (named(np.zeros(3), "dense/bias") for _ in range(2))
    first = state_dict()["param_groups"][0]
    groups = [{**first, "params": [0]}, {**first, "params": [1], "lr": 0.1}]
    refused(
        ValueError,
        ("two variables of the path 'dense/bias'", "different names"),
        convert.from_torch_sgd,
        {"state": {}, "param_groups": groups},
        [a, b],
    )


ARGUMENTS = {
    "no transposes": (
        {"transposes": None},
        ValueError,
        ("Not matched: conv/kernel.", "a square matrix", "None for the same"),
    ),
    "one without a match": (
        {"transposes": {"dense": (1, 0)}},
        ValueError,
        ("Not matched: conv/kernel.",),
    ),
    "pattern for nothing": (
        {"transposes": {**TRANSPOSES, "bias": (1, 0)}},
        ValueError,
        ("'bias', which is found in the path of no variable of two", "conv/kernel, dense/kernel"),
    ),
    "no pattern": (
        {"transposes": {"(": None}},
        ValueError,
        ("regular expressions", "'('", "re.escape"),
    ),
    "axes of other dimensions": (
        {"transposes": {"kernel": (1, 0)}},
        ValueError,
        ("transposed by (1, 0)", "conv/kernel of shape (1, 3, 2, 2)"),
    ),
    "axes twice": (
        {"transposes": {"conv": (2, 2, 1, 0), "dense": None}},
        ValueError,
        ("transposed by (2, 2, 1, 0)",),
    ),
    "axes as a flag": (
        {"transposes": {**TRANSPOSES, "dense": True}},
        ValueError,
        ("transposed by True",),
    ),
    "axes as text": (
        {"transposes": {**TRANSPOSES, "dense": "10"}},
        ValueError,
        ("transposed by 10",),
    ),
    "transposes as a list": (
        {"transposes": [(1, 0)]},
        TypeError,
        ("must be a dictionary", "transposes=[(1, 0)]"),
    ),
    "keys of transposes": ({"transposes": {1: (1, 0)}}, TypeError, ("must be a dictionary",)),
    "model": (
        {"variables": keras.Sequential([])},
        TypeError,
        ("list of Keras variables", "model.trainable_variables", "a Sequential"),
    ),
    "arrays": ({"variables": [np.ones(3)]}, TypeError, ("`variables`", "a ndarray among 1")),
    "no variables": ({"variables": []}, ValueError, ("Received: 0 items",)),
    "variables twice": (
        {"variables": [named(np.zeros(3), "x")] * 2},
        ValueError,
        ("2 items, 1 different ones",),
    ),
    "other trainable_variables": (
        {"trainable_variables": [named(np.zeros(3), "other/bias")]},
        ValueError,
        ("`trainable_variables` must hold the same", "conv/kernel", "other/bias"),
    ),
    "trainable_variables of arrays": (
        {"trainable_variables": [1.0]},
        TypeError,
        ("`trainable_variables` must be a list", "a float"),
    ),
}


@pytest.mark.parametrize(("changes", "error", "says"), ARGUMENTS.values(), ids=ARGUMENTS.keys())
def test_arguments_of_from_torch_sgd(changes, error, says):
    arguments = {"variables": torch_variables(), "transposes": TRANSPOSES, **changes}
    refused(error, says, convert.from_torch_sgd, state_dict(), **arguments)


class ScaleByAdamState(NamedTuple):
    count: Any
    mu: Any
    nu: Any


class ApplyIfFiniteState(NamedTuple):
    notfinite_count: Any
    inner_state: Any


def shorter_trace():
    return (TraceState({"conv": trace()["conv"]}), EmptyState())


OPTAX = {
    "Adam": (
        {"state": (ScaleByAdamState(np.int32(1), trace(), trace()), EmptyState())},
        ValueError,
        ("a ScaleByAdamState with the fields ['count', 'mu', 'nu']", "NAGD(...)"),
    ),
    "unknown part": (
        {"state": ApplyIfFiniteState(0, state())},
        ValueError,
        ("a ApplyIfFiniteState", "pass that part"),
    ),
    "parameters": ({"state": trace()}, ValueError, ("Received: a dict with",)),
    "array": ({"state": np.ones(3)}, ValueError, ("Received: a ndarray",)),
    "no trace": (
        {"state": (EmptyState(), EmptyState())},
        ValueError,
        ("has a part with a `trace`", "without one", "momentum=0.0"),
    ),
    "two traces": ({"state": (state(), state())}, ValueError, ("a state with 2",)),
    "text": ({"state": "sgd"}, ValueError, ("a state without one",)),
    "no learning rate": (
        {"learning_rate": None},
        TypeError,
        ("does not hold the learning_rate", "learning_rate=None"),
    ),
    "no momentum": ({"momentum": None}, TypeError, ("not hold the momentum", "momentum=None")),
    "learning rate from a schedule": (
        {"state": injected(["learning_rate"]), "learning_rate": None},
        TypeError,
        ("does not hold the learning_rate", "or its schedule"),
    ),
    "no injected momentum": (
        {
            "state": InjectStatefulHyperparamsState(
                np.int32(0), {"learning_rate": 0.1}, {}, state()
            ),
            "momentum": None,
        },
        TypeError,
        ("does not hold the momentum",),
    ),
    "momentum schedule": ({"momentum": SCHEDULE}, TypeError, ("`momentum` must be",)),
    "momentum 1": ({"momentum": 1.0}, ValueError, ("`momentum` must be", "momentum=1.0")),
    "learning rate": ({"learning_rate": -0.1}, ValueError, ("`learning_rate` must be",)),
    "schedule of Optax": (
        {"learning_rate": lambda count: 0.1},
        TypeError,
        ("called without arguments", "nagd_keras.schedules.Schedule"),
    ),
    "leaves": (
        {"state": (TraceState({"x": "text"}), EmptyState())},
        ValueError,
        ("for the arrays ['x']",),
    ),
    "structure": (
        {"variables": {**keras_variables(), "more": keras.Variable([1.0])}},
        ValueError,
        ("nested like them", "'more'] for the arrays ['conv/kernel',"),
    ),
    "structure of the trace": (
        {"state": shorter_trace()},
        ValueError,
        ("'dense/weight'] for the arrays ['conv/kernel'].",),
    ),
    "missing variable": (
        {"variables": {"conv": keras_variables()["conv"]}},
        ValueError,
        ("the variables ['conv/kernel'] for the arrays ['conv/kernel', 'dense/bias',",),
    ),
    "number of variables": (
        {"variables": listed(keras_variables())[:2]},
        ValueError,
        (
            "the variables ['conv/kernel', 'dense/bias'] for the arrays ['conv/kernel',",
            "in the order",
        ),
    ),
    "order of variables": (
        {"variables": listed(keras_variables())[::-1]},
        ValueError,
        ("trace 0", "(1, 3, 2, 2) for the variable dense/kernel of shape (3, 3)"),
    ),
    "arrays": ({"variables": trace()}, TypeError, ("list of Keras variables", "a ndarray")),
    "pattern": ({"transposes": {"kernal": (1, 0)}}, ValueError, ("'kernal', which is found",)),
}


@pytest.mark.parametrize(("changes", "error", "says"), OPTAX.values(), ids=OPTAX.keys())
def test_from_optax_sgd(changes, error, says):
    arguments = {"state": state(), "variables": keras_variables(), **GIVEN, **changes}
    refused(error, says, convert.from_optax_sgd, **arguments)
