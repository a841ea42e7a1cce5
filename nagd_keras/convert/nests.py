"""Nested containers of arrays, walked as JAX walks them."""

import dataclasses
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def leaves(nest: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yields the path and the value of each leaf, in the order of `jax.tree.leaves`.

    `keras.tree` would treat None, Flax' FrozenDict and Equinox' modules as leaves.
    """
    children: Iterable[tuple[Any, Any]]
    if nest is None:
        return
    if isinstance(nest, Mapping):
        children = nest.items() if isinstance(nest, OrderedDict) else sorted(nest.items())
    elif isinstance(nest, (list, tuple)):
        children = enumerate(nest)
    elif dataclasses.is_dataclass(nest):
        # Equinox and Flax mark the fields that are no part of the tree.
        marks = {f.name: f.metadata for f in dataclasses.fields(nest)}
        children = [
            (name, getattr(nest, name))
            for name, m in marks.items()
            if not m.get("static") and m.get("pytree_node", True)
        ]
    else:
        yield path, nest
        return
    for key, value in children:
        yield from leaves(value, (*path, key))
