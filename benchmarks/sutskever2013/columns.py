"""The columns of the paper's tables: a method, and the momentum that its schedule ends at."""

from typing import Any, NamedTuple

from benchmarks.sutskever2013.classical import ClassicalMomentum
from nagd_keras import NAGD

NESTEROV, CLASSICAL, NONE = "N", "M", ""
DIRECTIONS = {"A": "adaptive", "O": "orthogonal"}


class Column(NamedTuple):
    """One column.

    Attributes:
        momentum: mu_max of the autoencoders, mu_0 of the recurrent networks; 0 for none.
        method: N for Nesterov's, M for classical momentum, as in the paper; A and O for
            Nesterov's along another direction.
    """

    momentum: float
    method: str

    def __str__(self) -> str:
        """Returns the name that the paper has."""
        return f"{self.momentum:g}{self.method}".removeprefix("0") if self.method else "SGD"

    def optimizer(self, rate: float, schedule: Any) -> Any:
        """Returns a new optimizer; without momentum the schedule is not used."""
        if self.method == CLASSICAL:
            return ClassicalMomentum(rate, schedule)
        if self.method == NONE:
            return NAGD(rate, 0.0)
        return NAGD(rate, schedule, direction=DIRECTIONS.get(self.method, "gradient"))


def columns(momenta: tuple[float, ...]) -> list[Column]:
    """Returns gradient descent, then both methods with each momentum."""
    return [Column(0.0, NONE)] + [Column(mu, x) for x in (NESTEROV, CLASSICAL) for mu in momenta]


def directed(momenta: tuple[float, ...]) -> list[Column]:
    """Returns Nesterov's method along other directions, with each momentum."""
    return [Column(mu, x) for x in DIRECTIONS for mu in momenta]
