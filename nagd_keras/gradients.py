"""What gradients must be, and what Keras' optimizer base class gets to see of them."""

from collections.abc import Sequence
from typing import Any

from nagd_keras.kernels import backend as kernels
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
        if gradient is None:
            continue
        wanted = tuple(variable.shape)
        found: tuple[Any, ...] | None
        if kernels.is_rows(gradient, wanted, lazy=True):
            found = (*wanted[:1], *(static_shape(gradient.values) or ())[1:])
        elif getattr(gradient, "shape", None) == wanted:
            continue
        else:
            found = static_shape(gradient)
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


class Rows:
    """The places of gradients that have some rows only, while they pass through the base class.

    It divides gradients, and looks for those that are missing; so it gets their values alone. Rows
    that a batch names twice are summed before, so that clipping sees the gradient itself.
    """

    def __init__(self) -> None:
        self._gradients: dict[int, Any] = {}  # by the identity of their variables

    def values(self, gradient: Any, variable: Any) -> Any:
        """Returns the values of a gradient, without the places."""
        gradient = kernels.summed_rows(gradient, variable.shape[0])
        self._gradients[id(variable)] = gradient
        return gradient.values

    def at_their_places(self, gradients: Sequence[Any], variables: Sequence[Any]) -> list[Any]:
        """Returns gradients, of which some are values only, with their places."""
        rows = [self._gradients.get(id(variable)) for variable in variables]
        return [
            values if gradient is None else kernels.with_values(gradient, values)
            for values, gradient in zip(gradients, rows, strict=True)
        ]

    def forget(self) -> None:
        """Forgets all places, after an update."""
        self._gradients.clear()
