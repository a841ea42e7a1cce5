"""Which saved state belongs to which of the model's variables."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nagd_keras.state.archive import Saved, fingerprint


def matched(
    saved: Saved, variables: Sequence[Any], compare: bool = True
) -> tuple[Saved, list[str]]:
    """Returns what of a saved state belongs to variables of the model, by their present paths.

    Names that Keras made up may have other numbers now, `dense_3` for `dense`. What is saved
    belongs to the variable that holds the value that it was saved with.

    Args:
        saved: the saved state.
        variables: the model's variables.
        compare: whether the variables hold their values already; else the names alone decide.

    Returns:
        The state, and the paths of those variables that hold something else.
    """
    paths = paths_of(variables)
    prints = dict(zip(paths, map(fingerprint, variables), strict=True))
    found = [find(saved.paths, paths) for find in (paired, _without_numbers, in_order)]
    if not compare:
        return saved.renamed(max(found, key=len)), []

    def fits(names: dict[str, str]) -> dict[str, str]:
        return {old: new for old, new in names.items() if prints[new] == saved.weights.get(old)}

    best = max(found, key=lambda names: len(fits(names)))
    kept = fits(best)
    # Layers in another order, and those whose names tell nothing.
    holders = _holders(prints)
    for crc, old in _holders(saved.weights).items():
        if old not in kept and holders.get(crc, "") not in ("", *kept.values()):
            kept[old] = holders[crc]
    return saved.renamed(kept), [new for new in best.values() if new not in kept.values()]


def _holders(prints: Mapping[str, int | None]) -> dict[int, str]:
    """Returns the paths by the checksums that one variable alone has."""
    often = Counter(prints.values())
    return {crc: path for path, crc in prints.items() if crc is not None and often[crc] == 1}


def in_order(old: Sequence[str], new: Sequence[str]) -> dict[str, str]:
    """Returns the old paths with the new ones in the same places, if the names could be theirs.

    In nested models that are loaded, layers of one name in different blocks have the same path.
    """
    pairs = list(zip(old, new, strict=False))
    ends = [[_unnumbered(path).split("/")[::-1] for path in pair] for pair in pairs]
    alike = all(all(x == y for x, y in zip(a, b, strict=False)) for a, b in ends)
    return dict(pairs) if alike and len(old) == len(new) else {}


def _without_numbers(old: Sequence[str], new: Sequence[str]) -> dict[str, str]:
    """Returns the old paths with the new ones of the same name, whatever numbers Keras gave it.

    Those that have one name then, as the layers `dense` and `dense_1`, are told by their order.
    """
    here, there = (dict(zip(_distinct(map(_unnumbered, x)), x, strict=True)) for x in (new, old))
    return {there[a]: here[b] for a, b in paired([*there], [*here]).items()}


def _unnumbered(path: str) -> str:
    return re.sub(r"_[0-9]+(?=/|$)", "", path.partition("#")[0])


def paths_of(variables: Iterable[Any]) -> list[str]:
    """Returns a unique name for each variable: its path, with a number if others have it too."""
    return _distinct(getattr(variable, "path", variable.name) for variable in variables)


def _distinct(names: Iterable[str]) -> list[str]:
    seen: dict[str, int] = {}
    distinct = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        distinct.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return distinct


def paired(old: Sequence[str], new: Sequence[str]) -> dict[str, str]:
    """Returns the old paths with the new ones that they belong to, if that is certain.

    A path may lack the names of the models around its layer: Keras puts them there when a layer is
    built by its model, but not when it is built by itself, as in a model that is loaded.
    """
    if set(old) == set(new):
        return {path: path for path in old}
    nearest = {path: _nearest(path, new) for path in old}
    return {o: n for o, n in nearest.items() if n is not None and _nearest(n, old) == o}


def _nearest(path: str, others: Sequence[str]) -> str | None:
    """Returns the one path that ends like this one and is closest to it in length, or None."""
    near = [x for x in others if f"/{x}".endswith(f"/{path}") or f"/{path}".endswith(f"/{x}")]
    names = [abs(x.count("/") - path.count("/")) for x in near]
    return near[names.index(min(names))] if names and names.count(min(names)) == 1 else None


def some_of(names: Sequence[str], most: int = 8) -> str:
    """Returns names in words, or the first of many."""
    shown = ", ".join(names[:most]) or "none"
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
