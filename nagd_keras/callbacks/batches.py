"""The batches of an experiment, cut from arrays without touching any global random state."""

from itertools import chain, islice
from types import GeneratorType
from typing import Any

import keras
import numpy as np

from nagd_keras.arguments import count


class Batches(keras.utils.PyDataset):
    """Full batches of arrays, in a random order of their own."""

    def __init__(
        self, x: Any, y: Any, sample_weight: Any, steps: int, batch_size: int | None, seed: int
    ) -> None:
        """Takes the arrays of `fit`, and cuts `steps` batches from them.

        Raises:
            TypeError, ValueError: if the arrays do not fit together, or for a bad batch size.
        """
        super().__init__()
        if y is None and sample_weight is not None:
            raise ValueError("`sample_weight` weighs targets. Received: y=None. Pass y too.")
        arrays = tuple(each for each in (x, y, sample_weight) if each is not None)
        # TensorFlow's datasets take a list for one tensor.
        self._arrays = keras.tree.lists_to_tuples(keras.tree.map_structure(_as_numpy, arrays))
        lengths = {len(a) for a in keras.tree.flatten(self._arrays) if a is not None}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(
                "All inputs, targets and weights must have the same number of samples, at least "
                f"1. Received: arrays of {sorted(lengths)} samples."
            )
        samples = lengths.pop()
        size = min(32 if batch_size is None else count("batch_size", batch_size), samples)
        rng = np.random.default_rng(seed)
        rounds = -(-steps * size // samples)
        order = np.concatenate([rng.permutation(samples) for _ in range(rounds)])
        self._order = order[: steps * size].reshape(steps, size)

    def __len__(self) -> int:
        """Returns the number of batches."""
        return len(self._order)

    def __getitem__(self, index: int) -> Any:
        """Returns a batch as `fit` makes it."""
        rows = self._order[index]
        return keras.tree.map_structure(lambda a: _cut(a, rows), self._arrays)


def _as_numpy(array: Any) -> np.ndarray | None:
    """Returns an array of any framework as one of NumPy; None stays None."""
    if array is None:
        return None
    if hasattr(array, "detach"):  # PyTorch's, on whatever device
        array = keras.ops.convert_to_numpy(array)
    found = np.asarray(array)
    return found.reshape(len(found), -1) if hasattr(array, "iloc") else found  # of pandas


def _cut(array: np.ndarray | None, rows: Any) -> Any:
    """Returns a batch with the dtype that Keras gives to what `fit` cuts from arrays."""
    if array is None:
        return None
    batch = array[rows]
    if batch.dtype == object:  # texts
        return keras.ops.convert_to_tensor(batch)
    is_float = keras.backend.is_float_dtype(batch.dtype.name)
    return batch.astype(keras.config.floatx()) if is_float else batch


def is_of_arrays(x: Any) -> bool:
    """Whether `x` is an array, a list or dictionary of arrays, or None."""
    if isinstance(x, (dict, list, tuple)):
        return all(is_of_arrays(each) for each in (x.values() if isinstance(x, dict) else x))
    return x is None or hasattr(x, "__array__")


def arguments_of_fit(
    model: Any,
    x: Any,
    y: Any,
    sample_weight: Any,
    steps: int,
    batch_size: int | None,
    seed: int,
) -> dict[str, Any]:
    """Returns the arguments with which `fit` trains with `steps` batches of the data."""
    of_arrays = is_of_arrays((x, y, sample_weight))
    if of_arrays and type(model).fit is keras.Model.fit:
        return {"x": Batches(x, y, sample_weight, steps, batch_size, seed), "shuffle": False}
    given = {"x": x, "y": y, "sample_weight": sample_weight, "batch_size": batch_size}
    given = {name: each for name, each in given.items() if each is not None}
    # Data that end are begun anew, which a generator cannot be.
    given["epochs"] = 1 if isinstance(x, GeneratorType) else steps
    # Keras warns where it cannot shuffle. A `fit` of the model's own orders arrays as it does.
    return given if of_arrays else {**given, "shuffle": False}


def first_inputs(x: Any) -> tuple[Any, Any]:
    """Returns the inputs of the first batch of a dataset, and the dataset with that batch.

    Raises:
        ValueError: if there are no batches.
    """
    batches = iter(()) if is_of_arrays(x) or hasattr(x, "shape") else iter(x)
    first = list(islice(batches, 1))
    if not first:
        raise ValueError(
            "The model is not built, and these data have no batch to tell its shapes. "
            f"Received: {x!r}. Call the model on a batch before find_learning_rate."
        )
    inputs = keras.utils.unpack_x_y_sample_weight(first[0])[0]
    # Keras takes generators, but no other iterators.
    return inputs, (batch for batch in chain(first, x)) if batches is x else x
