"""What gradients must be, and the settings that gradients of single rows go with."""

import re
from collections.abc import Sequence
from typing import Any

import keras

from nagd_keras.backends.current import current
from nagd_keras.rules.restart import SPEED
from nagd_keras.tensors import is_complex, static_shape


def check_gradients(gradients: Sequence[Any], variables: Sequence[Any]) -> None:
    """Raises unless each gradient that is not None has the shape of its variable.

    Keras leaves this to the arithmetic. That fails half-way through the variables, or broadcasts
    in silence.

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
        elements, wanted = current.values(gradient), tuple(variable.shape)
        if elements is gradient and getattr(gradient, "shape", None) == wanted:
            continue
        found = static_shape(elements)
        if found is None:  # As with None below: the compiled step that runs will see it.
            continue
        if elements is not gradient:  # Rows, of which there may be any number.
            found = (*wanted[:1], *found[1:])
        alike = all(a in (None, b) for a, b in zip(found, wanted, strict=False))
        if len(found) != len(wanted) or not alike:
            raise ValueError(
                "A gradient must have the shape of its variable. Received: a gradient of shape "
                f"{found} for the variable {variable.path} of shape "
                f"{wanted}. Pass the gradients in the order of the variables; nothing was updated."
            )


def check_complex(variables: Sequence[Any], **settings: Any) -> None:
    """Raises ValueError where a setting for real numbers meets a complex variable."""
    found = [getattr(v, "path", v.name) for v in variables if is_complex(v)]
    for name, given in settings.items():
        if found and given is not None:
            raise ValueError(
                f"`{name}` is for real variables only. Received: {name}={given!r} and the complex "
                f"variable {found[0]}. Leave it out."
            )


def check_lazy(accumulation: Any, restart: str | None, directs: bool) -> None:
    """Raises ValueError where lazy updates cannot be made.

    Args:
        accumulation: the argument `gradient_accumulation_steps`.
        restart: the argument `restart`.
        directs: whether the direction is another than the gradient.
    """
    if not current.knows_rows:
        raise ValueError(
            f"On Keras' {keras.backend.backend()} backend gradients do not tell which rows of an "
            "embedding a batch looked up. Received: sparse_updates='lazy'. Leave it out, or use "
            "the tensorflow backend."
        )
    others = {"gradient_accumulation_steps": accumulation}
    others |= {"restart": restart} if restart == SPEED or directs else {}
    for name, given in others.items():
        if given:
            raise ValueError(
                f"Lazy updates know the rows that one batch looks up, and `{name}` needs all. "
                f"Received: sparse_updates='lazy' and {name}={given!r}. Use one of them."
            )


def check_rows(gradients: Sequence[Any], variables: Sequence[Any], directions: Any) -> None:
    """Raises ValueError if a gradient has only some rows, and its direction needs all of them."""
    for gradient, variable, direction in zip(gradients, variables, directions, strict=True):
        if current.has_rows(gradient) and not direction.elementwise:
            pattern = re.escape(variable.path)
            raise ValueError(
                f'sparse_updates="lazy" updates some rows of {variable.path!r} by themselves, but '
                "its direction takes the whole variable for a matrix. Exclude it: "
                f"directions.Orthogonal(exclude=[{pattern!r}]); or pass "
                'sparse_updates="dense".'
            )
