"""What a DivergenceGuard must be given."""

from contextlib import suppress
from typing import Any

from nagd_keras.arguments import positive, value
from nagd_keras.callbacks.borrowed import build
from nagd_keras.callbacks.monitored import is_rising


def check_weights(model: Any) -> None:
    """Sees to it that the model and its optimizer have variables.

    Raises:
        ValueError: if there are no weights to go back to.
    """
    if not model.built or not model.weights:
        why = "has no weights" if model.built else "is not built; call it on a batch first"
        raise ValueError(
            "DivergenceGuard has nothing to go back to. Received: a model "
            f"({getattr(model, 'name', model)!r}) that {why}."
        )
    build(model, lambda: None)


def checked_monitor(monitor: Any) -> str:
    """Returns the name of a loss."""
    if not isinstance(monitor, str):
        raise TypeError(f"`monitor` must be a name in the logs. Received: monitor={monitor!r}.")
    rising = False
    with suppress(ValueError):  # of names that do not tell
        rising = is_rising(monitor, "auto")
    if rising:
        raise ValueError(
            "`monitor` must be a loss, which is bad where it rises. Received: "
            f'monitor={monitor!r}. Pass the name of a loss, such as "loss".'
        )
    return monitor


def checked_threshold(threshold: Any) -> float | None:
    """Returns a factor over the median, or None."""
    if threshold is None:
        return None
    checked = value("spike_threshold", threshold)
    if checked <= 1:
        raise ValueError(
            "`spike_threshold` must be larger than 1: it is a factor over the median of the losses "
            f"before, half of which are larger than that. Received: spike_threshold={threshold!r}. "
            "Pass None to see only what is not finite."
        )
    return checked


def checked_factor(factor: Any) -> float:
    """Returns a factor in (0, 1]."""
    checked = positive("learning_rate_factor", factor)
    if checked > 1:
        raise ValueError(
            "`learning_rate_factor` must be in (0, 1], to lower the learning rate or leave it. "
            f"Received: learning_rate_factor={factor!r}."
        )
    return checked
