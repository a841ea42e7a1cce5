"""The mathematics stands once, imports run one way, and Keras' private surface is small."""

import ast
import re
import sys
from pathlib import Path

import keras
import pytest

import nagd_keras
from nagd_keras import NAGD

PACKAGE = Path(nagd_keras.__file__).parent
# What each module, or each module of a package, may import of this package; besides it all may
# import the standard library, keras and numpy.
LAYERS = {
    "__init__": {"_backend", "nagd", "callbacks", "saving", "schedules"},
    "_backend": set(),
    "_tensorflow": set(),
    "backends": {"_tensorflow"},
    "update_rule": set(),
    "tensors": set(),
    "figures": set(),
    "gradients": {"tensors"},
    "hyperparameters": {"tensors"},
    "arguments": {"hyperparameters"},
    "multipliers": {"hyperparameters"},
    "points": {"update_rule", "tensors"},
    "state": set(),
    "persistence": {"backends", "points", "state"},
    "saving": {"nagd", "state"},
    "live": {"update_rule", "tensors", "hyperparameters"},
    "nagd": {
        "update_rule",
        "tensors",
        "gradients",
        "hyperparameters",
        "live",
        "multipliers",
        "points",
        "backends",
        "persistence",
    },
    "schedules": {"schedules", "arguments", "hyperparameters", "figures"},
    "callbacks": {
        "callbacks",
        "schedules",
        "nagd",
        "saving",
        "arguments",
        "hyperparameters",
        "tensors",
        "figures",
    },
}
# Packages that only one module may import, as they may be absent.
OPTIONAL = {"figures": {"matplotlib"}, "_tensorflow": {"tensorflow"}}
# What NAGD uses of Keras that is not documented; see the comments where it does.
PRIVATE = {
    "_accumulated_gradients",
    "_model_variables_moving_average",
    "_apply_weight_decay",
    "_backend_update_step",
    "_clip_gradients",
    "_get_variable_index",
    "_iterations",
    "_learning_rate",
    "_trainable_variables",
    "_use_weight_decay",
    "_variables",
}


def modules():
    """The syntax trees of all modules, by their dotted names within the package."""
    paths = {path.relative_to(PACKAGE).with_suffix(""): path for path in PACKAGE.rglob("*.py")}
    return {".".join(name.parts): ast.parse(path.read_text()) for name, path in paths.items()}


def imported(tree):
    """The full names of the modules that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            # "from nagd_keras import nagd" imports a module; "from a.b import c" may.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_imports_run_one_way():
    assert {name.partition(".")[0] for name in modules()} == set(LAYERS)
    for name, tree in modules().items():
        layer = name.partition(".")[0]
        for full in imported(tree):
            package, _, rest = full.partition(".")
            if package == "nagd_keras":
                assert rest.partition(".")[0] in LAYERS[layer], f"{name} imports {full}"
            else:
                allowed = {*sys.stdlib_module_names, "keras", "numpy", *OPTIONAL.get(layer, ())}
                assert package in allowed, f"{name} imports {full}"
                assert not full.startswith("keras.src"), "Keras' public names only"


@pytest.mark.parametrize("name", ["__init__", "schedules.__init__", "callbacks.__init__"])
def test_init_only_re_exports(name):
    for node in modules()[name].body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        assert docstring or isinstance(node, (ast.ImportFrom, ast.Assign))


@pytest.mark.parametrize("package", [nagd_keras, nagd_keras.schedules, nagd_keras.callbacks])
def test_all_is_sorted_and_there(package):
    assert sorted(package.__all__) == list(package.__all__)
    assert all(hasattr(package, name) for name in package.__all__)


def keras_sgd():
    """An optimizer of Keras' that has all kinds of state."""
    optimizer = keras.optimizers.SGD(use_ema=True, gradient_accumulation_steps=2)
    optimizer.build([keras.Variable([1.0])])
    return optimizer


def used_of_keras():
    """The private names in class NAGD that Keras' optimizers have."""
    sgd = keras_sgd()
    names = set()
    names_of_modules = ("nagd", "live", "persistence", "callbacks.optimizers")
    places = [node for name in names_of_modules for node in modules()[name].body]
    for cls in (node for node in places if isinstance(node, (ast.ClassDef, ast.FunctionDef))):
        for node in ast.walk(cls):
            name = getattr(node, "attr", getattr(node, "name", getattr(node, "value", None)))
            named = isinstance(node, (ast.FunctionDef, ast.Attribute, ast.Constant))
            if named and isinstance(name, str) and re.match("_[a-z]", name):
                names.add(name)
    return {name for name in names if hasattr(sgd, name)}


def test_keras_private_surface_is_what_is_listed():
    assert used_of_keras() == PRIVATE


@pytest.mark.parametrize("name", sorted(PRIVATE))
def test_keras_has_what_nagd_uses(name):
    assert hasattr(keras_sgd(), name)


@pytest.mark.parametrize("accumulation", [None, 3])
def test_keras_comes_through_the_update_hook_once_per_update(monkeypatch, accumulation):
    calls = []
    hook = NAGD._backend_update_step

    def counted(self, grads, trainable_variables, learning_rate):
        calls.append(len(grads))
        hook(self, grads, trainable_variables, learning_rate)

    monkeypatch.setattr(NAGD, "_backend_update_step", counted)
    optimizer = NAGD(weight_decay=0.5, gradient_accumulation_steps=accumulation)
    variables = [keras.Variable([1.0]) for _ in range(4)]
    for _ in range(6):
        optimizer.apply([keras.ops.ones(1)] * 4, variables)
    assert calls == [4] * (6 if accumulation is None else 2)
    assert int(optimizer.age) == len(calls)
