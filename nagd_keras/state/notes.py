"""What callbacks must remember from epoch to epoch, by their names, to be saved with the state.

A callback's attributes are lost when training is interrupted and resumed in a new process.
"""

from typing import Any


class Notes:
    """A dictionary of what can be written as JSON, for each callback that has something to keep."""

    def __init__(self) -> None:
        """Begins without any."""
        self._of: dict[str, dict[str, Any]] = {}

    def of(self, who: str) -> dict[str, Any]:
        """Returns the notes of a callback, to be read and changed."""
        return self._of.setdefault(who, {})

    def all(self) -> dict[str, dict[str, Any]]:
        """Returns a copy of all notes."""
        return {who: dict(notes) for who, notes in self._of.items() if notes}

    def replace(self, notes: dict[str, dict[str, Any]]) -> None:
        """Takes others in the place of all."""
        # Callbacks may hold theirs already.
        for who in {*self._of, *notes}:
            mine = self.of(who)
            mine.clear()
            mine.update(notes.get(who, {}))
