"""Numbers, tensors and variables, alike on all of Keras' backends."""

import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np


def is_array(value: Any) -> bool:
    """Whether `value` is a NumPy array, a tensor, a variable, or may be read as one."""
    known = isinstance(value, (np.ndarray, keras.Variable)) or keras.ops.is_tensor(value)
    return known or hasattr(value, "__array__")


def is_real(array: Any) -> bool:
    """Whether an array's elements are real numbers: no booleans, strings or complex numbers."""
    name = getattr(array.dtype, "name", str(array.dtype))  # PyTorch's have no name.
    return name.removeprefix("torch.").startswith(("float", "bfloat", "int", "uint"))


def is_complex(array: Any) -> bool:
    """Whether the elements of an array, tensor or variable are complex numbers."""
    dtype: str = keras.backend.standardize_dtype(array.dtype)
    return dtype.startswith("complex")


def real_parts(array: Any) -> Any:
    """Returns the real and the imaginary parts of complex numbers, and any others as they are."""
    if not is_complex(array):
        return array
    return keras.ops.stack([keras.ops.real(array), keras.ops.imag(array)], axis=-1)


def is_symbolic(value: Any) -> bool:
    """Whether `value` is a scalar tensor that is known only when a compiled step runs."""
    if not is_array(value) or static_shape(value) not in ((), None):
        return False
    try:
        float(detached(value))
    except (TypeError, AttributeError):  # the latter from a variable in a TensorFlow function
        return True
    return False


def static_shape(value: Any) -> tuple[int | None, ...] | None:
    """Returns the shape as far as it is known without running a compiled step."""
    shape = getattr(value, "shape", None)
    if shape is None:
        return tuple(np.shape(value))
    # TensorFlow's shapes may lack some dimensions (None), or even their number.
    return None if getattr(shape, "rank", 0) is None else tuple(shape)


def tensor(value: Any) -> Any:
    """Returns the present value of a variable, a tensor or a number as a tensor."""
    if isinstance(value, (int, float)):
        value = np.float64(value)  # TensorFlow would take a Python number for a float32.
    if isinstance(value, keras.Variable):
        # Only a cast reads it: convert_to_tensor may hand the variable itself back.
        return keras.ops.cast(value, value.dtype)
    return keras.ops.convert_to_tensor(value)


def detached(value: Any) -> Any:
    """Returns PyTorch's tensors without their gradients, and any other value as it is.

    PyTorch warns where a number is made of a tensor, or a trainable variable, that has a gradient.
    """
    if keras.backend.backend() != "torch" or not is_array(value):
        return value
    value = value.value if isinstance(value, keras.Variable) else value
    return value.detach() if hasattr(value, "detach") else value


def copied(value: Any) -> Any:
    """Returns the value of a variable or tensor in memory that nothing else writes to."""
    return keras.ops.copy(keras.ops.stop_gradient(tensor(value)))


def values_of(variable: Any) -> Any:
    """Returns the value of a variable or tensor as a NumPy array of its own.

    Raises:
        ValueError: for a variable of TensorFlow's that the first run of a step will initialize.
    """
    # One dimension at least, without which TensorFlow makes no array of a bfloat16.
    values = keras.ops.reshape(keras.ops.cast(variable, variable.dtype), (-1,))
    array, shape = np.array(keras.ops.convert_to_numpy(values)), tuple(variable.shape)
    if array.size != math.prod(shape):
        raise ValueError(
            f"The variable {variable.path} has no value yet: it was made by the step that is being "
            "compiled, after the optimizer's state was loaded. So Keras had no weights to load "
            "into: `build` of a subclassed model that does not define its own makes none. Call the "
            "model with a batch, model(x), before you load."
        )
    return array.reshape(shape)


def number(value: Any) -> float:
    """Returns a number, or a tensor or variable whose value is known, as a Python float."""
    try:
        return float(detached(value))
    except (TypeError, AttributeError):  # from variables, above all those of replicas
        return float(keras.ops.convert_to_numpy(tensor(value)))


def global_norm(tensors: Iterable[Any]) -> Any:
    """Returns the L2 norm of tensors taken as one vector, None left out, as a float32."""
    reals = [real_parts(x) for x in tensors if x is not None]
    squares = (
        keras.ops.cast(keras.ops.sum(keras.ops.square(keras.ops.cast(x, wide_dtype(x)))), "float32")
        for x in reals
    )
    return keras.ops.sqrt(sum(squares, start=keras.ops.zeros((), "float32")))


def wide_dtype(x: Any) -> str:
    """Returns the dtype in which to compute with a tensor or variable: float32 for 16 bits."""
    dtype: str = keras.backend.standardize_dtype(x.dtype)
    return "float32" if dtype in ("float16", "bfloat16") else dtype


def widest_dtype(tensors: Iterable[Any]) -> str:
    """Returns the dtype in which numbers of several dtypes are summed: float32 at least."""
    dtypes = {keras.backend.standardize_dtype(x.dtype) for x in tensors}
    return "float64" if "float64" in dtypes else "float32"


def all_finite(numbers: Iterable[Any]) -> Any:
    """Whether all of several scalar tensors are finite."""
    numbers = list(numbers)
    dtype = widest_dtype(numbers)
    stacked = keras.ops.stack([keras.ops.cast(x, dtype) for x in numbers])
    return keras.ops.all(keras.ops.isfinite(stacked))


def total(tensor: Any) -> Any:
    """Returns the sum of a tensor's elements, which is finite only if they are.

    It may overflow where they are finite: in 32 bits, if they add up to more than 3e38.
    """
    reals = real_parts(tensor)
    return keras.ops.sum(keras.ops.cast(reals, wide_dtype(reals)))


def computed_in(variable: Any, displacement: Any) -> str:
    """Returns the dtype of an update's arithmetic: 16 bits are rounded once, in the end."""
    return max(wide_dtype(variable), wide_dtype(displacement), key=lambda name: name == "float64")


def dense(gradient: Any, shape: tuple[int, ...]) -> Any:
    """Returns a gradient, that of an embedding for one, as a dense tensor; None stays None.

    Rows that a batch names twice are summed, so that clipping and accumulation see the gradient
    itself.
    """
    if gradient is None:
        return None
    if hasattr(gradient, "dense_shape") and len(gradient.indices.shape) == 1:  # IndexedSlices
        indices = keras.ops.expand_dims(gradient.indices, -1)
        return keras.ops.scatter(indices, gradient.values, shape)
    if hasattr(gradient, "indices"):  # other sparse tensors, and all of PyTorch's
        gradient = keras.ops.convert_to_tensor(gradient, sparse=False)
    return keras.ops.convert_to_tensor(gradient)
