"""Reading many variables in one call, where each call costs more than what it reads."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from nagd_keras.tensors import all_finite, total


def reader(variables: Sequence[Any], checked: Sequence[Any]) -> Callable[[], tuple[list[Any], Any]]:
    """Returns a function that returns the variables' values, and whether others are finite.

    The values share the memory of the variables until these are updated: TensorFlow then has the
    update write elsewhere. That copies, too, but costs less than a copy that is made before.
    """

    def read() -> tuple[list[Any], Any]:
        values = [tf.convert_to_tensor(v.value) for v in variables]
        return values, all_finite(total(v.value) for v in checked) if checked else True

    compiled: Callable[[], tuple[list[Any], Any]] = tf.function(read, autograph=False)
    return compiled
