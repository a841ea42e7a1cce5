"""Figures of schedules."""

from typing import Any

import keras
import numpy as np

from nagd_keras.arguments import count
from nagd_keras.figures import new_axes

POINTS = 2000  # More than a figure has pixels to show them in; of fewer steps, each has its own.


def plot(schedule: Any, steps: int, axes: Any = None) -> Any:
    """Draws a schedule of ours over the steps 0 ... `steps`; returns the axes."""
    last = count("steps", steps)
    axes = new_axes() if axes is None else axes
    at = np.unique(np.linspace(0, last, POINTS + 1).round()).astype("int32")
    name = type(schedule).__name__
    axes.plot(at, _values(schedule, at), label=name)
    axes.set(xlabel="step", ylabel=name)
    axes.grid(alpha=0.3)
    return axes


def _values(schedule: Any, at: np.ndarray) -> Any:
    try:
        return keras.ops.convert_to_numpy(schedule(at))
    except Exception:  # Whatever a backend raises where a part of Keras' own takes but one step.
        return [float(schedule(int(step))) for step in at]
