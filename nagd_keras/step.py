"""What travels from the optimizer to the kernels."""

from typing import Any, NamedTuple

from nagd_keras.update_rule import Coefficients


class Kind(NamedTuple):
    """What the coefficients of an update depend on, beside the update."""

    dtype: str
    factor: float  # of the learning rate
    decays: bool


class Update(NamedTuple):
    """What the variables of one update have in common; a structure of tensors for TensorFlow.

    Attributes:
        coefficients: those of each kind of variable.
        scales: what each gradient is multiplied by, by the places of their variables, or None.
        at_iterate: a boolean tensor: whether the variables hold the iterate, and the update is to
            bring them back and no more; the coefficients see to it where they reach.
        momentum: mu_{t+1}.
        norm: that of the gradient, if it is to be kept, or None.
        finite: whether all gradients are finite, if that is to be known, or None.
    """

    coefficients: dict[Kind, Coefficients]
    scales: dict[int, Any] | None = None
    at_iterate: Any = False
    momentum: Any = None
    norm: Any = None
    finite: Any = None


class Step(NamedTuple):
    """The update of one variable; the scale, which the coefficients have, is that of its norm."""

    variable: Any
    displacement: Any
    gradient: Any
    coefficients: Coefficients
    at_iterate: Any
    scale: Any = None
