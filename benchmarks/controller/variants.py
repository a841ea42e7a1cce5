"""What is compared: rules, and the learning rates that they begin with."""

import math
from typing import NamedTuple

from benchmarks.controller.rule import Rule, agreement, cosine, ratio

LOOKED_AT = 0.001, 0.0032, 0.01, 0.032, 0.1
BEGUN_WITH = 0.0032, 0.01, 0.032
PART = 4  # of the updates, one of so many, in which signals are looked at
AVERAGE = 0.99  # the momentum of averages of the weights
ALL, MATRICES, EACH = "one for all", "one for all matrices", "one for each variable"  # factors


class Variant(NamedTuple):
    """A rule, the part of a run in which it acts, and learning rates that it begins with.

    Attributes:
        rule: None for a learning rate that no rule changes.
        until: the part of the run in which the rule acts, after which a cosine to 0 begins.
        rates: the learning rates.
        part: one of so many parts of the updates is made.
        factors: what has a factor of its own; see `Controller`.
        least: the least factor.
        most: the largest factor.
        held: whether the cosine waits for the rule to end.
        relative: whether a matrix' step is in units of the size of its elements.
        averaged: whether an average of the weights is evaluated.
    """

    rule: Rule | None
    until: float
    rates: tuple[float, ...] = BEGUN_WITH
    part: int = 1
    factors: str = ALL
    least: float = 0.0
    most: float = math.inf
    held: bool = True
    relative: bool = False
    averaged: bool = False


AGREES, COSINE = Rule(agreement(0.0), 0.05), Rule(cosine, 0.05)
SIGNALS = {"looked at": Variant(None, 1.0, LOOKED_AT, PART)}
ONE_FOR_ALL = {
    "ratio .03, then a cosine": Variant(Rule(ratio(0.03), 0.05), 0.3),
    "ratio .3, then a cosine": Variant(Rule(ratio(0.3), 0.05), 0.3),
    "agreement .1, then a cosine": Variant(Rule(agreement(0.1), 0.05), 0.3),
    "agreement -.1, then a cosine": Variant(Rule(agreement(-0.1), 0.05), 0.3),
    "cosine, to the end": Variant(COSINE, 1.0),
}
BY_KIND = {
    "agreement 0, matrices alone, then a cosine": Variant(AGREES, 0.3, factors=MATRICES),
    "agreement 0, matrices alone, only upwards, then a cosine": Variant(
        AGREES, 0.3, factors=MATRICES, least=1.0
    ),
    "agreement 0, matrices alone, only upwards, beside a cosine": Variant(
        AGREES, 0.3, factors=MATRICES, least=1.0, held=False
    ),
    "agreement 0, each variable, then a cosine": Variant(AGREES, 0.3, factors=EACH),
    "cosine, each variable, to the end": Variant(COSINE, 1.0, factors=EACH),
    "steps relative to weights": Variant(None, 0.0, relative=True),
}
NO_SCHEDULE = {
    "constant": Variant(None, 1.0),
    "constant, averaged": Variant(None, 1.0, averaged=True),
    "cosine, matrices alone, averaged": Variant(COSINE, 1.0, factors=MATRICES, averaged=True),
}
VARIANTS = {**SIGNALS, **ONE_FOR_ALL, **BY_KIND, **NO_SCHEDULE}


class Run(NamedTuple):
    """A training run."""

    name: str
    variant: str
    rate: float

    @property
    def key(self) -> str:
        """Its name in the results."""
        return f"{self.variant}, {self.rate:g}"
