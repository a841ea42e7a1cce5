"""One number of an optimizer: it reads as a scalar tensor, prints as a number, and can be set."""

import operator
from collections.abc import Callable
from typing import Any, TypeAlias

import keras
import numpy as np

from nagd_keras.backends.current import current
from nagd_keras.tensors import is_symbolic, tensor

_Operation: TypeAlias = "Callable[[Scalar, Any], Any]"


def _with(function: Callable[[Any, Any], Any]) -> _Operation:
    return lambda self, other: function(self.value, getattr(other, "value", other))


def _both(function: Callable[[Any, Any], Any]) -> tuple[_Operation, _Operation]:
    """Returns an operation with the number on the left, and one with it on the right."""
    return _with(function), lambda self, other: function(other, self.value)


class Scalar:
    """One number of a packed variable. Reads as a scalar tensor, and can be assigned.

    Attributes:
        name: its name.
        variable: the variable that it is a part of.
        place: its place there.
    """

    shape, ndim = (), 0

    def __init__(self, variable: Any, place: int, name: str) -> None:
        """Takes the place of the number in the variable."""
        self.variable, self.place, self.name = variable, place, name

    @property
    def dtype(self) -> Any:
        """The dtype."""
        return self.variable.dtype

    @property
    def value(self) -> Any:
        """The present value, as a tensor."""
        return tensor(self.variable)[self.place]

    def numpy(self) -> Any:
        """Returns the present value as a NumPy array."""
        return np.asarray(keras.ops.convert_to_numpy(self.variable))[self.place]

    @current.unconverted
    def assign(self, value: Any) -> None:
        """Sets the number, whatever its range."""
        if not is_symbolic(value):
            value = np.asarray(value, self.dtype)
        current.put(self.variable, self.place, value)

    @current.unconverted
    def assign_add(self, value: Any) -> None:
        """Adds to the number."""
        self.assign(self.value + keras.ops.cast(value, self.dtype))

    def assign_sub(self, value: Any) -> None:
        """Subtracts from the number."""
        self.assign_add(-value)

    # How it is shown. In a compiled step the tensor that stands for the number is.

    def _shown(self) -> Any:
        value = self.value
        return value if is_symbolic(value) else self.numpy()

    def __repr__(self) -> str:
        return f"<{self.name}: {self}>"

    def __str__(self) -> str:
        return str(self._shown())

    def __format__(self, spec: str) -> str:
        # NumPy would format a float32 with the digits of a float64.
        return format(self._shown(), spec) if spec else str(self)

    # What Python makes of it.

    def __float__(self) -> float:
        return float(current.taken(self.variable, self.place))

    def __int__(self) -> int:
        return int(current.taken(self.variable, self.place))

    def __bool__(self) -> bool:
        return bool(current.taken(self.variable, self.place))

    def __round__(self, digits: int | None = None) -> Any:
        return round(self.numpy().item(), digits)

    def __neg__(self) -> Any:
        return -self.value

    def __abs__(self) -> Any:
        return abs(self.value)

    __add__, __radd__ = _both(operator.add)
    __sub__, __rsub__ = _both(operator.sub)
    __mul__, __rmul__ = _both(operator.mul)
    __truediv__, __rtruediv__ = _both(operator.truediv)
    __floordiv__, __rfloordiv__ = _both(operator.floordiv)
    __mod__, __rmod__ = _both(operator.mod)
    __pow__, __rpow__ = _both(operator.pow)
    __eq__, __ne__ = _with(operator.eq), _with(operator.ne)
    __lt__, __le__ = _with(operator.lt), _with(operator.le)
    __gt__, __ge__ = _with(operator.gt), _with(operator.ge)
    __hash__ = object.__hash__

    # How NumPy, JAX and TensorFlow make arrays of what is none.

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.asarray(self.numpy(), dtype)

    def __jax_array__(self) -> Any:
        return self.value

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> Any:
        return self.value if dtype is None else keras.ops.cast(self.value, dtype.name)
