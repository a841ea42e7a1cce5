"""An optimizer's state, each part under the name of what it belongs to, to be saved and matched.

Keras saves the variables of an optimizer by their positions: in a model with its layers in another
order, or with one more, they would get the state of others. Here a state is a set of arrays with
names, checksums, and what is needed to see whether it belongs to the variables at hand.
"""

import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import keras
import numpy as np

FORMAT = 1
MANIFEST = "manifest"  # the key that a store has besides those of the arrays, which are numbered


class Name(NamedTuple):
    """What one array of the state is: the kind of slot, and the path of the model's variable.

    The path is empty for what belongs to the whole optimizer, such as the age.
    """

    slot: str
    path: str = ""

    def __str__(self) -> str:
        """Returns what error messages say."""
        return f"{self.slot} of {self.path}" if self.path else self.slot


@dataclass
class State:
    """The state of an optimizer.

    Attributes:
        arrays: the values of the optimizer's variables; None where only the checksum was kept.
        built: whether the optimizer had been built; if not, its slots are as good as zero.
        paths: those of the model's variables.
        weights: checksums of those of the model's variables that tell themselves from others, by
            path: all whose elements are not all the same.
        not_decayed: the paths of the variables that take no weight decay.
        factors: what the learning rates of variables are multiplied by, if not by 1.
    """

    arrays: dict[Name, Any]
    built: bool
    paths: list[str] = field(default_factory=list)
    weights: dict[str, int] = field(default_factory=dict)
    not_decayed: list[str] = field(default_factory=list)
    factors: dict[str, float] = field(default_factory=dict)
    checksums: dict[Name, int] = field(default_factory=dict)  # those that were read

    def write(self, store: Any, only: str = "") -> None:
        """Writes the state into a store of Keras' saving, or a dictionary.

        Of the arrays, all, or those of one slot only; of the others, the checksums.
        """
        manifest = {
            "format": FORMAT,
            "built": self.built,
            "arrays": [
                [*name, array.dtype.name, checksum(array)] for name, array in self.arrays.items()
            ],
            "paths": self.paths,
            "weights": self.weights,
            "not_decayed": self.not_decayed,
            "factors": self.factors,
        }
        text = json.dumps(manifest).encode()
        # As an array of bytes, which every store takes; its checksum comes first.
        store[MANIFEST] = np.frombuffer(zlib.crc32(text).to_bytes(4, "big") + text, np.uint8)
        for i, (name, array) in enumerate(self.arrays.items()):
            if only in ("", name.slot):
                store[str(i)] = array

    @classmethod
    def read(cls, store: Any, only: str = "") -> Self | None:
        """Returns the state that `write` wrote; None if there is nothing in the store.

        Raises:
            ValueError: if another optimizer wrote it, or it is damaged.
        """
        keys = set(store.keys())
        if not keys:
            return None
        if MANIFEST not in keys:
            raise ValueError(
                f"The saved optimizer state was not written by NAGD: it has {len(keys)} arrays "
                "without names. NAGD loads what NAGD saved. If it was saved under the dtype policy "
                "mixed_float16, where Keras' LossScaleOptimizer holds NAGD, set that policy before "
                "loading: keras.config.set_dtype_policy('mixed_float16'). To go on from Keras' "
                "SGD, load the model with the optimizer that it was saved with, then call "
                "`nagd_keras.convert.adopt(model)`."
            )
        text = np.asarray(store[MANIFEST]).astype(np.uint8).tobytes()
        if zlib.crc32(text[4:]).to_bytes(4, "big") != text[:4]:
            raise _damaged("its list of names does not have the checksum that it was saved with")
        manifest = json.loads(text[4:])
        if manifest["format"] != FORMAT:
            raise ValueError(
                f"The saved optimizer state has format {manifest['format']}; this version of "
                f"nagd_keras knows format {FORMAT}. Load it with the version that wrote it, or a "
                "newer one."
            )
        arrays: dict[Name, Any] = {}
        checksums: dict[Name, int] = {}
        for i, (slot, path, dtype, wanted) in enumerate(manifest["arrays"]):
            name = Name(slot, path)
            checksums[name] = wanted
            if only not in ("", slot):
                arrays[name] = None
                continue
            if str(i) not in keys:
                raise _damaged(f"it lacks the {name}")
            array = of_dtype(store[str(i)], dtype)
            if array is None or checksum(array) != wanted:
                raise _damaged(f"the {name} does not have the checksum that it was saved with")
            arrays[name] = array
        keys_of_rest = ("built", "paths", "weights", "not_decayed", "factors")
        rest = {key: manifest[key] for key in keys_of_rest}
        return cls(arrays, **rest, checksums=checksums)

    def renamed(self, paths: Mapping[str, str]) -> Self:
        """Returns the state of the variables that have other paths now, by the old ones."""
        paths = {"": "", **paths}  # of what belongs to the whole optimizer

        def new(named: Mapping[Name, Any]) -> dict[Name, Any]:
            return {Name(n.slot, paths[n.path]): x for n, x in named.items() if n.path in paths}

        return type(self)(
            new(self.arrays),
            self.built,
            [paths[path] for path in self.paths if path in paths],
            {paths[path]: crc for path, crc in self.weights.items() if path in paths},
            [paths[path] for path in self.not_decayed if path in paths],
            {paths[path]: factor for path, factor in self.factors.items() if path in paths},
            new(self.checksums),
        )

    def matched(
        self, variables: Sequence[Any], *, partly: bool = False, compare: bool = True
    ) -> Self:
        """Returns the state with the paths that `variables`, those of the model, have now.

        Names that Keras made up may have other numbers now, `dense_3` for `dense`, if the layers
        are the same and in the same order. Where their names leave doubts, the values that the
        variables hold decide.

        Args:
            variables: the model's variables.
            partly: whether the variables may be some of those that were saved, or the other way
                round; the state is then what both have.
            compare: whether the variables hold the values that were saved with the state.

        Raises:
            ValueError: if the state is that of other variables.
        """
        present = dict(zip(paths_of(variables), variables, strict=True))
        prints = {path: fingerprint(variable) for path, variable in present.items()}
        paths = list(present)
        renaming = same_names(self.paths, paths)
        if renaming is None and partly:
            some = paired(self.paths, paths)
            renaming = some if len(some) == min(len(self.paths), len(paths)) else None
        if renaming is not None:
            if compare:
                self._check_not_moved({old: prints[new] for old, new in renaming.items()})
            return self.renamed(renaming)
        for renaming in (renumbered(self.paths, paths), in_order(self.paths, paths)):
            if renaming is None:
                continue
            values = {old: prints[new] for old, new in renaming.items()}
            known = self.weights.items()
            certain = known and all(values[old] == crc for old, crc in known)
            # Names that are used for others than before must be certain; so must mere places.
            shifted = not set(present) & set(renaming) and len(set(self.paths)) == len(paths)
            if certain or (shifted and not any("#" in path for path in (*self.paths, *paths))):
                self._check_not_moved(values)
                return self.renamed(renaming)
        missing = [path for path in self.paths if path not in present]
        extra = [path for path in present if path not in set(self.paths)]
        raise ValueError(
            "The saved optimizer state is that of other variables. "
            f"Only in the saved state: {_some(missing)}. Only in the model: {_some(extra)}. "
            "Nothing of the optimizer's state was loaded. Give the layers the names that they had; "
            "or, for a model with new layers, load the old model and use "
            "`nagd_keras.convert.from_nagd`, which keeps the state of those that stayed; or leave "
            "the state out: compile the model with a new optimizer, behind the loading."
        )

    def _check_not_moved(self, values: Mapping[str, int | None]) -> None:
        """Raises if a variable's value is what another one's was when the state was saved."""
        known = set(self.weights.values())
        moved = [
            path
            for path, crc in self.weights.items()
            if path in values and values[path] != crc and values[path] in known
        ]
        if moved:
            raise ValueError(
                "The saved optimizer state belongs to weights that are elsewhere in the model now: "
                f"those of {_some(moved)}. Keras loads weights by the position of the layers, and "
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


def in_order(old: Sequence[str], new: Sequence[str]) -> dict[str, str] | None:
    """Returns the old paths with the new ones in the same places, if these could be theirs.

    In nested models that are loaded, layers of one name in different blocks have the same path.
    """
    pairs = list(zip(old, new, strict=False))
    parts = [[path.partition("#")[0].split("/")[::-1] for path in pair] for pair in pairs]
    alike = all(all(x == y for x, y in zip(a, b, strict=False)) for a, b in parts)
    return dict(pairs) if alike and len(old) == len(new) else None


def checksum(array: Any) -> int:
    """Returns the CRC-32 of an array's bytes."""
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def fingerprint(variable: Any) -> int | None:
    """Returns a variable's checksum, or None if its elements are all the same."""
    array = values_of(variable)
    if array.size == 0 or (array == array.flat[0]).all():
        return None
    return checksum(array)


def values_of(variable: Any) -> Any:
    """Returns the value of a variable or tensor as a NumPy array of its own."""
    # One dimension at least, without which TensorFlow makes no array of a bfloat16.
    values = keras.ops.reshape(keras.ops.cast(variable, variable.dtype), (-1,))
    return np.array(keras.ops.convert_to_numpy(values)).reshape(tuple(variable.shape))


def fitted(
    saved: Mapping[Name, Any], variables: Mapping[Name, Any], of_what: str = "saved state"
) -> list[tuple[Any, Any]]:
    """Returns pairs of a variable and the array that it is to hold, for all of them.

    Raises:
        ValueError: if the names, shapes or dtypes of the two do not agree.
    """
    faults = []
    for where, one, other in (("the " + of_what, saved, variables), ("here", variables, saved)):
        only = [str(name) for name in one if name not in other]
        if only:
            faults.append(f"only in {where}: {_some(only)}")
    for name, array in saved.items():
        if name not in variables:
            continue
        variable = variables[name]
        there = f"{tuple(array.shape)} {array.dtype.name}"
        dtype = keras.backend.standardize_dtype(variable.dtype)
        here = f"{tuple(variable.shape)} {dtype}"
        # Counters have 32 or 64 bits, as the backend has it.
        alike = name.path == "" and _kind(array.dtype.name) == _kind(dtype)
        if tuple(array.shape) != tuple(variable.shape) or not (alike or array.dtype.name == dtype):
            faults.append(f"the {name} is {there} in the {of_what} and {here} here")
    if faults:
        raise ValueError(
            f"The {of_what} does not fit the optimizer, whose settings or whose model are others: "
            f"{'; '.join(faults)}. Nothing of the optimizer's state was loaded. Make the optimizer "
            "with the settings that it was saved with; to change them, load the model as it was "
            "saved and use `nagd_keras.convert.from_nagd`."
        )
    return [(variables[name], array) for name, array in saved.items()]


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


def of_dtype(array: Any, dtype: str) -> Any:
    """Returns what was saved as an array of that dtype, or None if it is of another."""
    array = np.asarray(array)
    if array.dtype.name.startswith("void"):  # A format that does not know bfloat16 kept its bytes.
        wanted = keras.ops.convert_to_numpy(keras.ops.zeros(1, dtype)).dtype
        array = array.view(wanted) if wanted.itemsize == array.dtype.itemsize else array
    return array if array.dtype.name == dtype else None


def _kind(dtype: str) -> str:
    return dtype.rstrip("0123456789")


def _some(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(names[:most]) or "none"
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _damaged(reason: str) -> ValueError:
    return ValueError(
        f"The saved optimizer state is damaged: {reason}. Load another copy of the file."
    )
