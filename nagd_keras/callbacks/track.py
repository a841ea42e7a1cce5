"""Asking NAGD for the norm of its gradient."""

from typing import Any

from nagd_keras.callbacks.optimizers import nagd_of


def track_gradient_norm(model: Any, who: str) -> None:
    """Has the model's NAGD keep the norm of its gradient from the next step on.

    Raises:
        TypeError: if the optimizer is not a NAGD.
        ValueError: if the model is trained by several replicas.
    """
    optimizer = nagd_of(model, who)
    replicas = getattr(getattr(model, "distribute_strategy", None), "num_replicas_in_sync", 1)
    if replicas > 1:
        # As Keras clips: each replica sees its share of the gradient before they are summed.
        raise ValueError(
            f"{who} cannot tell the norm of the gradient where several replicas train, as each "
            f"has a part of it. Received: a model with {replicas} replicas. Leave the norm out."
        )
    if not optimizer.tracks_gradient_norm:
        optimizer.tracks_gradient_norm = True
        # A step that an earlier fit compiled would go on without the norm.
        model.make_train_function(force=True)
