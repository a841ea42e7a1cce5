"""Figures of schedules."""

from typing import Any

import numpy as np

from nagd_keras.arguments import count
from nagd_keras.figures import new_axes

POINTS = 400  # More than a figure has pixels to show them in; each is a call of its own.


def plot(schedule: Any, steps: int, axes: Any = None) -> Any:
    """Draws any schedule over the steps 0 ... `steps`; returns the axes."""
    last = count("steps", steps)
    axes = new_axes() if axes is None else axes
    at = np.unique(np.linspace(0, last, POINTS + 1).round().astype(int))
    # One step at a time: schedules of other makers may not take many.
    axes.plot(at, [float(schedule(int(step))) for step in at])
    axes.set(xlabel="step", ylabel=type(schedule).__name__)
    axes.grid(alpha=0.3)
    return axes
