"""Settings of an optimizer that do not go together, or are none."""

import inspect
from collections.abc import Mapping
from typing import Any

import keras

from nagd_keras.backends.current import current
from nagd_keras.rules.restart import SPEED


def check_lazy(accumulation: Any, restart: str | None) -> None:
    """Raises ValueError where lazy updates cannot be made."""
    if not current.knows_rows:
        raise ValueError(
            f"On Keras' {keras.backend.backend()} backend gradients do not tell which rows of an "
            "embedding a batch looked up. Received: sparse_updates='lazy'. Leave it out, or use "
            "the tensorflow backend."
        )
    if accumulation:
        raise ValueError(
            "Accumulated gradients do not tell which rows the batches looked up. Received: "
            f"sparse_updates='lazy' and gradient_accumulation_steps={accumulation}. Use one of "
            "them."
        )
    if restart == SPEED:
        raise ValueError(
            "The speed scheme needs the displacements of all rows at each update, which lazy "
            "updates leave alone. Received: sparse_updates='lazy' and restart='speed'. Use "
            "restart='gradient'."
        )


def refuse(unknown: Mapping[str, Any], owner: type) -> None:
    """Raises TypeError if there is an argument that a class does not know."""
    if unknown:
        allowed = [a for a in inspect.signature(owner).parameters if a != "unknown"]
        raise TypeError(
            f"{owner.__name__} does not know the argument(s) {', '.join(map(repr, unknown))}. "
            f"Received: {dict(unknown)}. Allowed: {', '.join(allowed)}. Check the spelling, or "
            "leave the argument out."
        )
