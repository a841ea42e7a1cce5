"""Nesterov's update as operations of Keras: the way of a backend that fuses them, or of any."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from nagd_keras.restart import factors, weighted
from nagd_keras.step import Step
from nagd_keras.update_rule import bounded, nesterov_update, next_displacement

ONE_BY_ONE = False  # All variables are updated at once.
IN_PLACE = False  # Variables get new values; what they held can be kept, and costs nothing.
KNOWS_ROWS = False  # Gradients of embeddings are tensors as large as the table.
read = None  # Scalars are read as tensors.


def update(steps: Sequence[Step], lazy: bool = False) -> None:
    """Makes the update of each variable."""
    for w, s, g, c, *_ in steps:
        w_now, s_now, g_now = (ops.cast(x, c.step.dtype) for x in (w, s, g))
        w_next, s_next = nesterov_update(w_now, s_now, g_now, c)
        s.assign(ops.cast(s_next, s.dtype))
        w.assign(ops.cast(w_next, w.dtype))


def restart_products(scheme: str, steps: Sequence[Step]) -> list[Any]:
    """Returns a restart scheme's inner product for each variable, before its update."""
    products = []
    for _, s, g, c, _, scale in steps:
        s_now, g_now = (ops.cast(x, c.step.dtype) for x in (s, g))
        s_next = next_displacement(s_now, g_now, c)
        a, b = factors(scheme, bounded(g_now, c.bound), s_next)
        products.append(weighted(scheme, ops.sum(a * b), scale))
    return products


def sum_of_squares(x: Any) -> Any:
    """Returns the sum of the squares of a tensor's elements."""
    return ops.sum(ops.square(x))


def is_dense(gradient: Any) -> bool:
    """Whether a gradient is a tensor that can be used as it is."""
    return ops.is_tensor(gradient) and not hasattr(gradient, "indices")


def is_rows(gradient: Any, shape: tuple[int, ...], lazy: bool) -> bool:
    """Whether a gradient has some rows only, and an update gains by it."""
    return False


def summed_rows(gradient: Any, rows: int) -> Any:
    """Never called here."""
    raise NotImplementedError


with_values = restart = summed_rows
