"""What a callback must remember from epoch to epoch, kept where it is saved."""

import warnings
from typing import Any

from nagd_keras.nagd import NAGD


def notes_of(optimizer: Any, who: str) -> dict[str, Any]:
    """Returns the notes of a callback, of JSON's kinds, to be read and changed.

    They are saved with the state of a NAGD; of another optimizer nothing is.
    """
    return optimizer._state.notes.of(who) if isinstance(optimizer, NAGD) else {}


def warn_if_behind(notes: dict[str, Any], epoch: int, who: str) -> None:
    """Warns if, where an epoch begins, the epoch that was noted last is not the one before."""
    if notes.get("epoch") == epoch - 2:
        warnings.warn(
            f"Training goes on in epoch {epoch + 1} from a state that was saved before {who} "
            f"had done its work at the end of epoch {epoch}, which is lost. Put callbacks "
            f"that save, such as BackupAndRestore, after {who} in the list.",
            stacklevel=3,
        )
