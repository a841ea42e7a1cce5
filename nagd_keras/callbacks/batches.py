"""The batches of an experiment, cut from arrays without touching anybody's random numbers."""

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
            TypeError, ValueError: if the arrays do not fit together, or the batch size is none.
        """
        super().__init__()
        if y is None and sample_weight is not None:
            raise ValueError("`sample_weight` weighs targets. Received: y=None. Pass y too.")
        if isinstance(x, list):  # Keras takes tuples of inputs here, and lists of them in `fit`.
            x = tuple(x)
        arrays = [each for each in (x, y, sample_weight) if each is not None]
        self._arrays = keras.tree.map_structure(np.asarray, tuple(arrays))
        lengths = {len(a) for a in keras.tree.flatten(self._arrays)}
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
        """Returns a batch as `fit` takes it."""
        rows = self._order[index]
        batch = keras.tree.map_structure(lambda a: a[rows], self._arrays)
        return batch if len(batch) > 1 else batch[0]


def is_of_arrays(x: Any) -> bool:
    """Whether `x` is an array, or a list or dictionary of arrays."""
    if isinstance(x, (dict, list, tuple)):
        return all(is_of_arrays(each) for each in (x.values() if isinstance(x, dict) else x))
    return hasattr(x, "__array__")


def first_inputs(x: Any) -> Any:
    """Returns the inputs of the first batch of a dataset.

    Raises:
        ValueError: if its batches can be had only once, or there are none.
    """
    batches = iter(x)
    batch = None if batches is x else next(batches, None)
    if batch is None:
        raise ValueError(
            "The model is not built, and these data have no batch to spare that tells its shapes. "
            f"Received: {x!r}. Call the model on a batch before find_learning_rate."
        )
    return keras.utils.unpack_x_y_sample_weight(batch)[0]
