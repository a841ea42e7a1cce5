"""The format of an optimizer's saved state: arrays with names, and checksums.

Keras saves the variables of an optimizer by their positions. If a model then has its layers in
another order, or one layer more, variables would get the state of others.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

import keras
import numpy as np

from nagd_keras.state import legacy
from nagd_keras.tensors import values_of

FORMAT = 2
LOOK_AHEAD = "look_ahead"  # the slot, in a saved state only, of the remembered look-ahead point
MANIFEST = "manifest"  # the key that a store has besides those of the arrays, which are numbered
PREFIX = "nagd_"  # of the numbers, which Keras' optimizers would take for keys of theirs


class Name(NamedTuple):
    """The name of one array of the state: the kind of slot, and the path of the model's variable.

    The path is empty for what belongs to the whole optimizer, such as the age.
    """

    slot: str
    path: str = ""

    def __str__(self) -> str:
        """Returns what error messages say."""
        return f"{self.slot} of {self.path}" if self.path else self.slot


@dataclass
class Saved:
    """The saved state of an optimizer.

    Attributes:
        arrays: the values of scalars and slots; None if only the checksum was kept.
        built: whether the optimizer had been built; if not, its slots are as good as zero.
        paths: the paths of the model's variables.
        weights: the checksums of the model's variables, by path. It leaves out a variable whose
            elements are all the same, which its checksum would not identify.
        not_decayed: the paths of the variables that take no weight decay.
        factors: the factors of the learning rates of variables, if they are not 1.
        at_iterate: whether the model's variables hold the iterate.
        notes: what callbacks remember, by their names.
        given: the hyperparameters that began as numbers, and these numbers.
        checksums: the checksums that were read.
        format: the format that was read.
    """

    arrays: dict[Name, Any]
    built: bool
    paths: list[str] = field(default_factory=list)
    weights: dict[str, int] = field(default_factory=dict)
    not_decayed: list[str] = field(default_factory=list)
    factors: dict[str, float] = field(default_factory=dict)
    at_iterate: bool = False
    notes: dict[str, dict[str, Any]] = field(default_factory=dict)
    given: dict[str, float] = field(default_factory=dict)
    checksums: dict[Name, int] = field(default_factory=dict)
    format: int = FORMAT

    def write(self, store: Any, only: str = "") -> None:
        """Writes the state into a store of Keras' saving, or a dictionary.

        Of the arrays, all, or those of one slot only; of the others, the checksums.
        """
        manifest = {
            "format": FORMAT,
            "arrays": [
                [*name, array.dtype.name, checksum(array)] for name, array in self.arrays.items()
            ],
            **{key: getattr(self, key) for key in _REST},
        }
        text = json.dumps(manifest).encode()
        # As an array of bytes, which every store takes; its checksum comes first.
        store[MANIFEST] = np.frombuffer(zlib.crc32(text).to_bytes(4, "big") + text, np.uint8)
        for i, (name, array) in enumerate(self.arrays.items()):
            if only in ("", name.slot):
                store[f"{PREFIX}{i}"] = array
        # Keras' optimizers take a store for theirs if it has as many keys as they have variables:
        # one or two, and one to three for each of those that they train.
        while len(store.keys()) <= 2 * len(self.paths) + 2 or len(store.keys()) % 3:
            store[f"{PREFIX}unused_{len(store.keys())}"] = np.zeros(0, np.uint8)

    @classmethod
    def read(cls, store: Any, only: str = "") -> Self | None:
        """Returns the state that `write` wrote; None if there is no state of an NAGD in the store.

        Raises:
            ValueError: if it is damaged.
        """
        keys = set(store.keys())
        if MANIFEST not in keys:
            return None
        text = np.asarray(store[MANIFEST]).astype(np.uint8).tobytes()
        if zlib.crc32(text[4:]).to_bytes(4, "big") != text[:4]:
            raise damaged("its list of names does not have the checksum that it was saved with")
        manifest = json.loads(text[4:])
        if manifest["format"] not in (legacy.FORMAT, FORMAT):
            raise ValueError(
                f"The saved optimizer state has format {manifest['format']}; this version of "
                f"nagd_keras knows the formats up to {FORMAT}. Load it with the version that wrote "
                "it, or a newer one."
            )
        prefix = PREFIX if manifest["format"] == FORMAT else ""
        arrays: dict[Name, Any] = {}
        checksums: dict[Name, int] = {}
        for i, (slot, path, dtype, wanted) in enumerate(manifest["arrays"]):
            name = Name(slot, path)
            checksums[name] = wanted
            if only not in ("", slot):
                arrays[name] = None
                continue
            if f"{prefix}{i}" not in keys:
                raise damaged(f"it lacks the {name}")
            array = of_dtype(store[f"{prefix}{i}"], dtype)
            if array is None or checksum(array) != wanted:
                raise damaged(f"the {name} does not have the checksum that it was saved with")
            arrays[name] = array
        if manifest["format"] == legacy.FORMAT:
            arrays, extras = legacy.scalars(arrays)
            manifest |= extras
        rest = {key: manifest[key] for key in _REST if key in manifest}
        return cls(arrays, **rest, checksums=checksums, format=manifest["format"])

    def renamed(self, paths: Mapping[str, str]) -> Self:
        """Returns the state with new paths of variables, which are given by the old ones."""
        paths = {"": "", **paths}  # of what belongs to the whole optimizer

        def new(named: Mapping[Name, Any]) -> dict[Name, Any]:
            return {Name(n.slot, paths[n.path]): x for n, x in named.items() if n.path in paths}

        return replace(
            self,
            arrays=new(self.arrays),
            paths=[paths[path] for path in self.paths if path in paths],
            weights={paths[path]: crc for path, crc in self.weights.items() if path in paths},
            not_decayed=[paths[path] for path in self.not_decayed if path in paths],
            factors={paths[path]: x for path, x in self.factors.items() if path in paths},
            checksums=new(self.checksums),
        )


@dataclass
class Pending:
    """A state that was loaded before the optimizer was built, and waits for its variables.

    Attributes:
        saved: the state, or None if it came without names.
        arrays: the slots, if they came without names.
        restored: whether TensorFlow restores the variables itself, from a checkpoint.
    """

    saved: Saved | None = None
    arrays: Sequence[Any] = ()
    restored: bool = False


_REST = "built", "paths", "weights", "not_decayed", "factors", "at_iterate", "notes", "given"


def checksum(array: Any) -> int:
    """Returns the CRC-32 of an array's bytes."""
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def fingerprint(variable: Any) -> int | None:
    """Returns a variable's checksum, or None if its elements are all the same."""
    array = values_of(variable)
    if array.size == 0 or (array == array.flat[0]).all():
        return None
    return checksum(array)


def of_dtype(array: Any, dtype: str) -> Any:
    """Returns what was saved as an array of that dtype, or None if it has another."""
    array = np.asarray(array)
    if array.dtype.name.startswith("void"):  # A format that does not know bfloat16 kept its bytes.
        wanted = keras.ops.convert_to_numpy(keras.ops.zeros(1, dtype)).dtype
        array = array.view(wanted) if wanted.itemsize == array.dtype.itemsize else array
    return array if array.dtype.name == dtype else None


def damaged(reason: str) -> ValueError:
    """Returns the error of a state that is not as it was saved."""
    return ValueError(
        f"The saved optimizer state is damaged: {reason}. Load another copy of the file."
    )
