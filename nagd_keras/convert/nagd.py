"""From NAGD to NAGD: for a model that has changed, or with other settings."""

from collections.abc import Iterable
from typing import Any

from nagd_keras import keras_private as private
from nagd_keras.convert.carrying import check_at_lookahead, copy_state
from nagd_keras.nagd import NAGD
from nagd_keras.state.matching import paths_of


def from_nagd(optimizer: NAGD, variables: Iterable[Any], **changes: Any) -> NAGD:
    """Returns a NAGD for other variables, with the state of those that stayed.

    Use it when a model gets a new head, loses a layer, or trains on with other settings. A variable
    has stayed if it is the same object. If none is, as in a model that was made again, a variable
    has stayed if its layer has the same name. It keeps its displacement, and its average and
    accumulated gradient if both optimizers have them. A new variable begins with displacement zero,
    no accumulated gradient, and itself as its average. Counters, hyperparameters and exclusions
    from weight decay go on as they are.

    Args:
        optimizer: the NAGD, built. It stays as it is; train with only one of the two.
        variables: the variables to train from now on, mostly `model.trainable_variables`.
        changes: arguments of `NAGD` to change.

    Raises:
        TypeError: if the first argument is not a NAGD, or for an unknown change.
        ValueError: if the NAGD is not built, if the variables hold the iterate, if no variable
            stayed, or if one with the same path has another shape.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> from nagd_keras import NAGD, convert
        >>> body = keras.layers.Dense(4, name="body")
        >>> model = keras.Sequential([keras.Input((2,)), body, keras.layers.Dense(1)])
        >>> model.compile(optimizer=NAGD(), loss="mse")
        >>> history = model.fit(np.eye(2), np.ones((2, 1)), verbose=0)
        >>> tuned = keras.Sequential([keras.Input((2,)), body, keras.layers.Dense(3, name="head")])
        >>> optimizer = convert.from_nagd(
        ...     model.optimizer, tuned.trainable_variables, learning_rate=0.001
        ... )
        >>> tuned.compile(optimizer=optimizer, loss="mse")
        >>> int(tuned.optimizer.age)
        1
    """
    if not isinstance(optimizer, NAGD):
        raise TypeError(
            f"The optimizer must be a NAGD. Received: a {type(optimizer).__name__}. For Keras' "
            "SGD, use `from_keras_sgd`; of a LossScaleOptimizer, pass `inner_optimizer`."
        )
    variables = optimizer._state.natives.as_keras(variables)
    if not optimizer.built:
        raise ValueError(
            "A NAGD that is not built has no state to keep. Received: one that knows no variables. "
            "Train with it first, load its state, or make a new one."
        )
    check_at_lookahead(optimizer)
    places = _stayed(optimizer, variables)
    new = type(optimizer).from_config({**optimizer.get_config(), **changes})
    trained = optimizer._state.trained
    new.exclude_from_weight_decay(
        [
            variable
            for variable, i in zip(variables, places, strict=True)
            if i is not None and not private.decays(optimizer, trained[i])
        ]
    )
    new.build(variables)
    copy_state(optimizer, new, places, changes)
    new._state.from_config = False  # Its settings are the caller's, not those of a file.
    return new


def _stayed(optimizer: NAGD, variables: list[Any]) -> list[int | None]:
    """Returns the places that variables had among those of an optimizer, or None."""
    trained = optimizer._state.trained
    places = {id(variable): i for i, variable in enumerate(trained)}
    old = [places.get(id(variable)) for variable in variables]
    if all(i is None for i in old):
        # A new head may have the name that an old one had, so names count only where nothing else
        # tells; that of the model around the layers, which Keras made up perhaps, never does.
        by_name = {name: i for i, name in enumerate(_names(trained))}
        old = [by_name.get(name) for name in _names(variables)]
    if all(i is None for i in old):
        raise ValueError(
            "None of the variables is one that this NAGD has trained, or has the path of one. "
            f"Received: {', '.join(paths_of(variables)) or 'no variables'}; the optimizer has "
            f"{', '.join(paths_of(trained))}. For another model, make a new NAGD."
        )
    for variable, i in zip(variables, old, strict=True):
        if i is not None and tuple(variable.shape) != tuple(trained[i].shape):
            raise ValueError(
                f"The variable {variable.path} has another shape than the one of that name that "
                f"this NAGD has trained. Received: {tuple(variable.shape)} for "
                f"{tuple(trained[i].shape)}. Give the new layer another name."
            )
    return old


def _names(variables: list[Any]) -> list[str]:
    """Returns the paths without the outermost name, if they are different then too."""
    paths = paths_of(variables)
    names = ["/".join(path.split("/")[-2:]) for path in paths]
    return names if len(set(names)) == len(names) else paths
