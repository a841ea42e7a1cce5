"""Reading many variables in one call, where each call costs more than what it reads."""

from collections.abc import Callable, Sequence
from typing import Any

from nagd_keras.tensors import all_finite, total


def reader(variables: Sequence[Any], checked: Sequence[Any]) -> Callable[[], tuple[list[Any], Any]]:
    """Returns a function that returns the variables' values, and whether others are finite.

    The values are copies, as the next step gives the memory of the variables away.
    """
    # Not above: tests import every module.
    import jax

    @jax.jit
    def copies(values: list[Any], others: list[Any]) -> tuple[list[Any], Any]:
        finite = all_finite(map(total, others)) if others else True
        return [jax.numpy.copy(value) for value in values], finite

    return lambda: copies([v.value for v in variables], [v.value for v in checked])
