"""Lending a model for an experiment: afterwards it is as it was."""

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from nagd_keras import keras_private as private
from nagd_keras.backends.current import current
from nagd_keras.callbacks.optimizers import synchronize
from nagd_keras.tensors import tensor

_ABSENT = object()


@contextlib.contextmanager
def borrowed(model: Any) -> Iterator[Any]:
    """Gives a built model, with a built optimizer, back as it was, after an exception too.

    Restored are all of Keras' variables (weights, statistics of normalization, seed generators,
    metrics, optimizers), what `fit` sets on the model, and the random generators of Python, NumPy
    and, where Keras draws from them, PyTorch. Meanwhile each execution is one step, since Keras
    lets callbacks act only between them.
    """
    optimizers = [model.optimizer, *vars(model).values()]  # A model may train with more than one.
    held = [*model.variables, *model.metrics_variables]
    for each in optimizers:
        if isinstance(each, keras.optimizers.Optimizer):
            held += each.variables
    distinct = {id(variable): variable for variable in held}.values()
    values = [(variable, keras.ops.copy(tensor(variable))) for variable in distinct]
    attributes = {name: vars(model).get(name, _ABSENT) for name in private.SET_BY_FIT}
    try:
        private.start_at(model, None)
        if model.steps_per_execution != 1:
            model.steps_per_execution = 1
            model.make_train_function(force=True)
        with _generators_kept():
            yield model
    finally:
        synchronize(model)
        model.reset_metrics()  # for those that were not built
        for variable, value in values:
            variable.assign(value)
        if attributes["train_function"] is None and attributes["steps_per_execution"] == 1:
            del attributes["train_function"]  # What was compiled is what a fit would compile.
        for name, was in attributes.items():
            if was is not _ABSENT:
                setattr(model, name, was)
            elif name in vars(model):
                delattr(model, name)


@contextlib.contextmanager
def _generators_kept() -> Iterator[None]:
    """Gives the random generators of Python, NumPy and PyTorch back as they were."""
    held = random.getstate(), np.random.get_state()  # noqa: NPY002  It is Keras' choice.
    try:
        with current.generators_kept():  # PyTorch's loaders draw even if nothing is shuffled.
            yield
    finally:
        random.setstate(held[0])
        np.random.set_state(held[1])  # noqa: NPY002


def build(model: Any, first_inputs: Any) -> None:
    """Builds what is not built of a model and its optimizer.

    Args:
        model: a compiled model.
        first_inputs: a function that returns the inputs of a batch, called if the model needs it.
    """
    strategy = getattr(model, "distribute_strategy", None)  # which TensorFlow's models have
    with contextlib.nullcontext() if strategy is None else strategy.scope():
        if not model.built:
            model(first_inputs())
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
