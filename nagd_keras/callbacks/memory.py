"""What callbacks must remember from epoch to epoch, kept with the state that is saved."""

import warnings
import weakref
from collections.abc import MutableMapping
from typing import Any

from nagd_keras.nagd import NAGD

_OF_OTHERS: MutableMapping[Any, dict[str, dict[str, Any]]] = weakref.WeakKeyDictionary()


def notes_of(optimizer: Any, who: str) -> dict[str, Any]:
    """Returns the notes of a callback, of JSON's kinds, to read and change.

    A NAGD saves them with its state. Those of another optimizer end with the process.
    """
    if isinstance(optimizer, NAGD):
        return optimizer._state.notes.of(who)
    return _OF_OTHERS.setdefault(optimizer, {}).setdefault(who, {})


def warn_if_behind(notes: dict[str, Any], epoch: int, who: str) -> None:
    """Warns at the beginning of an epoch if the last noted epoch is not the one before."""
    if notes.get("epoch") == epoch - 2:
        warnings.warn(
            f"Training goes on in epoch {epoch + 1} from a state that was saved before {who} "
            f"had done its work at the end of epoch {epoch}, which is lost. Put callbacks "
            f"that save, such as BackupAndRestore, after {who} in the list.",
            stacklevel=3,
        )
