"""Every private name of Keras that this package touches, once.

Held by a test against each supported version, 3.10 to 3.15, and against what the package uses.
"""

from collections.abc import Sequence
from typing import Any

# A kernel that writes in place must not do so in a stateless scope, which any code around an
# optimizer may open. Keras has no public name that tells.
from keras.src.backend import in_stateless_scope as in_stateless_scope
from keras.src.backend.common.global_state import get_global_attribute
from keras.src.random.seed_generator import global_seed_generator

# What `exclude_from_weight_decay` was told before the variables were known.
EXCLUSIONS = ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern")

# What `fit` sets on a model. The last is Keras' own: BackupAndRestore leaves the epoch there at
# which the next fit begins.
SET_BY_FIT = "history", "stop_training", "train_function", "steps_per_execution", "_initial_epoch"

# Of an optimizer


def batches(optimizer: Any) -> Any:
    """Returns the variable that counts batches; `iterations` counts updates."""
    return optimizer._iterations


def all_variables(optimizer: Any) -> list[Any]:
    """Returns the list itself in which an optimizer keeps its variables."""
    return optimizer._variables  # type: ignore[no-any-return]


def trained(optimizer: Any) -> list[Any]:
    """Returns the model's variables that an optimizer was built for."""
    return optimizer._trainable_variables  # type: ignore[no-any-return]


def place(optimizer: Any, variable: Any) -> int:
    """Returns the place of a variable, a native one too, among those."""
    return optimizer._get_variable_index(variable)  # type: ignore[no-any-return]


def key(optimizer: Any, native: Any) -> Any:
    """Returns what an optimizer knows a native variable by."""
    return optimizer._var_key(native)


def check_known(optimizer: Any, variables: Sequence[Any]) -> None:
    """Raises Keras' ValueError if an optimizer was not built for one of the variables."""
    optimizer._check_variables_are_known(variables)


def with_gradients(
    optimizer: Any, gradients: Sequence[Any], variables: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """Returns those that have a gradient; warns of others, and raises if there is none."""
    return optimizer._filter_empty_gradients(gradients, variables)  # type: ignore[no-any-return]


def overwritten(
    optimizer: Any, gradients: Sequence[Any], variables: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """Sets the variables whose "gradients" are their new values; returns the others."""
    found: tuple[list[Any], list[Any]] = optimizer._overwrite_variables_directly_with_gradients(
        gradients, variables
    )
    return found


def decays(optimizer: Any, variable: Any) -> bool:
    """Whether a variable is not excluded from weight decay."""
    return optimizer._use_weight_decay(variable)  # type: ignore[no-any-return]


def strategy(optimizer: Any) -> Any:
    """Returns the `tf.distribute` strategy in whose scope an optimizer was made, or None."""
    return getattr(optimizer, "_distribution_strategy", None)


def learning_rate_source(optimizer: Any) -> Any:
    """Returns what gives one of Keras' optimizers its learning rate."""
    return optimizer._learning_rate


def slots(optimizer: Any, name: str) -> list[Any]:
    """Returns the "average" or "gradient_accumulator" slots of a built optimizer."""
    attributes = {
        "average": "_model_variables_moving_average",
        "gradient_accumulator": "_accumulated_gradients",
    }
    return list(getattr(optimizer, attributes[name], ()))


# Of a variable


def layout(variable: Any) -> Any:
    """Returns how a variable lies on the devices, where it is spread over some."""
    return getattr(variable, "_layout", None)


def raw_value(variable: Any) -> Any:
    """Returns what `variable.value` gives outside of stateless scopes and layers, or None.

    `value` looks for those: with hundreds of small variables, for longer than an update takes.
    """
    return getattr(variable, "_value", None)


def call(variable: Any, name: str, constraint: Any = None) -> None:
    """Gives a variable a name, and a constraint, such as Keras' constructor and setter refuse.

    Native variables may have a path as their name, and any function as their constraint.
    """
    variable._name = variable._path = name
    variable._constraint = constraint


# Of all models


def global_seed() -> Any:
    """Returns the variable that random numbers without a generator of their own come from.

    None if none was drawn yet.
    """
    return getattr(get_global_attribute("global_seed_generator"), "state", None)


def make_global_seed() -> Any:
    """Returns that variable, made now if need be."""
    return global_seed_generator().state


# Of a model


def compile_settings(model: Any) -> dict[str, Any]:
    """Returns the arguments of `compile`, from which a saved model is compiled again."""
    return getattr(getattr(model, "_compile_config", None), "config", {})


def start_at(model: Any, epoch: int | None) -> None:
    """Has `fit` begin with an epoch, as Keras' BackupAndRestore does; None forgets it."""
    model._initial_epoch = epoch
