"""Keras variables for those of the backend's own kind, such as `tf.Variable`."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras

from nagd_keras import keras_private as private
from nagd_keras.backends.current import current


class Natives:
    """Gives one Keras variable for each native one, and shares its memory.

    So nothing after it needs to know that there are two kinds.
    """

    def __init__(self, optimizer: Any) -> None:
        """Takes the optimizer whose variables they are."""
        self._optimizer = optimizer
        self._known: dict[Any, Any] = {}

    def settle(self, variables: Sequence[Any]) -> None:
        """Takes the variables that the optimizer is built for, to recognize their native ones."""
        if current.native_types:
            self._known |= {self._key(private.raw_value(v)): v for v in variables}

    def as_keras(self, variables: Iterable[Any]) -> list[Any]:
        """Returns variables, with a Keras variable in the place of each native one.

        Raises:
            TypeError: if one is not a variable.
        """
        return [v if isinstance(v, keras.Variable) else self._shared(v) for v in variables]

    def _shared(self, native: Any) -> Any:
        if not isinstance(native, current.native_types):
            own = " or the backend's own" if current.native_types else ""
            raise TypeError(
                f"An optimizer updates variables, Keras'{own}. Received: {native!r} (of type "
                f"{type(native).__name__}). Make it a variable, keras.Variable(...), and take the "
                "gradient at that."
            )
        key = self._key(native)
        if key not in self._known:
            self._known[key] = current.shared(native)
        return self._known[key]

    def _key(self, native: Any) -> Any:
        return private.key(self._optimizer, native)
