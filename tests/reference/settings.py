"""One update of NAGD with Keras' settings, slow and obvious: float64 NumPy, in Keras' order."""

from collections.abc import Sequence

import numpy as np

Arrays = Sequence[np.ndarray]


def clipped(
    gradients: Arrays,
    clipnorm: float | None = None,
    clipvalue: float | None = None,
    global_clipnorm: float | None = None,
) -> list[np.ndarray]:
    """Clips as `keras.optimizers.Optimizer` says, by one of the three."""
    gradients = [np.asarray(g, np.float64) for g in gradients]
    if clipnorm is not None:
        return [g * clipnorm / max(np.linalg.norm(g), clipnorm) for g in gradients]
    if clipvalue is not None:
        return [np.minimum(np.maximum(g, -clipvalue), clipvalue) for g in gradients]
    if global_clipnorm is not None:
        norm = np.sqrt(sum(np.sum(g**2) for g in gradients))
        return [g * global_clipnorm / max(norm, global_clipnorm) for g in gradients]
    return gradients


def updated(
    ws: Arrays,
    ss: Arrays,
    gradients: Arrays,
    learning_rate: float,
    momentum: float,
    weight_decay: float = 0.0,
    *,
    factors: Sequence[float] | None = None,
    **clipping: float,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Returns the variables and the displacements, from those before the update.

    The factors multiply the learning rate of each variable.
    """
    new_ws, new_ss = [], []
    factors = factors or [1.0] * len(ws)
    for w, s, g, factor in zip(ws, ss, clipped(gradients, **clipping), factors, strict=True):
        eps = learning_rate * factor
        velocity = s - eps * g
        new_ss.append(momentum * velocity)
        new_ws.append(w - eps * weight_decay * w - eps * g + momentum * velocity)
    return new_ws, new_ss
