"""What a workload is."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

Arrays = tuple[np.ndarray, ...]


def paired(arrays: Sequence[Any]) -> tuple[Any, Any]:
    """Returns inputs, a tuple of them if there are several, and targets, which come last."""
    *inputs, targets = arrays
    return (tuple(inputs) if len(inputs) > 1 else inputs[0]), targets


class Problem(NamedTuple):
    """A workload with its data.

    Attributes:
        network: makes a new model with weights that depend on the seed.
        train: inputs, perhaps several, then targets.
        examined: the same, of what is judged.
        settings: the loss and metrics that the model is compiled with.
    """

    network: Callable[[], keras.Model]
    train: Arrays
    examined: Arrays
    settings: dict[str, Any]


class Workload(NamedTuple):
    """What is trained, for how long, and what is asked for.

    Attributes:
        title: in words.
        make: reads or generates the data.
        batch: examples in a batch; 0 for all of them.
        updates: of a run.
        judged: the number that says who wins; the lower, the better.
    """

    title: str
    make: Callable[[], Problem]
    batch: int
    updates: int
    judged: str
