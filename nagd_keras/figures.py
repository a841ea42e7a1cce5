"""Matplotlib, which only drawing needs."""

from typing import Any


def new_axes() -> Any:
    """Returns the axes of a new figure.

    Raises:
        ImportError: without matplotlib.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "Drawing a figure needs matplotlib, which is not installed. The extra `plot` brings "
            "it: python -m pip install 'nagd-keras[plot]'."
        ) from error
    _, axes = plt.subplots(layout="constrained")
    return axes
