"""Clipping of gradients, left to the update as far as it can be, where it costs no pass of its own.

A norm takes one pass over the gradients. What Keras then does in another, and with a copy of all
gradients, the update does on the way: it multiplies by a scale, or bounds the elements.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras

from nagd_keras.backends.current import current
from nagd_keras.engine.kernels import kernels
from nagd_keras.tensors import all_finite, real_parts, total, wide_dtype, widest_dtype


class Clipping(NamedTuple):
    """What is to be done to gradients, and what was seen of them.

    Attributes:
        scale: what all of them are to be multiplied by, or None.
        scales: what each is to be multiplied by, or None.
        bound: the largest absolute value that their elements are to keep, or None.
        norm: the L2 norm of all gradients together, before clipping, if it was needed, or None.
        finite: whether all gradients are finite, and their norms if these were needed; or None.
    """

    scale: Any = None
    scales: list[Any] | None = None
    bound: float | None = None
    norm: Any = None
    finite: Any = None


def clipped(
    gradients: Sequence[Any], optimizer: Any, *, needs_norm: bool, needs_finite: bool
) -> Clipping:
    """Returns what remains to be done to gradients.

    Only one of the optimizer's three limits is set; see `keras.optimizers.Optimizer`, of which the
    formulas are.
    """
    elements = [current.values(g) for g in gradients]
    limits = optimizer.clipnorm, optimizer.global_clipnorm, optimizer.clipvalue
    clipnorm, global_clipnorm, clipvalue = (x if x and x > 0 else None for x in limits)
    squares: list[Any] = []
    scale = scales = None
    norm: Any = None
    if clipnorm or global_clipnorm or needs_norm:
        squares = [_sum_of_squares(g) for g in elements]
    if global_clipnorm or needs_norm:
        dtype = widest_dtype(squares)
        norm = keras.ops.sqrt(sum(keras.ops.cast(x, dtype) for x in squares))
    if clipnorm:
        scales = [clipnorm / _larger(keras.ops.sqrt(x), clipnorm) for x in squares]
    elif global_clipnorm:
        # A norm that is not finite makes the scale NaN.
        scale = global_clipnorm / _larger(norm, global_clipnorm) + (norm - norm)
    finite = all_finite(squares or map(total, elements)) if needs_finite else None
    return Clipping(scale, scales, clipvalue, norm, finite)


def _larger(norm: Any, limit: float) -> Any:
    # Of two float64 tensors `keras.ops.maximum` makes a float32 on JAX and PyTorch. A NaN stays.
    limit = keras.ops.cast(limit, norm.dtype)
    return keras.ops.where(norm < limit, limit, norm)


def _sum_of_squares(gradient: Any) -> Any:
    reals = real_parts(gradient)
    return kernels.sum_of_squares(keras.ops.cast(reals, wide_dtype(reals)))
