"""The ways in which an optimizer's update is executed, one table for all tests."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from nagd_keras.tensors import wide_dtype


def _eager(optimizer: Any, variables: Sequence[Any]) -> Callable[[Sequence[Any]], None]:
    return lambda gradients: optimizer.apply(gradients, variables)


def _tf_function(jit_compile: bool) -> Any:
    def driver(optimizer: Any, variables: Sequence[Any]) -> Callable[[Sequence[Any]], None]:
        import tensorflow as tf

        optimizer.build(variables)
        # Without trainable_variables: they are captured, not passed in.
        return tf.function(lambda gradients: optimizer.apply(gradients), jit_compile=jit_compile)

    return driver


def _jax_stateless(optimizer: Any, variables: Sequence[Any]) -> Callable[[Sequence[Any]], None]:
    import jax

    optimizer.build(variables)
    step = jax.jit(optimizer.stateless_apply)

    def drive(gradients: Sequence[Any]) -> None:
        state = [v.value for v in optimizer.variables], gradients, [v.value for v in variables]
        new_variables, new_state = step(*state)
        for variable, value in zip(
            [*variables, *optimizer.variables], [*new_variables, *new_state], strict=True
        ):
            variable.assign(value)

    return drive


_COMPILED = {
    "tensorflow": {"graph": _tf_function(False), "xla": _tf_function(True)},
    "jax": {"jit": _jax_stateless},
    "torch": {},
}
DRIVERS: dict[str, Any] = {"eager": _eager, **_COMPILED[keras.backend.backend()]}
# For hundreds of steps: the first that is compiled, on which a step is cheap, if there is one.
LONG_RUNS = [*DRIVERS][:2][-1]


class Run:
    """An optimizer on variables of some dtype, driven one gradient at a time.

    Values go in and come out as float64 NumPy arrays, so that a reference can be held against
    them without an error of its own.
    """

    def __init__(
        self, optimizer: Any, start: Sequence[np.ndarray], dtype: str, driver: str = "eager"
    ) -> None:
        variables = [
            keras.Variable(keras.ops.cast(x, dtype), dtype=dtype, name=f"x{i}")
            for i, x in enumerate(start)
        ]
        self._drive(optimizer, variables, dtype, driver)

    @classmethod
    def over(cls, optimizer: Any, variables: Sequence[Any], driver: str = "eager") -> "Run":
        """Drives an optimizer on variables that are there, of one dtype."""
        run = cls.__new__(cls)
        run._drive(optimizer, variables, variables[0].dtype, driver)
        return run

    def _drive(self, optimizer: Any, variables: Sequence[Any], dtype: str, driver: str) -> None:
        self.optimizer, self.variables, self.dtype = optimizer, variables, dtype
        optimizer.build(variables)
        self._apply = DRIVERS[driver](optimizer, variables)

    def step(self, gradients: Sequence[np.ndarray]) -> None:
        self._apply([keras.ops.cast(g, self.dtype) for g in gradients])

    @property
    def look_ahead(self) -> list[np.ndarray]:
        return [to_float64(v) for v in self.variables]

    @property
    def iterate(self) -> list[np.ndarray]:
        slots = self.optimizer.displacements
        return [to_float64(v) - to_float64(s) for v, s in zip(self.variables, slots, strict=True)]


def snapshot(*holders: Any) -> list[np.ndarray]:
    """The values of all variables of models, of optimizers, and of lists of variables."""
    lists = [each if isinstance(each, list) else each.variables for each in holders]
    return [to_float64(v) for variables in lists for v in variables]


def assert_identical(found: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a, b)


def to_float64(tensor: Any) -> np.ndarray:
    # The cast reads a variable; the arrays that Keras and TensorFlow make of variables and of
    # bfloat16 do not follow NumPy 2. JAX has no float64 unless it is told to.
    wide = keras.ops.cast(tensor, wide_dtype(tensor))
    return np.asarray(keras.ops.convert_to_numpy(wide)).astype(np.float64)
