"""How far two models are apart that were trained in different places."""

from typing import Any

import numpy as np

from nagd_keras.tensors import number
from tests.support.drivers import to_float64


def optimizer_of(model: Any) -> Any:
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


def counters(model: Any) -> list[int]:
    names = "age", "restarts", "skipped_updates", "iterations"
    return [int(number(getattr(optimizer_of(model), name))) for name in names]


def state(model: Any) -> list[Any]:
    """All that is saved of a model and its optimizer."""
    return [*model.variables, *optimizer_of(model)._state.named().values()]


def deviation(found: Any, wanted: Any) -> float:
    """How far two models and their optimizers are apart, relative to the largest of a layer.

    A bias has the rounding of what it is added to, and a slot that of its variable.
    """
    scales = scales_of(wanted)
    worst = 0.0
    for one, other in zip(state(found), state(wanted), strict=True):
        a, b = to_float64(one), to_float64(other)
        assert np.array_equal(np.isnan(a), np.isnan(b)), (other.path, a, b)
        scale = scales.get(id(other)) or largest(b) or 1.0
        worst = max(worst, largest(a - b) / scale)
    return worst


def scales_of(model: Any) -> dict[int, float]:
    """The largest weight of the layer that a variable or slot belongs to."""
    scales: dict[int, float] = {}
    for layer in model.layers:
        scale = max((largest(to_float64(v)) for v in layer.variables), default=0.0)
        scales |= dict.fromkeys(map(id, layer.variables), scale)
    optimizer = optimizer_of(model)
    for _, place, slot in optimizer._state.slots.items():
        scales[id(slot)] = scales[id(optimizer._state.trained[place])]
    return scales


def largest(x: np.ndarray) -> float:
    return float(np.max(np.abs(np.nan_to_num(x)), initial=0.0))
