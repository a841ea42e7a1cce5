"""Which callback has a role that only one can have."""

from typing import Any
from weakref import WeakKeyDictionary, ref

_OWNERS: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()


def take(optimizer: Any, role: str, callback: Any) -> None:
    """Notes, when training begins, which callback has a role that only one can have."""
    _OWNERS.setdefault(optimizer, {})[role] = ref(callback)


def check_alone(optimizer: Any, role: str, callback: Any) -> None:
    """Raises, before the first epoch, if another callback has taken the role.

    Raises:
        ValueError: if so.
    """
    owner = _OWNERS.get(optimizer, {}).get(role)
    other = callback if owner is None else owner()
    if other is not callback:
        both = f"{type(callback).__name__} and {type(other).__name__}"
        raise ValueError(f"Only one callback of a fit can {role}. Received: {both}. Leave one.")
