"""Which callback has a role that only one can have."""

from typing import Any
from weakref import WeakKeyDictionary, ref

_OWNERS: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()


def take(optimizer: Any, role: str, callback: Any) -> None:
    """Notes, when training begins, which callback has a role that only one can have.

    Raises:
        ValueError: if another callback of this fit has it, which was told the same parameters.
    """
    owners = _OWNERS.setdefault(optimizer, {})
    other = owners[role]() if role in owners else None
    if other not in (None, callback) and other.params is callback.params:
        both = f"{type(other).__name__} and {type(callback).__name__}"
        raise ValueError(f"Only one callback of a fit can {role}. Received: {both}. Leave one.")
    owners[role] = ref(callback)
