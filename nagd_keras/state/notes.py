"""What callbacks must remember from epoch to epoch, by their names, saved with the state.

A callback loses its attributes when training is interrupted and resumed in a new process.
"""

from typing import Any


class Notes:
    """A dictionary for each callback that keeps something, of values that JSON can hold."""

    def __init__(self) -> None:
        """Begins without any."""
        self._of: dict[str, dict[str, Any]] = {}

    def of(self, who: str) -> dict[str, Any]:
        """Returns the notes of a callback, to read and change."""
        return self._of.setdefault(who, {})

    def all(self) -> dict[str, dict[str, Any]]:
        """Returns a copy of all notes."""
        return {who: dict(notes) for who, notes in self._of.items() if notes}

    def replace(self, notes: dict[str, dict[str, Any]]) -> None:
        """Replaces all notes."""
        # Callbacks may hold theirs already.
        for who in {*self._of, *notes}:
            mine = self.of(who)
            mine.clear()
            mine.update(notes.get(who, {}))
