"""How an update is executed: the formula, and what is faster on some backends.

A module of kernels has four functions, with the docstrings of the formula's: `update`,
`direct_for`, `move_for` and `sum_of_squares`.
"""

from importlib import import_module
from typing import Any

import keras

from nagd_keras.engine.kernels import formula

# JAX compiles the formula; the others have kernels that write in place.
_MODULES = {"tensorflow": "tensorflow", "torch": "torch"}
_module = _MODULES.get(keras.backend.backend(), "formula")
kernels: Any = import_module(f"nagd_keras.engine.kernels.{_module}")

__all__ = ["formula", "kernels"]
