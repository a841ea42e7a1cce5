"""Bad input gives an error that says what was received, what is allowed and what to do."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import keras
import numpy as np
import pytest

from nagd_keras import NAGD
from nagd_keras.schedules import LinearWarmup
from tests.support.drivers import assert_identical, snapshot, to_float64
from tests.support.limits import reason
from tests.support.problems import Table

VECTOR_SCHEDULE = Table([[0.1, 0.2]] * 3)
SCHEDULE = keras.optimizers.schedules.PolynomialDecay(0.5, 100, 0.9)


class AlwaysNaN(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return float("nan")


@dataclass(frozen=True)
class Bad:
    """Arguments that are refused, and what the message must say."""

    name: str
    settings: dict[str, Any]
    error: type[Exception]
    says: tuple[str, ...]

    def __str__(self) -> str:
        return self.name


def number(name: str, received: str) -> tuple[str, ...]:
    upper = "1" if name == "momentum" else "inf"
    return f"`{name}` must be a finite number in [0, {upper})", "Received: ", received


NAMES = ("learning_rate", "momentum", "weight_decay")
BAD_NUMBERS = [
    (-0.1, ValueError),
    (-1, ValueError),
    (float("nan"), ValueError),
    (float("inf"), ValueError),
    (np.float32("nan"), ValueError),
    (np.array(-0.5), ValueError),
    (1e39, ValueError),  # infinite in float32
    (10**400, ValueError),
    (True, TypeError),
    (np.array(True), TypeError),
    (np.array("0.5"), TypeError),
    ("0.9", TypeError),
    ([0.9], TypeError),
    (0.5 + 0j, TypeError),
    ({}, TypeError),
]
VARIABLES = {"Keras": lambda: keras.Variable(0.5)}
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    VARIABLES["TensorFlow"] = lambda: tf.Variable(0.5)
elif keras.backend.backend() == "torch":
    import torch

    VARIABLES["PyTorch"] = lambda: torch.nn.Parameter(torch.tensor(0.5))
CASES = [
    *(
        Bad(f"{name}={value!r:.12}", {name: value}, error, number(name, name))
        for name in NAMES
        for value, error in BAD_NUMBERS
    ),
    Bad(
        "weight_decay text",
        {"weight_decay": "None"},
        TypeError,
        (*number("weight_decay", "'None'"), "LearningRateSchedule", "callable without arguments"),
    ),
    *(
        Bad(f"momentum={value}", {"momentum": value}, ValueError, number("momentum", repr(value)))
        for value in (1, 1.0, 1.5, Fraction(3, 2))
    ),
    *(
        Bad(
            f"{name} schedule of vectors",
            {name: VECTOR_SCHEDULE},
            ValueError,
            (f"`{name}` must be one number", "Received: ", "the shape (2,)", "Give a scalar"),
        )
        for name in NAMES
    ),
    *(
        Bad(f"{name} array", {name: np.ones(2)}, ValueError, (name, "the shape (2,)"))
        for name in NAMES
    ),
    *(
        Bad(
            f"{name} schedule of NaN",
            {name: AlwaysNaN()},
            ValueError,
            number(name, f"at step {int(name == 'momentum')}"),
        )
        for name in NAMES
    ),
    *(
        Bad(
            f"{name} callable of the step",
            {name: lambda step: 0.1},
            TypeError,
            (name, "called without arguments", "Received: ", "'step'", "subclass"),
        )
        for name in NAMES
    ),
    Bad(
        "two clippings",
        {"clipnorm": 1.0, "clipvalue": 1.0},
        ValueError,
        ("Only one of", "Received: clipnorm=1.0, clipvalue=1.0"),
    ),
    Bad(
        "unknown argument",
        {"nesterov": True},
        TypeError,
        ("unexpected keyword argument 'nesterov'",),
    ),
    Bad(
        "a momentum that rounds to 1",
        {"momentum": 1 - 1e-9},
        ValueError,
        number("momentum", "momentum=0.999999999 (of type float; 1.0 in float32)"),
    ),
    *(
        Bad(
            f"accumulation of {steps}",
            {"gradient_accumulation_steps": steps},
            error,
            ("`gradient_accumulation_steps` must be an integer in [2, ", f"={steps!r}"),
        )
        for steps, error in ((0, ValueError), (1, ValueError), (2.5, TypeError), (True, TypeError))
    ),
    *(
        Bad(
            f"{name} variable of {kind}",
            {name: make()},
            TypeError,
            (f"`{name}` must not be a variable", "Received: ", f"set optimizer.{name} while"),
        )
        for name in NAMES
        for kind, make in VARIABLES.items()
    ),
    *(
        Bad(
            f"multiplier variable of {kind}",
            {"learning_rate_multipliers": {"x": make()}},
            TypeError,
            ("must not be a variable", "Received: ", "float(variable)"),
        )
        for kind, make in VARIABLES.items()
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_constructor(case):
    with pytest.raises(case.error) as raised:
        NAGD(**case.settings)
    for part in case.says:
        assert part in str(raised.value)


def test_a_third_positional_argument_is_refused():
    with pytest.raises(TypeError, match="positional"):
        NAGD(0.1, 0.9, 0.1)


@dataclass(frozen=True)
class BadUse:
    """Something done to a built optimizer that is refused and changes nothing."""

    name: str
    do: Callable[[Any, Any], Any]
    error: type[Exception]
    says: tuple[str, ...]
    settings: Any = None

    def __str__(self) -> str:
        return self.name


def assign(name, value):
    return lambda optimizer, variables: setattr(optimizer, name, value)


def apply(*gradients):
    return lambda optimizer, variables: optimizer.apply(
        [None if g is None else np.ones(g, "float32") for g in gradients], variables
    )


USES = [
    *(
        BadUse(f"set {name}={value!r:.12}", assign(name, value), error, number(name, name))
        for name in NAMES
        for value, error in BAD_NUMBERS
    ),
    *(BadUse(f"set {name}", assign(name, None), TypeError, number(name, "None")) for name in NAMES),
    BadUse("set momentum=1", assign("momentum", 1.0), ValueError, number("momentum", "1.0")),
    *(
        BadUse(
            f"set {name} to a vector", assign(name, np.ones(2)), ValueError, (name, "shape (2,)")
        )
        for name in NAMES
    ),
    *(
        BadUse(
            f"set {name} to a schedule",
            assign(name, SCHEDULE),
            TypeError,
            (name, "to a number only", "Received: ", "new optimizer"),
        )
        for name in NAMES
    ),
    *(
        BadUse(
            f"set {name} where it is a schedule",
            assign(name, 0.5),
            TypeError,
            (name, "made with", "PolynomialDecay", f"Received: {name}=0.5", "Make a new"),
            {name: SCHEDULE},
        )
        for name in ("momentum", "weight_decay")  # A scheduled learning rate is scaled instead.
    ),
    *(
        BadUse(
            f"set a scheduled learning rate to {value!r}",
            assign("learning_rate", value),
            error,
            ("`learning_rate` must be a finite number", f"Received: learning_rate={value!r}"),
            {"learning_rate": SCHEDULE},
        )
        for value, error in [(-0.5, ValueError), (float("nan"), ValueError), ("1", TypeError)]
    ),
    BadUse(
        "set a scheduled learning rate where the schedule is 0",
        assign("learning_rate", 0.5),
        ValueError,
        ("its value is 0 at step 0", "Received: learning_rate=0.5", "Set it at another step"),
        {"learning_rate": LinearWarmup(0.1, steps=10)},
    ),
    BadUse(
        "set weight_decay where there is none",
        assign("weight_decay", 0.5),
        TypeError,
        ("made with weight_decay=None", "Received: weight_decay=0.5", "weight_decay=0.0, to set"),
        {"weight_decay": None},
    ),
    BadUse(
        "a gradient of another shape",
        apply((2,), (4,)),
        ValueError,
        ("shape of its variable", "Received: ", "(4,)", "second", "(3,)", "order"),
    ),
    BadUse("a gradient that would broadcast", apply((2,), (1,)), ValueError, ("(1,)", "(3,)")),
    BadUse("a gradient of another rank", apply((2,), (3, 1)), ValueError, ("(3, 1)", "(3,)")),
    BadUse("too few gradients", apply((2,)), ValueError, ("1 gradients for 2 variables", "order")),
    BadUse(
        "too few gradients, variables left out",
        lambda optimizer, variables: optimizer.apply([np.ones(2, "float32")]),
        ValueError,
        ("1 gradients for 2 variables", "order"),
    ),
    BadUse(
        "no variables",
        lambda optimizer, variables: optimizer.apply([np.ones(2, "float32")], []),
        ValueError,
        ("1 gradients for 0 variables",),
    ),
    BadUse("no gradient at all", apply(None, None), ValueError, ("No gradients provided",)),
    BadUse(
        "a variable that it was not built for",
        lambda optimizer, variables: optimizer.apply(
            [np.ones(2, "float32"), np.ones(1, "float32")],
            [variables[0], keras.Variable([1.0], name="stranger")],
        ),
        ValueError,
        ("Unknown variable", "stranger", "originally built with", "recreate a new optimizer"),
    ),
    *(
        BadUse(
            f"{name} callable that gives {value!r}",
            apply((2,), (3,)),
            error,
            (*number(name, f"{value!r} from <function"), f"of type {type(value).__name__}"),
            {name: lambda value=value: value},
        )
        for name in NAMES
        for value, error in [
            (-0.5, ValueError),
            (float("nan"), ValueError),
            (True, TypeError),
            (None, TypeError),
        ]
    ),
    BadUse(
        "a callable that gives a vector",
        apply((2,), (3,)),
        ValueError,
        ("`momentum` must be one number", "(2,)"),
        {"momentum": lambda: np.ones(2, "float32")},
    ),
]


@pytest.mark.keep(20)
@pytest.mark.parametrize("use", USES, ids=str)
def test_use_leaves_everything_as_it_was(use):
    variables = [
        keras.Variable(np.ones(2, "float32"), name="first"),
        keras.Variable(np.ones(3, "float32"), name="second"),
    ]
    settings = {"learning_rate": 0.1, "momentum": 0.5, "weight_decay": 0.25, **(use.settings or {})}
    optimizer = NAGD(**settings)
    optimizer.build(variables)
    before = snapshot(variables, optimizer)
    with pytest.raises(use.error) as raised:
        use.do(optimizer, variables)
    for part in use.says:
        assert part in str(raised.value)
    assert_identical(snapshot(variables, optimizer), before)


@pytest.mark.parametrize("schedule", [VECTOR_SCHEDULE, AlwaysNaN()])
def test_a_bad_schedule_does_not_replace_the_learning_rate(schedule):
    optimizer = NAGD(0.25)
    with pytest.raises(ValueError, match="learning_rate"):
        optimizer.learning_rate = schedule
    assert float(optimizer.learning_rate) == 0.25


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.function is TensorFlow's")
def test_inside_a_compiled_step():
    import tensorflow as tf

    variable = keras.Variable([1.0, 1.0])
    optimizer = NAGD(0.1, 0.5)
    optimizer.build([variable])

    @tf.function
    def set_momentum():
        optimizer.momentum = tf.ones(2)

    @tf.function(input_signature=[tf.TensorSpec(None)])
    def set_unknown(momentum):
        optimizer.momentum = momentum

    @tf.function(input_signature=[tf.TensorSpec(None)])
    def unknown_rank(gradient):
        optimizer.apply([gradient])

    @tf.function(input_signature=[tf.TensorSpec([None])])
    def unknown_length(gradient):
        optimizer.apply([gradient])

    before = snapshot([variable], optimizer)
    with pytest.raises(ValueError, match=r"`momentum` must be one number.*shape \(2,\)"):
        set_momentum()
    assert_identical(snapshot([variable], optimizer), before)
    for step in (unknown_rank, unknown_length):
        with pytest.raises(tf.errors.InvalidArgumentError):  # the arithmetic's own error
            step(tf.ones(3))
    np.testing.assert_array_equal(variable.numpy(), [1.0, 1.0])
    np.testing.assert_array_equal(optimizer.displacements[0].numpy(), [0.0, 0.0])
    set_unknown(tf.constant(0.25))
    assert float(optimizer.momentum) == 0.25
    age = int(optimizer.age)
    for step in (unknown_rank, unknown_length):
        step(tf.ones(2))
    assert int(optimizer.age) == age + 2


def test_an_optimizer_that_is_not_built_stays_so():
    optimizer = NAGD()
    with pytest.raises(ValueError, match="shape of its variable"):
        optimizer.apply([np.ones(3, "float32")], [keras.Variable(np.ones(2, "float32"))])
    assert not optimizer.built
    with pytest.raises(ValueError, match="must already be built"):
        optimizer.apply([np.ones(3, "float32")])


@pytest.mark.parametrize("run_eagerly", [True, False])
def test_in_fit_the_model_stays_as_it_was(rng, run_eagerly):
    """A schedule that goes wrong is found before anything is updated."""

    class Grows(keras.optimizers.schedules.LearningRateSchedule):
        calls = 0

        def __call__(self, step):
            self.calls += 1
            return 0.5 if self.calls == 1 else keras.ops.ones(3)

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(
        optimizer=NAGD(0.1, Grows(), weight_decay=0.5), loss="mse", run_eagerly=run_eagerly
    )
    before = snapshot(model)
    with pytest.raises(ValueError, match="`momentum` must be one number"):
        model.fit(rng.normal(size=(8, 3)), rng.normal(size=(8, 1)), verbose=0)
    if not reason("a model after a failed step"):
        assert_identical(snapshot(model), before)


def test_a_build_that_fails_can_be_repeated(monkeypatch):
    """As one that is interrupted, or that is called outside the variables' strategy."""
    optimizer, untouched = NAGD(use_ema=True), NAGD(use_ema=True)
    variables = [keras.Variable([1.0]), keras.Variable([2.0])]
    add = NAGD.add_variable_from_reference

    def fails(self, reference, **settings):
        if reference is variables[1]:
            raise KeyboardInterrupt
        return add(self, reference, **settings)

    monkeypatch.setattr(NAGD, "add_variable_from_reference", fails)
    with pytest.raises(KeyboardInterrupt):
        optimizer.build(variables)
    monkeypatch.undo()
    optimizer.apply([np.array([1.0], "float32")] * 2, variables)
    found = [to_float64(v)[0] for v in variables]
    np.testing.assert_allclose(found, [0.981, 1.981], rtol=1e-6)
    assert len(optimizer.displacements) == 2
    untouched.build(variables)  # A saved state goes by the number and order of the variables.
    assert [v.name for v in optimizer.variables] == [v.name for v in untouched.variables]
