"""The numbers of an optimizer that belong to none of the model's variables, packed.

Each variable that a training step is handed costs as much as the update of a small layer. So all
counters are one integer variable, and all other numbers one float variable.

People begin anew by setting an optimizer's variables to zero, all but those with "learning_rate" in
their name. So the float variable, which has all settings, has that in its name.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from nagd_keras.backends.current import current
from nagd_keras.scalar import Scalar
from nagd_keras.tensors import tensor

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
        self._added: dict[Any, np.ndarray] = {}  # what `add` adds, since it takes time to make

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

    def __getitem__(self, name: str) -> Scalar:
        """Returns a number, to be read and set."""
        vector = COUNTERS if name in self._starts[COUNTERS] else NUMBERS
        place = [*self._starts[vector]].index(name)
        return Scalar(self.variables[vector], place, name)

    def used(self) -> dict[str, Scalar]:
        """Returns the numbers that are in use."""
        names = self._starts[COUNTERS] | self._starts[NUMBERS]
        return {name: self[name] for name in names if name not in self.unused}

    def read(self, vector: str) -> dict[str, Any]:
        """Returns the numbers of a variable, read at once, for the arithmetic of an update."""
        values, names = current.read(self.variables[vector]), [*self._starts[vector]]
        if isinstance(values, list):
            return dict(zip(names, values, strict=True))
        return _Taken(values, names)

    def write(self, vector: str, now: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
        """Sets numbers of a variable, all at once; the others stay as they were read."""
        variable = self.variables[vector]
        values = [changes[x] if x in changes else now[x] for x in self._starts[vector]]
        values = [keras.ops.cast(tensor(x), variable.dtype) for x in values]
        current.assign(variable, keras.ops.stack(values))

    def add(self, vector: str, **steps: int) -> None:
        """Adds whole numbers to some of a variable."""
        variable, key = self.variables[vector], (vector, *steps.items())
        if key not in self._added:
            step = [steps.get(name, 0) for name in self._starts[vector]]
            self._added[key] = np.asarray(step, variable.dtype)
        current.assign_add(variable, self._added[key])


class _Taken(dict[str, Any]):
    """The numbers of a packed tensor, each taken out when it is first asked for.

    In a compiled step of TensorFlow all would be, though most settings need two of eight. For a
    small network that is a tenth of the update.
    """

    def __init__(self, values: Any, names: Sequence[str]) -> None:
        super().__init__()
        self._values, self._names = values, names

    def __missing__(self, name: str) -> Any:
        self[name] = self._values[self._names.index(name)]
        return self[name]
