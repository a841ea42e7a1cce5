"""Runs with spoiled batches, for the tests of DivergenceGuard."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from nagd_keras import NAGD
from nagd_keras.callbacks import DivergenceGuard
from tests.support.drivers import to_float64
from tests.support.training import BATCH, STEPS, data, nagd

EPOCH = list(range(STEPS))
# Statistics need ten losses: batches of three epochs in one.
LONG = [*EPOCH, *EPOCH, *EPOCH]
OBSERVED = ("gradient_norm",)  # what the optimizer has for observers


def guard(**settings: Any) -> DivergenceGuard:
    return DivergenceGuard(**{"verbose": 0, **settings})


def train(
    model: Any,
    batches: Sequence[int],
    *callbacks: Any,
    spoiled: Mapping[int, float] | None = None,
    **settings: Any,
) -> Any:
    """Trains on these batches of `data`; targets at some places are multiplied, or inputs NaN."""
    x, y = (a.reshape(STEPS, BATCH, -1)[list(batches)] for a in data())
    for place, factor in (spoiled or {}).items():
        (x if np.isnan(factor) else y)[place] *= np.float32(factor)
    settings = {"batch_size": BATCH, "shuffle": False, "verbose": 0, **settings}
    x, y = (a.reshape(-1, a.shape[-1]) for a in (x, y))
    return model.fit(x, y, callbacks=list(callbacks), **settings)


def stopped(*args: Any, **settings: Any) -> tuple[Any, str]:
    """Trains as `train` does; returns the history and the one warning of the guard."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = train(*args, **settings)
    (report,) = (str(each.message) for each in caught if each.category is UserWarning)
    assert report.startswith("DivergenceGuard stopped training in epoch ")
    return history, report


def normalized(optimizer: Any = None, dropout: float = 0.0, **settings: Any) -> Any:
    """A network whose weights are not all trained: statistics, and a layer that is frozen."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(4, name="frozen", trainable=False),
            keras.layers.BatchNormalization(name="normalization"),
            keras.layers.Dense(5, activation="tanh", name="hidden"),
            keras.layers.Dropout(dropout),
            keras.layers.Dense(1, name="out"),
        ]
    )
    model.compile(optimizer or NAGD(0.05), "mse", **settings)
    return model


def state(model: Any, but: Sequence[str] = OBSERVED) -> dict[str, np.ndarray]:
    """The values of the model's weights and of all variables of its optimizers, by name."""
    optimizers = {id(each): each for each in (model.optimizer, nagd(model))}.values()
    # Not by their own names, which have the number of the model.
    named = {f"weight {i}": v for i, v in enumerate(model.weights)}
    for optimizer in optimizers:
        if optimizer is nagd(model):
            kept = {n: v for n, v in optimizer._state.named().items() if n.slot not in but}
            named |= {f"{n.slot} {i}": v for i, (n, v) in enumerate(kept.items())}
        else:
            named |= {f"wrapper {i}": v for i, v in enumerate(optimizer.variables)}
    return {name: to_float64(v) for name, v in named.items()}


def assert_same(found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> None:
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def set_to(variable: Any, value: float) -> None:
    variable.assign(keras.ops.full(variable.shape, value, variable.dtype))


class At(keras.callbacks.Callback):
    """Calls a function at the end of one batch, or of each; stands before or behind the guard."""

    def __init__(self, function: Any, batch: int | None = None) -> None:
        super().__init__()
        self._function, self._batch = function, batch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._batch in (None, batch):
            if hasattr(self.model, "jax_state_sync"):
                self.model.jax_state_sync()
            self._function(self.model)
