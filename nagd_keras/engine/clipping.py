"""Clipping of gradients, which the update does as far as it can, without a pass for it.

A norm takes one pass over the gradients. Keras then clips in another pass, with a copy of all
gradients. Here the update clips on the way: it multiplies by a scale, or bounds the elements.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras

from nagd_keras.backends.current import current
from nagd_keras.engine.kernels import kernels
from nagd_keras.tensors import all_finite, real_parts, wide_dtype, widest_dtype


class Clipping(NamedTuple):
    """How to clip gradients, and what was seen of them.

    Attributes:
        scale: the factor of all gradients, or None.
        scales: the factor of each, or None.
        bound: the largest absolute value that an element keeps, or None.
        norm: the L2 norm of all gradients together, before clipping; None if it was not needed.
        finite: whether all gradients are finite, and their norms if needed; None if not needed.
    """

    scale: Any = None
    scales: list[Any] | None = None
    bound: float | None = None
    norm: Any = None
    finite: Any = None


def clipped(
    gradients: Sequence[Any], optimizer: Any, *, needs_norm: bool, needs_finite: bool
) -> Clipping:
    """Returns what remains to be done to gradients, by the formulas of Keras' optimizers.

    Only one of the optimizer's three limits is set.
    """
    limits = optimizer.clipnorm, optimizer.global_clipnorm, optimizer.clipvalue
    if not (needs_norm or needs_finite or any(limits)):
        return Clipping()
    elements = [current.values(g) for g in gradients]
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
    finite = None
    if needs_finite:
        finite = all_finite(squares) if squares else current.are_finite(elements)
    return Clipping(scale, scales, clipvalue, norm, finite)


def _larger(norm: Any, limit: float) -> Any:
    # Of two float64 tensors `keras.ops.maximum` makes a float32 on JAX and PyTorch. A NaN stays.
    limit = keras.ops.cast(limit, norm.dtype)
    return keras.ops.where(norm < limit, limit, norm)


def _sum_of_squares(gradient: Any) -> Any:
    reals = real_parts(gradient)
    return kernels.sum_of_squares(keras.ops.cast(reals, wide_dtype(reals)))
