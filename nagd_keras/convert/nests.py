"""Nested containers of arrays, walked as JAX walks them."""

import dataclasses
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any


def leaves(nest: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yields the path and the value of each leaf, in the order of `jax.tree.leaves`.

    `keras.tree` would take None, Flax' FrozenDict and Equinox' modules for leaves.
    """
    if nest is None:
        return
    if not is_nest(nest):
        yield path, nest
        return
    for key, value in _children(nest):
        yield from leaves(value, (*path, key))


def is_nest(value: Any) -> bool:
    """Whether a value is a mapping, list, tuple or dataclass, and no leaf."""
    return isinstance(value, (Mapping, list, tuple)) or (
        dataclasses.is_dataclass(value) and not isinstance(value, type)
    )


def _children(nest: Any) -> list[tuple[Any, Any]]:
    if isinstance(nest, Mapping):
        keys = list(nest) if isinstance(nest, OrderedDict) else sorted(nest)
        return [(key, nest[key]) for key in keys]
    if isinstance(nest, (list, tuple)):
        return list(enumerate(nest))
    # Equinox and Flax mark the fields that are no part of the tree.
    marks = {f.name: f.metadata for f in dataclasses.fields(nest)}
    dynamic = [
        name for name, m in marks.items() if not m.get("static") and m.get("pytree_node", True)
    ]
    return [(name, getattr(nest, name)) for name in dynamic]
