"""Asking NAGD for the norm of its gradient."""

from typing import Any

from nagd_keras.callbacks.optimizers import nagd_of


def track_gradient_norm(model: Any, who: str) -> None:
    """Has the model's NAGD keep the norm of its gradient from the next step on.

    Raises:
        TypeError: if the optimizer is not a NAGD.
    """
    optimizer = nagd_of(model, who)
    if not optimizer.tracks_gradient_norm:
        optimizer.tracks_gradient_norm = True
        # A step that an earlier fit compiled would go on without the norm.
        model.make_train_function(force=True)
