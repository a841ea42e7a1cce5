"""Which saved state belongs to which of the model's variables."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nagd_keras.state.archive import Saved, fingerprint


def matched(
    saved: Saved, variables: Sequence[Any], *, partly: bool = False, compare: bool = True
) -> Saved:
    """Returns a saved state with the paths that `variables`, those of the model, have now.

    Names that Keras made up may have other numbers now, `dense_3` for `dense`, if the layers are
    the same and in the same order. Where their names leave doubts, the values that the variables
    hold decide.

    Args:
        saved: the saved state.
        variables: the model's variables.
        partly: whether the variables may be some of those that were saved, or the other way round;
            the state is then what both have.
        compare: whether the variables hold the values that were saved with the state.

    Raises:
        ValueError: if the state is that of other variables.
    """
    present = dict(zip(paths_of(variables), variables, strict=True))
    prints = {path: fingerprint(variable) for path, variable in present.items()}
    paths = list(present)
    named = paired(saved.paths, paths)
    sizes = len(saved.paths), len(paths)
    if len(named) == (min(sizes) if partly else max(sizes)):
        if compare:
            _check_not_moved(saved, {old: prints[new] for old, new in named.items()})
        return saved.renamed(named)
    for renaming in (_without_numbers(saved.paths, paths), _in_order(saved.paths, paths)):
        if renaming is None:
            continue
        values = {old: prints[new] for old, new in renaming.items()}
        certain = saved.weights and all(values[old] == c for old, c in saved.weights.items())
        # Names that are used for others than before must be certain.
        shifted = not set(present) & set(renaming) and len(set(saved.paths)) == len(paths)
        if certain or (shifted and not any("#" in path for path in (*saved.paths, *paths))):
            _check_not_moved(saved, values)
            return saved.renamed(renaming)
    missing = [path for path in saved.paths if path not in present]
    extra = [path for path in present if path not in set(saved.paths)]
    raise ValueError(
        "The saved optimizer state is that of other variables. "
        f"Only in the saved state: {some_of(missing)}. Only in the model: {some_of(extra)}. "
        "Nothing of the optimizer's state was loaded. Give the layers the names that they had; "
        "or, for a model with new layers, load the old model and use "
        "`nagd_keras.convert.from_nagd`, which keeps the state of those that stayed; or leave "
        "the state out: compile the model with a new optimizer, after the loading."
    )


def _in_order(old: Sequence[str], new: Sequence[str]) -> dict[str, str] | None:
    """Returns the old paths with the new ones in the same places, if the names could be theirs.

    In nested models that are loaded, layers of one name in different blocks have the same path.
    """
    pairs = list(zip(old, new, strict=False))
    ends = [[path.partition("#")[0].split("/")[::-1] for path in pair] for pair in pairs]
    alike = all(all(x == y for x, y in zip(a, b, strict=False)) for a, b in ends)
    return dict(pairs) if alike and len(old) == len(new) else None


def _without_numbers(old: Sequence[str], new: Sequence[str]) -> dict[str, str] | None:
    """Returns the old paths with the new ones of the same name, whatever numbers Keras gave it.

    Those that have one name then, as the layers `dense` and `dense_1`, are told by their order.
    """
    here, there = _by_name(new), _by_name(old)
    names = paired([*there], [*here])
    all_found = len(names) == len(old) == len(new)
    return {there[a]: here[b] for a, b in names.items()} if all_found else None


def _by_name(paths: Sequence[str]) -> dict[str, str]:
    names = [re.sub(r"_[0-9]+(?=/|$)", "", path.partition("#")[0]) for path in paths]
    return dict(zip(_distinct(names), paths, strict=True))


def _check_not_moved(saved: Saved, values: Mapping[str, int | None]) -> None:
    """Raises if a variable's value is what another one's was when the state was saved."""
    known = set(saved.weights.values())
    moved = [
        path
        for path, crc in saved.weights.items()
        if path in values and values[path] != crc and values[path] in known
    ]
    if moved:
        raise ValueError(
            "The saved optimizer state belongs to weights that are elsewhere in the model now: "
            f"those of {some_of(moved)}. Keras loads weights by the position of the layers, and "
            "the layers are in another order than when they were saved. Nothing of the "
            "optimizer's state was loaded. Bring the layers into the order that they had."
        )


def paths_of(variables: Iterable[Any]) -> list[str]:
    """Returns a name of its own for each variable: its path, numbered where others have it too."""
    return _distinct(getattr(variable, "path", variable.name) for variable in variables)


def _distinct(names: Iterable[str]) -> list[str]:
    seen: dict[str, int] = {}
    distinct = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        distinct.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return distinct


def paired(old: Sequence[str], new: Sequence[str]) -> dict[str, str]:
    """Returns the old paths that are new ones, with these, as far as that can be told.

    A path may lack the names of the models around its layer: Keras puts them there when a layer is
    built by its model, but not when it is built by itself, as in a model that is loaded.
    """
    if set(old) == set(new):
        return {path: path for path in old}
    nearest = {path: _nearest(path, new) for path in old}
    return {o: n for o, n in nearest.items() if n is not None and _nearest(n, old) == o}


def _nearest(path: str, others: Sequence[str]) -> str | None:
    """Returns the path that ends as this one, with the fewest names more or less, if it is one."""
    near = [x for x in others if f"/{x}".endswith(f"/{path}") or f"/{path}".endswith(f"/{x}")]
    names = [abs(x.count("/") - path.count("/")) for x in near]
    return near[names.index(min(names))] if names and names.count(min(names)) == 1 else None


def some_of(names: Sequence[str], most: int = 8) -> str:
    """Returns names in words, or the first of many."""
    shown = ", ".join(names[:most]) or "none"
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
