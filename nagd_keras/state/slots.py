"""A registry of slots: what an optimizer keeps for each of the model's variables."""

from collections.abc import Iterator
from typing import Any

import keras

from nagd_keras.tensors import values_of

# Kinds of slots that NAGD itself knows. Directions and derived classes add theirs by making them.
DISPLACEMENT, AVERAGE, ACCUMULATOR = "displacement", "average", "gradient_accumulator"


class Slots:
    """All slots, by their kind, in the order of the variables that they belong to."""

    def __init__(self) -> None:
        """Begins without any."""
        self._added: dict[str, list[tuple[Any, Any]]] = {}
        self._initializers: dict[str, Any] = {}
        self._references: list[Any] = []
        self._listed: dict[str, list[Any]] = {}  # what `__getitem__` has returned

    def add(self, kind: str, reference: Any, slot: Any, initializer: Any) -> None:
        """Takes up a slot of a variable."""
        self._initializers[kind] = initializer
        self._added.setdefault(kind, []).append((reference, slot))
        self._listed = {}

    def settle(self, variables: list[Any]) -> None:
        """Takes the variables, whose order is that of the slots."""
        self._references, self._listed = variables, {}

    def clear(self) -> None:
        """Forgets all."""
        self._added, self._references, self._listed = {}, [], {}

    def __getitem__(self, kind: str) -> list[Any]:
        """Returns the slots of a kind in the order of the variables; None where there is none."""
        if kind not in self._listed:
            of = {id(reference): slot for reference, slot in self._added.get(kind, ())}
            self._listed[kind] = [of.get(id(variable)) for variable in self._references]
        return self._listed[kind]

    def kinds(self) -> list[str]:
        """Returns the kinds of slots, NAGD's own first."""
        own = [kind for kind in (AVERAGE, ACCUMULATOR, DISPLACEMENT) if kind in self._added]
        return [*own, *(kind for kind in self._added if kind not in own)]

    def items(self) -> Iterator[tuple[str, int, Any]]:
        """Yields the kind, the variable's place and the slot, kind after kind."""
        for kind in self.kinds():
            for place, slot in enumerate(self[kind]):
                if slot is not None:
                    yield kind, place, slot

    def start(self, kind: str, place: int) -> Any:
        """Returns the first value of a slot as an array. An average starts with its variable."""
        slot = self[kind][place]
        if kind == AVERAGE:
            return values_of(keras.ops.cast(self._references[place], slot.dtype))
        initializer = keras.initializers.get(self._initializers[kind])
        return values_of(initializer(slot.shape, slot.dtype))
