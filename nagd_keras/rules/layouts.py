"""Which of a model's variables are matrices, and how each is cut into them.

A variable is known by its path and its shape only. This table is the one place that decides.
"""

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from keras import ops

# The last names of what is no matrix, whatever its shape: the rows of a table are looked up one by
# one, each channel of a depthwise convolution is a vector, and heads keep their biases in pieces.
_NONE = re.compile(r"(embeddings?|depthwise_kernel|bias|gamma|beta|alpha)$")
_DEPTHWISE = re.compile(r"(^|/)depthwise_conv[^/]*/kernel$")
_INTO_HEADS, _OUT_OF_HEADS = ("query", "key", "value"), "attention_output"


class Layout(NamedTuple):
    """How a variable is cut: into `number` matrices of (rows, columns), inputs by outputs.

    Attributes:
        number: how many matrices there are.
        rows: the inputs of each.
        columns: the outputs of each.
        beside: whether the matrices stand side by side, as an LSTM's gates; else one after the
            other, as experts in a batch.
    """

    number: int
    rows: int
    columns: int
    beside: bool = True

    def cut(self, x: Any) -> Any:
        """Returns the matrices of what is shaped like the variable: (number, rows, columns)."""
        if not self.beside:
            return ops.reshape(x, (self.number, self.rows, self.columns))
        x = ops.reshape(x, (self.rows, self.number, self.columns))
        return ops.transpose(x, (1, 0, 2))

    def joined(self, matrices: Any, shape: Sequence[int]) -> Any:
        """Returns what `cut` was given, of its shape."""
        if self.beside:
            matrices = ops.transpose(matrices, (1, 0, 2))
        return ops.reshape(matrices, shape)

    def __str__(self) -> str:
        """Returns what a table of layouts says: "4 of 16 x 32"."""
        return f"{self.number} of {self.rows} x {self.columns}"


def layouts(paths: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> list[Layout | None]:
    """Returns the layout of each variable of a model, or None for what is no matrix.

    Args:
        paths: the paths of all variables that train together.
        shapes: the shapes of these variables.
    """
    gates, attentions = {}, set()
    for path, shape in zip(paths, shapes, strict=True):
        folder, _, name = path.rpartition("/")
        if name == "recurrent_kernel" and shape[-1] % shape[-2] == 0:
            gates[folder] = shape[-1] // shape[-2]  # (units, gates x units)
        attention, _, part = folder.rpartition("/")
        if part == _OUT_OF_HEADS:
            attentions.add(attention)
    return [
        _layout(path, shape, gates.get(path.rpartition("/")[0], 1), attentions)
        for path, shape in zip(paths, shapes, strict=True)
    ]


def _layout(path: str, shape: tuple[int, ...], gates: int, attentions: set[str]) -> Layout | None:
    if len(shape) < 2 or _NONE.search(path) or _DEPTHWISE.search(path):
        return None
    folder, _, name = path.rpartition("/")
    attention, _, part = folder.rpartition("/")
    if len(shape) == 3 and part == _OUT_OF_HEADS:  # (heads, size, out)
        found = Layout(*shape, beside=False)
    elif len(shape) == 3 and part in _INTO_HEADS and attention in attentions:  # (in, heads, size)
        found = Layout(shape[1], shape[0], shape[2])
    elif len(shape) == 3 and not name.endswith("kernel"):  # experts: (n, in, out)
        found = Layout(*shape, beside=False)
    else:  # dense, or a convolution: (height, width, in, out); gates side by side
        parts = gates if "kernel" in name and shape[-1] % gates == 0 else 1
        found = Layout(parts, math.prod(shape[:-1]), shape[-1] // parts)
    return found if min(found.rows, found.columns) > 1 else None
