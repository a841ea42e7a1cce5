"""The numbers of an optimizer that belong to none of the model's variables, packed.

Each variable that a training step is handed costs as much as the update of a small layer. So all
counters are one integer variable, and all other numbers one float variable.

People begin anew by setting an optimizer's variables to zero, all but those with "learning_rate" in
their name. So the float variable, which has all settings, has that in its name.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from nagd_keras.backends.current import current
from nagd_keras.tensors import is_symbolic, tensor

COUNTERS, NUMBERS = "counters", "learning_rate_and_other_numbers"


class Scalars:
    """A registry of named numbers, in two variables.

    All are declared before `make`.

    Attributes:
        unused: those that have their place, so that the variables are alike whatever the settings,
            but are not saved.
        variables: the two variables, by their names.
    """

    def __init__(self, dtype: str) -> None:
        """Takes the dtype of numbers."""
        self._dtype = dtype
        self._starts: dict[str, dict[str, float]] = {COUNTERS: {}, NUMBERS: {}}
        self.unused: set[str] = set()
        self.variables: dict[str, Any] = {}

    def count(self, name: str) -> None:
        """Declares a counter, which starts at 0."""
        self._starts[COUNTERS][name] = 0

    def number(self, name: str, start: float) -> None:
        """Declares a number."""
        self._starts[NUMBERS][name] = start

    def make(self, add_variable: Callable[..., Any]) -> None:
        """Makes the two variables by the optimizer's `add_variable`."""
        for name, dtype in ((COUNTERS, "int"), (NUMBERS, self._dtype)):
            dtype = keras.backend.standardize_dtype(dtype)
            starts = np.asarray([*self._starts[name].values()], dtype)
            self.variables[name] = add_variable(
                shape=starts.shape,
                # As an array of the final dtype: a Python float would pass through float32.
                initializer=lambda shape, dtype, starts=starts: keras.ops.convert_to_tensor(
                    starts, dtype
                ),
                dtype=dtype,
                aggregation="only_first_replica",
                name=name,
            )

    def start(self, name: str) -> float:
        """Returns what a number starts with."""
        return (self._starts[COUNTERS] | self._starts[NUMBERS])[name]

    def __getitem__(self, name: str) -> "Scalar":
        """Returns a number, to be read and set."""
        vector = COUNTERS if name in self._starts[COUNTERS] else NUMBERS
        place = [*self._starts[vector]].index(name)
        return Scalar(self.variables[vector], place, name)

    def used(self) -> dict[str, "Scalar"]:
        """Returns the numbers that are in use."""
        names = self._starts[COUNTERS] | self._starts[NUMBERS]
        return {name: self[name] for name in names if name not in self.unused}

    def read(self, vector: str) -> dict[str, Any]:
        """Returns all numbers of a variable, read at once, for the arithmetic of an update."""
        values = current.read(self.variables[vector])
        values = values if isinstance(values, list) else keras.ops.unstack(values)
        return dict(zip(self._starts[vector], values, strict=True))

    def write(self, vector: str, now: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
        """Sets numbers of a variable, all at once; the others stay as they were read."""
        variable = self.variables[vector]
        values = [tensor({**now, **changes}[name]) for name in self._starts[vector]]
        values = [keras.ops.cast(x, variable.dtype) for x in values]
        current.assign(variable, keras.ops.stack(values))

    def add(self, vector: str, **steps: int) -> None:
        """Adds whole numbers to some of a variable."""
        variable = self.variables[vector]
        step = np.asarray([steps.get(name, 0) for name in self._starts[vector]], variable.dtype)
        current.assign_add(variable, step)


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
        here = np.arange(self.variable.shape[0]) == self.place
        if not is_symbolic(value):
            value = np.asarray(value, self.dtype)
        value = keras.ops.cast(value, self.dtype)
        self.variable.assign(keras.ops.where(here, value, tensor(self.variable)))

    @current.unconverted
    def assign_add(self, value: Any) -> None:
        """Adds to the number."""
        self.assign(self.value + keras.ops.cast(value, self.dtype))

    def assign_sub(self, value: Any) -> None:
        """Subtracts from the number."""
        self.assign_add(-value)

    def __repr__(self) -> str:
        return f"<{self.name}: {self.value}>"

    def __float__(self) -> float:
        return float(self.value)

    def __int__(self) -> int:
        return int(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __neg__(self) -> Any:
        return -self.value

    def __abs__(self) -> Any:
        return abs(self.value)

    # How NumPy, JAX and TensorFlow make arrays of what is none.

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.asarray(self.numpy(), dtype)

    def __jax_array__(self) -> Any:
        return self.value

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> Any:
        return self.value if dtype is None else keras.ops.cast(self.value, dtype.name)


def _with(function: Callable[[Any, Any], Any]) -> Callable[[Scalar, Any], Any]:
    return lambda self, other: function(self.value, getattr(other, "value", other))


def _behind(function: Callable[[Any, Any], Any]) -> Callable[[Scalar, Any], Any]:
    return lambda self, other: function(other, self.value)


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    setattr(Scalar, f"__{_name}__", _with(getattr(operator, _name)))
    setattr(Scalar, f"__r{_name}__", _behind(getattr(operator, _name)))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Scalar, f"__{_name}__", _with(getattr(operator, _name)))
Scalar.__hash__ = object.__hash__  # type: ignore[method-assign]
