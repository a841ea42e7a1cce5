"""What travels from the pipeline to the kernels."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from nagd_keras.rules.nesterov import Coefficients


class Kind(NamedTuple):
    """What the coefficients of an update depend on, beside the update."""

    dtype: str
    factor: float  # of the learning rate
    decays: bool


class Step(NamedTuple):
    """The update of one variable.

    Attributes:
        variable: the model's variable.
        displacement: its displacement.
        gradient: what the step goes along: the gradient, or what a direction makes of it.
        coefficients: of the update.
        scale: by which the gradient's norm is clipped; the coefficients have it already.
        slope: the clipped gradient, where the step goes along something else.
    """

    variable: Any
    displacement: Any
    gradient: Any
    coefficients: Coefficients
    scale: Any = None
    slope: Any = None


class Restart(NamedTuple):
    """How to find out whether an update is to restart, and what else becomes zero then.

    Attributes:
        scheme: of `nagd_keras.rules.restart`.
        decide: takes numbers that add up to the scheme's inner product over all variables, and
            returns a boolean tensor.
        others: the displacements of variables that take no part in the update.
    """

    scheme: str
    decide: Callable[[Sequence[Any]], Any]
    others: Sequence[Any]
