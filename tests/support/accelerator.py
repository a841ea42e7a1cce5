"""The accelerator that Keras' backend computes on, if there is one: asked when a test needs it.

Not before: to ask takes memory of the device, and each of pytest's processes would.
"""

from functools import cache

import keras


@cache
def missing() -> str | None:
    """Why tests for an accelerator cannot run here, or None if they can."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        found = jax.devices()[0].platform
    elif backend == "torch":
        found = keras.ops.ones(()).device.type
    else:
        return "tests for an accelerator are for JAX and PyTorch"
    return f"{backend} has no accelerator here" if found == "cpu" else None
