"""What travels from the pipeline to the kernels."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from nagd_keras.rules.nesterov import Coefficients


class Kind(NamedTuple):
    """What the coefficients of an update depend on, besides the update."""

    dtype: str
    factor: float  # of the learning rate
    decays: bool


class Step(NamedTuple):
    """The update of one variable.

    Attributes:
        variable: the model's variable.
        displacement: its displacement.
        gradient: what the step goes along: the gradient, or what a direction makes of it.
        coefficients: the coefficients of the update.
        scale: the factor that clips the gradient's norm; the coefficients have it already.
        slope: the clipped gradient, if the step goes along something else.
    """

    variable: Any
    displacement: Any
    gradient: Any
    coefficients: Coefficients
    scale: Any = None
    slope: Any = None


class Restart(NamedTuple):
    """How to decide whether an update restarts, and what else a restart sets to zero.

    Attributes:
        scheme: a scheme of `nagd_keras.rules.restart`.
        decide: takes numbers that add up to the scheme's inner product over all variables, and
            returns a boolean tensor.
        others: the displacements of variables that take no part in the update.
    """

    scheme: str
    decide: Callable[[Sequence[Any]], Any]
    others: Sequence[Any]
