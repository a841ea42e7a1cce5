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
    "__init__": {"_backend", "nagd", "callbacks", "convert", "saving", "schedules"},
    "_backend": set(),
    "_tensorflow": set(),
    "backends": {"_tensorflow"},
    "update_rule": set(),
    "tensors": set(),
    "figures": set(),
    "step": {"update_rule"},
    "kernels": {"kernels", "restart", "step", "update_rule"},
    "restart": set(),
    "decisions": {"live", "points", "restart", "tensors"},
    "clipping": {"kernels", "tensors"},
    "gradients": {"kernels", "tensors"},
    "hyperparameters": {"tensors"},
    "arguments": {"hyperparameters"},
    "multipliers": {"hyperparameters"},
    "points": {"update_rule", "tensors"},
    "state": set(),
    "persistence": {"backends", "points", "state", "tensors"},
    "saving": {"nagd", "state", "tensors"},
    "live": {"update_rule", "tensors", "hyperparameters"},
    "updates": {
        "backends",
        "clipping",
        "decisions",
        "gradients",
        "kernels",
        "multipliers",
        "step",
        "tensors",
        "update_rule",
    },
    "replicas": {"backends", "tensors", "updates"},
    "nagd": {
        "replicas",
        "update_rule",
        "tensors",
        "arguments",
        "clipping",
        "gradients",
        "hyperparameters",
        "kernels",
        "live",
        "multipliers",
        "points",
        "restart",
        "backends",
        "persistence",
        "step",
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
    "convert": {"convert", "nagd", "hyperparameters", "state", "tensors"},
}
# Packages that only one module may import, as they may be absent.
OPTIONAL = {
    "figures": {"matplotlib"},
    "_tensorflow": {"tensorflow"},
    "callbacks._jax": {"jax"},
    "callbacks._tensorflow": {"tensorflow"},
    "callbacks._torch": {"torch"},
    "kernels.tensorflow": {"tensorflow"},
    "kernels.tensorflow_chunks": {"tensorflow"},
    "kernels.torch": {"torch"},
}
# The private modules of Keras that are imported; there is a comment why.
KERAS_SOURCES = {("backends", "keras.src.backend.in_stateless_scope")}
# What NAGD uses of Keras that is not documented; see the comments where it does.
PRIVATE = {
    "_accumulated_gradients",
    "_apply_weight_decay",
    "_backend_apply_gradients",
    "_backend_increment_gradient_accumulators",
    "_backend_reset_gradient_accumulators",
    "_backend_update_step",
    "_clip_gradients",
    "_exclude_from_weight_decay",
    "_exclude_from_weight_decay_pattern",
    "_get_variable_index",
    "_iterations",
    "_learning_rate",
    "_model_variables_moving_average",
    "_overwrite_model_variables_with_average_value",
    "_trainable_variables",
    "_update_model_variables_moving_average",
    "_use_weight_decay",
    "_variables",
}
if keras.backend.backend() == "tensorflow":  # whose optimizers have them, for `tf.distribute`
    PRIVATE |= {
        "_all_reduce_sum_gradients",
        "_distributed_tf_update_step",
        "_distribution_strategy",
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
                allowed = {*sys.stdlib_module_names, "keras", "numpy", *OPTIONAL.get(name, ())}
                assert package in allowed, f"{name} imports {full}"
                if (name, full) not in KERAS_SOURCES:
                    assert not full.startswith("keras.src"), "Keras' public names only"


@pytest.mark.parametrize("name", ["", "schedules.", "callbacks.", "convert."])
def test_init_only_re_exports(name):
    for node in modules()[f"{name}__init__"].body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        assert docstring or isinstance(node, (ast.ImportFrom, ast.Assign))


@pytest.mark.parametrize(
    "package", [nagd_keras, nagd_keras.schedules, nagd_keras.callbacks, nagd_keras.convert]
)
def test_all_is_sorted_and_there(package):
    assert sorted(package.__all__) == list(package.__all__)
    assert all(hasattr(package, name) for name in package.__all__)


def settled_sgd():
    """An SGD that has all the attributes that Keras makes when they are needed."""
    sgd = keras.optimizers.SGD(momentum=0.5, use_ema=True, gradient_accumulation_steps=2)
    sgd.exclude_from_weight_decay(var_names=["bias"])
    sgd.build([keras.Variable([1.0])])
    return sgd


def used_of_keras():
    """The private names that NAGD and what goes with it use, and Keras' optimizers have.

    In text too: `convert` reads and sets attributes by their names.
    """
    sgd = settled_sgd()
    names = set()
    names_of_modules = (
        "backends",
        "nagd",
        "replicas",
        "updates",
        "decisions",
        "live",
        "persistence",
        "callbacks.optimizers",
    )
    places = [node for name in names_of_modules for node in modules()[name].body]
    for name, tree in modules().items():
        if name.startswith("convert."):
            places += tree.body
    for place in places:
        for node in ast.walk(place):
            name = getattr(node, "attr", getattr(node, "name", getattr(node, "value", None)))
            kinds = (ast.FunctionDef, ast.Attribute, ast.Constant)
            if isinstance(node, kinds) and isinstance(name, str) and re.match("_[a-z]", name):
                names.add(name)
    return {name for name in names if hasattr(sgd, name)}


def test_keras_private_surface_is_what_is_listed():
    assert used_of_keras() == PRIVATE


@pytest.mark.parametrize("name", sorted(PRIVATE))
def test_keras_has_what_nagd_uses(name):
    assert hasattr(settled_sgd(), name)


def test_a_compiled_model_has_what_convert_uses():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(optimizer="sgd")
    assert model._compile_config.config["optimizer"] is model.optimizer
    assert "train_function" in vars(model)


def test_convert_uses_private_names_in_one_place():
    for name, tree in modules().items():
        if name.startswith("convert.") and name != "convert._state":
            for node in ast.walk(tree):
                private = isinstance(node, ast.Attribute) and node.attr.startswith("_")
                assert not private or node.attr in ("_fields", "__name__", "__new__"), node.attr


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
    updates = 6 if accumulation is None else 2
    # On JAX Keras updates with each batch, and takes what comes out of it only where it is due.
    assert calls == [4] * (6 if keras.backend.backend() == "jax" else updates)
    assert int(optimizer.age) == updates
