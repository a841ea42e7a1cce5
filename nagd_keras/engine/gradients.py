"""What gradients must be."""

from collections.abc import Sequence
from typing import Any

from nagd_keras.backends.current import current
from nagd_keras.tensors import static_shape


def check_gradients(gradients: Sequence[Any], variables: Sequence[Any]) -> None:
    """Raises unless each gradient that is not None has the shape of its variable.

    Keras leaves this to the arithmetic, which fails half-way through the variables, or
    broadcasts in silence.

    Raises:
        ValueError: if the numbers of gradients and variables differ, or a shape does.
    """
    if len(gradients) != len(variables):
        raise ValueError(
            f"Each variable takes one gradient (None where there is none). Received: "
            f"{len(gradients)} gradients for {len(variables)} variables. Pass the gradients in "
            "the order of the variables that the optimizer was built with, or pass the variables "
            "as well."
        )
    for gradient, variable in zip(gradients, variables, strict=True):
        wanted = tuple(variable.shape)
        if gradient is None:
            continue
        elements = current.values(gradient)
        if elements is gradient and getattr(gradient, "shape", None) == wanted:
            continue
        found: tuple[Any, ...] | None = static_shape(elements)
        if elements is not gradient:  # Rows, of which there may be any number.
            found = (*wanted[:1], *(found or ())[1:])
        if found is None:  # As with None below: the compiled step that runs will see it.
            continue
        if len(found) != len(wanted) or any(
            a is not None and a != b for a, b in zip(found, wanted, strict=True)
        ):
            raise ValueError(
                "A gradient must have the shape of its variable. Received: a gradient of shape "
                f"{found} for the variable {getattr(variable, 'path', variable.name)} of shape "
                f"{wanted}. Pass the gradients in the order of the variables; nothing was updated."
            )
