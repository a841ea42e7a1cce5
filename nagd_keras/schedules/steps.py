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


def clipped(x: Any, low: float, high: float) -> Any:
    """Returns a real tensor kept in [low, high].

    Plain numbers as the bounds would be rounded to `floatx` on PyTorch, which may have 16 bits.
    """
    return ops.clip(x, ops.full_like(x, low), ops.full_like(x, high))


def since(step: Any, mark: float) -> Any:
    """Returns step - mark as a real number; the whole part of the mark is subtracted first."""
    return real(step - math.floor(mark)) - (mark - math.floor(mark))
