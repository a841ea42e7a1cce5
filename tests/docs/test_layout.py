"""The mathematics stands once, imports run one way, and Keras' private surface is small."""

import ast
import functools
import re
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import nagd_keras
from nagd_keras import NAGD

PACKAGE = Path(nagd_keras.__file__).parent
# What each module, or each module of a package, may import of this package; besides it all may
# import the standard library, keras and numpy.
LAYERS = {
    "__init__": {"_backend", "callbacks", "convert", "directions", "nagd", "saving", "schedules"},
    "_backend": set(),
    "keras_private": set(),
    "tensors": set(),
    "figures": set(),
    "rules": {"rules"},
    "scalar": {"backends", "tensors"},
    "hyperparameters": {"backends", "scalar", "tensors"},
    "arguments": {"hyperparameters"},
    "multipliers": {"arguments"},
    "backends": {"backends", "keras_private", "tensors"},
    "directions": {"arguments", "directions", "rules"},
    "state": {
        "backends",
        "hyperparameters",
        "keras_private",
        "rules",
        "scalar",
        "state",
        "tensors",
    },
    "engine": {"backends", "directions", "engine", "keras_private", "rules", "state", "tensors"},
    "nagd": {
        "arguments",
        "backends",
        "directions",
        "engine",
        "hyperparameters",
        "keras_private",
        "multipliers",
        "rules",
        "scalar",
        "state",
        "tensors",
    },
    "saving": {"keras_private", "nagd", "tensors"},
    "schedules": {"arguments", "figures", "hyperparameters", "schedules"},
    "convert": {
        "arguments",
        "convert",
        "directions",
        "hyperparameters",
        "keras_private",
        "nagd",
        "state",
        "tensors",
    },
    "callbacks": {
        "arguments",
        "backends",
        "callbacks",
        "figures",
        "hyperparameters",
        "keras_private",
        "nagd",
        "saving",
        "schedules",
        "state",
        "tensors",
    },
}
# Packages that only one module may import, most of which may be absent.
OPTIONAL = {
    "figures": {"matplotlib"},
    "saving": {"h5py"},  # which Keras brings
    "backends.jax": {"jax"},
    "backends.tensorflow": {"tensorflow"},
    "backends.tensorflow_rows": {"tensorflow"},
    "backends.torch": {"torch"},
    "engine.kernels.tensorflow": {"tensorflow"},
    "engine.kernels.tensorflow_chunks": {"tensorflow"},
    "engine.kernels.tensorflow_directions": {"tensorflow"},
    "engine.kernels.tensorflow_restart": {"tensorflow"},
    "engine.kernels.torch": {"torch"},
    "engine.kernels.torch_ways": {"torch"},
}
PUBLIC = "callbacks", "convert", "directions", "schedules"
PRIVATE = "keras_private"  # the one module that may touch what Keras does not document


@functools.cache
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
                if name != PRIVATE:
                    assert not full.startswith("keras.src"), "Keras' public names only"


@pytest.mark.parametrize("name", ["", "schedules.", "callbacks.", "convert.", "directions."])
def test_init_only_re_exports(name):
    for node in modules()[f"{name}__init__"].body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        listing = isinstance(node, ast.FunctionDef) and node.name == "__dir__"
        assert docstring or listing or isinstance(node, (ast.ImportFrom, ast.Assign))


@pytest.mark.parametrize(
    "package", [getattr(nagd_keras, name, nagd_keras) for name in ("", *PUBLIC)]
)
def test_all_is_sorted_and_there(package):
    assert sorted(package.__all__) == list(package.__all__)
    assert all(hasattr(package, name) for name in package.__all__)


@functools.cache
def keras_objects():
    """Objects of Keras' that have all the attributes that it makes when they are needed."""
    optimizer = keras.optimizers.SGD(momentum=0.5, use_ema=True, gradient_accumulation_steps=2)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(optimizer=optimizer, loss="mse")
    optimizer.build(model.trainable_variables)
    model._initial_epoch = None  # which BackupAndRestore sets
    variable = model.trainable_variables[0]
    return [optimizer, model, variable, variable.value, keras.callbacks.Callback()]


def of_keras(names):
    """Those of the names that an object of Keras' has."""
    objects = keras_objects()
    return {name for name in names if any(hasattr(each, name) for each in objects)}


def private_names(tree):
    """The private names that a module uses: attributes, and text, by which some are reached.

    What an object has by `self` is its own, unless it is an optimizer of Keras'.
    """
    names = set()

    def walk(node, plain):
        if isinstance(node, ast.ClassDef):
            bases = [ast.unparse(base) for base in node.bases]
            plain = not any(base.endswith("Optimizer") for base in bases)
        if isinstance(node, ast.Attribute):
            by_self = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if not (by_self and plain):
                names.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.add(node.value)
        for child in ast.iter_child_nodes(node):
            walk(child, plain)

    walk(tree, True)
    return {name for name in names if re.fullmatch("_[a-z][a-z_]*", name)}


def test_only_one_module_touches_private_names_of_keras():
    for name, tree in modules().items():
        if name != PRIVATE:
            assert not of_keras(private_names(tree)), name


@pytest.mark.parametrize("name", sorted(private_names(modules()[PRIVATE])))
def test_keras_has_what_is_used(name):
    if name.startswith("_distribut") and keras.backend.backend() != "tensorflow":
        pytest.skip("TensorFlow's optimizers and variables have it")
    if name == "_layout" and keras.backend.backend() != "jax":
        pytest.skip("JAX' variables have it, and in newer versions others")
    assert of_keras({name}) == {name}


def test_a_private_name_elsewhere_is_found():
    """Reached from outside, as text, or overridden."""
    for source in (
        "def f(optimizer): return optimizer._iterations",
        "def f(optimizer): return getattr(optimizer, '_trainable_variables')",
        "class A(keras.optimizers.Optimizer):\n def f(self): self._variables",
    ):
        assert of_keras(private_names(ast.parse(source)))
    assert not of_keras(private_names(ast.parse("class A:\n def f(self): self._variables")))


def test_one_class_is_an_optimizer_of_keras():
    found = [
        f"{name}.{node.name}"
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and any(ast.unparse(base).endswith("Optimizer") for base in node.bases)
    ]
    assert found == ["nagd.NAGD"]


def test_no_private_hook_of_keras_is_overridden():
    defined = {name for name in vars(NAGD) if name.startswith("_") and not name.startswith("__")}
    assert not defined & {
        name for each in keras.optimizers.Optimizer.__mro__ for name in vars(each)
    }


def test_no_class_declares_what_another_one_sets():
    """Attributes without a value in a class body are declared for a mixin."""
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and len(node.bases) > 1:
                raise AssertionError(f"{name}.{node.name} derives from several classes")


def test_files_and_functions_are_short():
    """One idea each."""
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 300 or path.name == "nagd.py", path
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                length = node.end_lineno - body[0].lineno + 1 if body else 0
                assert length <= 60, f"{name}.{node.name}"


@pytest.mark.parametrize("name", [*PUBLIC, "saving"])
def test_a_public_module_shows_its_public_names_only(name):
    """Completion offers `dir`."""
    module = getattr(nagd_keras, name)
    assert dir(module) == list(module.__all__) == sorted(module.__all__)
    assert all(hasattr(module, each) for each in module.__all__)


def test_the_package_shows_its_public_names_only():
    assert set(dir(nagd_keras)) == {*nagd_keras.__all__, "__version__"}


def test_the_optimizer_has_no_public_names_but_those_that_it_documents():
    """Beside those of every optimizer of Keras'."""
    optimizer = NAGD(skip_nonfinite=True)
    names = {name for name in dir(optimizer) if not name.startswith("_")}
    documented = {name for name in names if getattr(vars(NAGD).get(name), "__doc__", None)}
    attributes = NAGD.__doc__.partition("Attributes:")[2].partition("Raises:")[0]
    documented |= set(re.findall(r"^ +(\w+):", attributes, re.MULTILINE))
    assert names - documented - set(dir(keras.optimizers.SGD())) == set()


def test_keras_hooks_are_its_own():
    """Those that a derived class of one's own may call do what Keras says."""
    optimizer = NAGD(clipvalue=0.5)
    (clipped,) = optimizer._clip_gradients([keras.ops.ones(2)])
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(clipped), [0.5, 0.5])
