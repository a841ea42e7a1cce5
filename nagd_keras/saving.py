"""Files that are whole or not there: saving and loading that a crash or a bad disk cannot spoil."""

import errno
import math
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from nagd_keras.nagd import NAGD
from nagd_keras.tensors import values_of

__all__ = [
    "DamagedFileError",
    "check",
    "load_model",
    "load_weights",
    "save_model",
    "save_weights",
]

_BESIDE = "nagd_keras_beside"  # the group of what no variable of the model or optimizer holds
_OVERHEAD = 1 << 13  # bytes that HDF5 takes at most for the names of one array


def __dir__() -> list[str]:
    """Returns the public names, without what is imported."""
    return list(__all__)


class DamagedFileError(ValueError):
    """A file is truncated, has changed since it was written, or is no file of its kind."""


def save_model(model: Any, filepath: str | os.PathLike[str]) -> None:
    """Saves a model and its optimizer's state, as `model.save`, in one step.

    NAGD writes the file under another name in the same folder, checks it and renames it. If the
    process is killed, or the disk is full, what was at `filepath` before stays. Only one process at
    a time may write to a path.

    Args:
        model: the Keras model.
        filepath: a path that ends in `.keras`.

    Raises:
        TypeError: if `model` is not a Keras model.
        ValueError: for another ending, or an optimizer that Keras could not load again.
        OSError: if the file cannot be written; the message names it.

    Example:
        >>> import keras, pathlib, tempfile
        >>> from nagd_keras import NAGD, saving
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile(optimizer=NAGD(momentum=0.95), loss="mse")
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "model.keras"
        >>> saving.save_model(model, path)
        >>> saving.load_model(path).optimizer.get_config()["momentum"]
        0.95
    """
    _check_model(model)
    _written(Path(filepath), ".keras", model, model.save)


def save_weights(model: Any, filepath: str | os.PathLike[str]) -> None:
    """Saves a model's weights and its optimizer's state, as `model.save_weights`, in one step.

    Args:
        model: the Keras model, built.
        filepath: a path that ends in `.weights.h5`.

    Raises:
        TypeError: if `model` is not a Keras model.
        ValueError: for another ending, or a model that is not built.
        OSError: if the file cannot be written; the message names it.
    """
    _check_model(model)
    _written(Path(filepath), ".weights.h5", model, model.save_weights)


def load_model(filepath: str | os.PathLike[str], **settings: Any) -> Any:
    """Loads a model, as `keras.saving.load_model`, after checking that the file is whole.

    Keras does not notice that bytes of a file have changed. This function compares all bytes of a
    `.keras` file with its checksums. An `.h5` file has no checksums: the function notices if the
    file is shorter than it was, or if the optimizer's state has changed.

    Args:
        filepath: the path of a `.keras` or `.h5` file.
        settings: arguments of `keras.saving.load_model`, such as `custom_objects`.

    Returns:
        The model.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or Keras cannot load it; the message names it.
    """
    path = Path(filepath)
    check(path)
    with _naming(path):
        return keras.saving.load_model(path, **settings)


def load_weights(model: Any, filepath: str | os.PathLike[str], **settings: Any) -> None:
    """Loads what `save_weights` saved, as `model.load_weights`: all of it or nothing.

    If Keras stops half-way, for example at a layer of another shape, the variables of the model and
    of its optimizer get back what they held before. If state of the optimizer does not fit, a
    warning names it, and it begins as in a new optimizer.

    Args:
        model: the Keras model, built.
        filepath: the path of a `.weights.h5` or `.keras` file.
        settings: arguments of `model.load_weights`, such as `skip_mismatch`.

    Raises:
        TypeError: if `model` is not a Keras model.
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or does not fit the model; the message names it.
    """
    _check_model(model)
    path = Path(filepath)
    check(path)
    variables = _variables(model)
    before = [values_of(variable) for variable in variables]
    inner = (getattr(each, "inner_optimizer", each) for each in _optimizers(model))
    named = [optimizer for optimizer in inner if isinstance(optimizer, NAGD)]
    notes = [nagd._state.beside_variables() for nagd in named]
    with _naming(path):
        try:
            model.load_weights(path, **settings)
        except BaseException:
            for variable, array in zip(variables, before, strict=True):
                variable.assign(array)
            for nagd, kept in zip(named, notes, strict=True):
                nagd._state.put_back(kept)
            raise


def _save_beside(
    model: Any, filepath: str | os.PathLike[str], beside: Mapping[str, np.ndarray]
) -> None:
    """Saves what `save_weights` saves, and further arrays, in the same one step.

    Args:
        model: the Keras model, built.
        filepath: a path that ends in `.weights.h5`.
        beside: the arrays by name. Each has one dimension and a dtype that HDF5 knows.

    Raises:
        OSError: if the file cannot be written; the message names it.
    """

    def write(path: Path) -> None:
        model.save_weights(path)
        with h5py.File(path, "r+") as file:
            for name, array in beside.items():
                # With a checksum, for which HDF5 needs an element.
                file.create_dataset(f"{_BESIDE}/{name}", data=array, fletcher32=array.size > 0)

    more = sum(array.nbytes + _OVERHEAD for array in beside.values())
    _written(Path(filepath), ".weights.h5", model, write, more)


def _load_beside(filepath: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Returns the arrays that `_save_beside` wrote; none if another function wrote the file.

    Raises what `check` raises.
    """
    path = Path(filepath)
    check(path)
    try:
        with h5py.File(path) as file:
            return {name: array[()] for name, array in file.get(_BESIDE, {}).items()}
    except OSError as error:  # One of its checksums is another.
        raise DamagedFileError(
            f"The file {path} is damaged: {error}. Load another copy of it."
        ) from error


def check(filepath: str | os.PathLike[str]) -> None:
    """Checks that a file is whole: a `.keras` file by its checksums, an `.h5` file by its length.

    Args:
        filepath: the path of a file that ends in `.keras` or `.h5`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged; a `DamagedFileError`.
    """
    path = Path(filepath)
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"There is no file to load at {path}, which {kind}.")
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                if part := archive.testzip():
                    raise zipfile.BadZipFile(
                        f"its part {part} does not have the checksum that it was written with"
                    )
        elif path.suffix == ".h5":
            h5py.File(path).close()  # The file says how long it should be.
    except Exception as error:  # zipfile raises many kinds for what it cannot read.
        raise DamagedFileError(
            f"The file {path} is damaged, or not a file that Keras wrote: {error}. Load another "
            "copy of it."
        ) from error


def _check_model(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"The first argument must be a Keras model. Received: {model!r} (of type "
            f"{type(model).__name__}). Pass the model first, then the path."
        )


def _written(
    path: Path, ending: str, model: Any, write: Callable[[Path], Any], more: int = 0
) -> None:
    if not path.name.endswith(ending):
        raise ValueError(f"The name of the file must end in {ending}. Received: {path}.")
    path = path.resolve()  # A link stays, and what it leads to is replaced.
    # One name for each path: what a killed process left there, the next one writes over.
    partial = path.with_name(f".partial-{path.name}")
    try:
        _check_space(path.parent, model, more)
        write(partial)
        with partial.open("r+b") as file:
            os.fsync(file.fileno())  # else a loss of power could leave the new name without data
        check(partial)
        if path.exists():
            shutil.copymode(path, partial)
        os.replace(partial, path)
    except OSError as error:
        raise type(error)(
            error.errno,
            # HDF5 adds lines about its own affairs.
            f"The model could not be saved at {path}: {str(error).partition(os.linesep)[0]}. What "
            "was there before is still there. Free some space, or choose another folder",
        ) from error
    finally:
        with suppress(OSError):  # It is not there if all went well, or the folder is read-only.
            partial.unlink()


def _optimizers(model: Any) -> list[Any]:
    """Returns all optimizers of a model, the one it is compiled with and any others."""
    found = [getattr(model, "optimizer", None), *vars(model).values()]
    known = {id(each): each for each in found if isinstance(each, keras.optimizers.Optimizer)}
    return list(known.values())


def _variables(model: Any) -> list[Any]:
    """Returns all variables that a file of weights can hold."""
    return [*model.variables, *(v for each in _optimizers(model) for v in each.variables)]


def _check_space(folder: Path, model: Any, more: int) -> None:
    """Raises OSError if a disk has no space for the model's weights and state, and more bytes.

    HDF5 writes when it closes a file. If the disk is full then, the process crashes sooner or
    later.
    """
    needed = sum(
        np.dtype(v.dtype).itemsize * math.prod(v.shape) + _OVERHEAD for v in _variables(model)
    )
    if shutil.disk_usage(folder).free < needed + more:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turns what Keras raises into an error that names the file."""
    try:
        yield
    except Exception as error:  # Keras and HDF5 raise errors of many kinds.
        raise ValueError(f"The file {path} could not be loaded. {error}") from error
