"""Arithmetic on steps that stays exact where float32 does not: it skips integers from 2^24 on."""

import math
from typing import Any

import keras
from keras import ops

from nagd_keras.hyperparameters import value_dtype


def as_step(step: Any) -> Any:
    """Returns a number, tensor or variable as a tensor, integers as integers."""
    if isinstance(step, keras.Variable):
        step = ops.cast(step, step.dtype)  # convert_to_tensor may hand the variable itself back.
    step = ops.convert_to_tensor(step)
    dtype = keras.backend.standardize_dtype(step.dtype)
    if "int" in dtype and dtype not in ("int32", "int64"):
        step = ops.cast(step, "int32")  # Narrow integers have no room for a mark, others no sign.
    return step


def real(x: Any) -> Any:
    """Returns a tensor in the floating point of the schedules' values."""
    return ops.cast(x, value_dtype())


def whole_part(step: Any, mark: float) -> Any:
    """Returns step - floor(mark) in the dtype of the step, exactly for integers."""
    return step - ops.cast(math.floor(mark), step.dtype)


def at_most(x: Any, largest: float) -> Any:
    """Returns the smaller of a real tensor and a number.

    Of two float64 tensors, `keras.ops.minimum` makes a float32 on PyTorch, and `keras.ops.cast`
    takes a number through float32 on TensorFlow.
    """
    bound = ops.full_like(x, largest)
    return ops.where(x < bound, x, bound)


def at_least(x: Any, smallest: float) -> Any:
    """Returns the larger of a real tensor and a number, as `at_most` does the smaller."""
    bound = ops.full_like(x, smallest)
    return ops.where(x > bound, x, bound)


def since(step: Any, mark: float) -> Any:
    """Returns step - mark as a real number; the whole part of the mark is subtracted first."""
    return real(whole_part(step, mark)) - (mark - math.floor(mark))
