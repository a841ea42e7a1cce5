"""Borrowing a model for an experiment: afterwards it is as it was."""

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from nagd_keras import keras_private as private
from nagd_keras.backends.current import current
from nagd_keras.callbacks.optimizers import synchronize
from nagd_keras.nagd import NAGD
from nagd_keras.tensors import tensor


@contextlib.contextmanager
def stepwise(model: Any) -> Iterator[Any]:
    """Makes each execution one step, since Keras lets callbacks act only between executions.

    Afterwards the model has what `fit` sets on it as before, even after an exception.
    """
    attributes = {name: vars(model)[name] for name in private.SET_BY_FIT if name in vars(model)}
    try:
        private.start_at(model, None)
        if model.steps_per_execution != 1:
            model.steps_per_execution = 1
            model.make_train_function(force=True)
        yield model
    finally:
        if attributes["train_function"] is None and attributes["steps_per_execution"] == 1:
            # What was compiled is what a fit would compile.
            attributes["train_function"] = model.train_function
        for name in private.SET_BY_FIT:
            if name in attributes:
                setattr(model, name, attributes[name])
            elif name in vars(model):
                delattr(model, name)


@contextlib.contextmanager
def borrowed(model: Any) -> Iterator[Any]:
    """Gives a built model, with a built optimizer, back as it was, even after an exception.

    It restores all of Keras' variables (weights, statistics of normalization, seed generators,
    metrics, optimizers), what else a NAGD keeps, and the random generators of Python, NumPy and,
    where Keras draws from them, PyTorch.
    """
    held = [*model.variables, *model.metrics_variables]
    beside = []
    for each in (model.optimizer, *vars(model).values()):  # It may train with more than one.
        if isinstance(each, keras.optimizers.Optimizer):
            held += each.variables
        inner = getattr(each, "inner_optimizer", each)
        if isinstance(inner, NAGD):
            beside.append((inner._state, inner._state.beside_variables()))
    distinct = {id(variable): variable for variable in held}.values()
    values = [(variable, keras.ops.copy(tensor(variable))) for variable in distinct]
    try:
        with generators_kept():
            yield model
    finally:
        synchronize(model)
        model.reset_metrics()  # for those that were not built
        for variable, value in values:
            variable.assign(value)
        for state, kept in beside:
            state.put_back(kept)


@contextlib.contextmanager
def generators_kept() -> Iterator[None]:
    """Gives the random generators of Python, NumPy and PyTorch back as they were."""
    held = random.getstate(), np.random.get_state()  # noqa: NPY002  It is Keras' choice.
    try:
        with current.generators_kept():  # PyTorch's loaders draw even if nothing is shuffled.
            yield
    finally:
        random.setstate(held[0])
        np.random.set_state(held[1])  # noqa: NPY002
