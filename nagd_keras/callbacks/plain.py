"""Plain values as arrays that a file can hold: numbers, text, None, arrays, lists of them."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

_TEXT = "values"  # the name of the array that holds all but the arrays


def is_plain(value: Any) -> bool:
    """Whether a value can be kept: a number, text, None, an array, or lists and dictionaries."""
    if type(value) is list:
        return all(map(is_plain, value))
    if type(value) is dict:
        return all(type(key) is str for key in value) and all(map(is_plain, value.values()))
    if isinstance(value, (np.ndarray, np.generic)):
        return value.dtype.kind in "biufc" or value.dtype.name == "bfloat16"
    return value is None or type(value) in (bool, int, float, str)


def packed(values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns plain values as arrays of bytes, by name."""
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(_packed(dict(values), arrays))
    return {**arrays, _TEXT: _bytes(text.encode())}


def unpacked(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns the values that `packed` got."""
    found: dict[str, Any] = _unpacked(json.loads(arrays[_TEXT].tobytes()), arrays)
    return found


def _bytes(content: bytes) -> np.ndarray:
    return np.frombuffer(content, np.uint8)


def _packed(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_packed(each, arrays) for each in value]
    if isinstance(value, dict):
        return {"of": {key: _packed(each, arrays) for key, each in value.items()}}
    if isinstance(value, (np.ndarray, np.generic)):
        name = str(len(arrays))
        arrays[name] = _bytes(value.tobytes())
        return {"array": name, "dtype": value.dtype.name, "shape": value.shape}
    return value


def _unpacked(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_unpacked(each, arrays) for each in value]
    if not isinstance(value, dict):
        return value
    if "of" in value:
        return {key: _unpacked(each, arrays) for key, each in value["of"].items()}
    flat = np.frombuffer(arrays[value["array"]].tobytes(), np.dtype(value["dtype"]))
    # A copy, which can be written to; and of no dimension a NumPy number.
    return flat.reshape(value["shape"]).copy()[()]
