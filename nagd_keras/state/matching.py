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
    renaming = same_names(saved.paths, paths)
    if renaming is None and partly:
        some = paired(saved.paths, paths)
        renaming = some if len(some) == min(len(saved.paths), len(paths)) else None
    if renaming is not None:
        if compare:
            _check_not_moved(saved, {old: prints[new] for old, new in renaming.items()})
        return saved.renamed(renaming)
    for renaming in (renumbered(saved.paths, paths), _in_order(saved.paths, paths)):
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
    seen: dict[str, int] = {}
    paths = []
    for variable in variables:
        path = getattr(variable, "path", variable.name)
        seen[path] = seen.get(path, 0) + 1
        paths.append(path if seen[path] == 1 else f"{path}#{seen[path]}")
    return paths


def same_names(old: Sequence[str], new: Sequence[str]) -> dict[str, str] | None:
    """Returns which old path is which new one, or None if they are those of different models."""
    found = paired(old, new)
    return found if len(found) == len(old) == len(new) else None


def paired(old: Sequence[str], new: Sequence[str]) -> dict[str, str]:
    """Returns the old paths that are new ones, with these; none if that cannot be told.

    A path may lack the names of the models around its layer: Keras puts them there when a layer is
    built by its model, but not when it is built by itself, as in a model that is loaded.
    """
    present = set(new)
    if set(old) == present:
        return {path: path for path in old}
    ends: dict[tuple[str, ...], list[str]] = {}
    for path in new:
        parts = tuple(path.split("/"))
        for i in range(len(parts)):
            ends.setdefault(parts[i:], []).append(path)
    pairs = []  # of paths of which one is the end of the other, by the length that they share
    for path in old:
        parts = tuple(path.split("/"))
        pairs += [(len(parts), path, longer) for longer in ends.get(parts, ())]
        shorter = [("/".join(parts[i:]), len(parts) - i) for i in range(1, len(parts))]
        pairs += [(length, path, end) for end, length in shorter if end in present]
    found: dict[str, str] = {}
    for shared in sorted({pair[0] for pair in pairs}, reverse=True):
        taken = set(found.values())
        these = [(o, n) for k, o, n in pairs if k == shared and o not in found and n not in taken]
        if len({o for o, _ in these}) < len(these) or len({n for _, n in these}) < len(these):
            return {}  # One end is that of two paths.
        found.update(these)
    return found


def renumbered(old: Sequence[str], new: Sequence[str]) -> dict[str, str] | None:
    """Returns what `same_names` does if each kind of Keras' own names is counted from 0."""
    old_ranks, new_ranks = _ranked(old), _ranked(new)
    ranks = same_names(list(old_ranks), list(new_ranks))
    if ranks is None or len(old_ranks) != len(old) or len(new_ranks) != len(new):
        return None
    return {old_ranks[a]: new_ranks[b] for a, b in ranks.items()}


def _ranked(paths: Sequence[str]) -> dict[str, str]:
    """Returns the paths by what they are if layers of one kind are counted from 0."""
    parts = {part: _parted(part) for path in paths for part in path.split("/")}
    numbers: dict[str, list[int]] = {}
    for base, number in sorted(set(parts.values())):
        numbers.setdefault(base, []).append(number)

    def rank(part: str) -> str:
        base, number = parts[part]
        return f"{base}_{numbers[base].index(number)}"

    return {"/".join(map(rank, path.split("/"))): path for path in paths}


def _parted(part: str) -> tuple[str, int]:
    """Returns ("dense", 3) for "dense_3" and ("dense", 0) for "dense"."""
    match = re.fullmatch(r"(.*)_([0-9]+)", part)
    return (match[1], int(match[2])) if match else (part, 0)


def some_of(names: Sequence[str], most: int = 8) -> str:
    """Returns names in words, or the first of many."""
    shown = ", ".join(names[:most]) or "none"
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
