"""What a `DivergenceGuard` needs before it can guard."""

from typing import Any

from nagd_keras.callbacks.divergence import named
from nagd_keras.callbacks.monitored import checked_monitor, rises
from nagd_keras.callbacks.snapshots import Reading
from nagd_keras.nagd import NAGD


def loss_of_batches(monitor: str) -> str:
    """Returns the name of a loss.

    Raises:
        TypeError, ValueError: if it is none, or not one of batches.
    """
    checked = checked_monitor(monitor)
    if monitor.startswith("val_") or rises(monitor):
        raise ValueError(
            "`monitor` must be a loss of batches, which is bad where it rises. Received: "
            f'monitor={monitor!r}. Pass the name of a loss in their logs, such as "loss".'
        )
    return checked


def check_optimizer(optimizer: NAGD, factor: float) -> None:
    """Raises ValueError if the learning rate cannot be lowered, and is to be."""
    if factor != 1 and optimizer.learning_rate_scale is None:
        raise ValueError(
            "The learning rate is given by a callable, so DivergenceGuard cannot lower it. "
            f"Received: learning_rate_factor={factor}. Pass "
            "learning_rate_factor=1, or give the optimizer a number or a schedule."
        )


def check_model(model: Any) -> None:
    """Raises ValueError if a model has no weights."""
    if not model.built or not model.weights:
        raise ValueError(
            "DivergenceGuard has nothing to go back to. Received: a model that has no weights, "
            "or none yet. Call it on a batch first."
        )


def check_weights(beginning: Reading) -> None:
    """Raises ValueError if some weights are not finite."""
    if beginning.not_finite:
        raise ValueError(
            "DivergenceGuard has no good state to go back to: some weights are not finite at "
            f"the beginning. Received: {named(beginning.not_finite)}. Load or make other weights."
        )
