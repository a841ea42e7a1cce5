"""What is compared: rules, and the learning rates that they begin with."""

from typing import NamedTuple

from benchmarks.controller.rule import Rule, agreement, cosine, ratio

LOOKED_AT = 0.001, 0.0032, 0.01, 0.032, 0.1
BEGUN_WITH = 0.0032, 0.01, 0.032
PART = 4  # of the updates, one of so many, in which signals are looked at


class Variant(NamedTuple):
    """A rule, the part of a run in which it acts, and learning rates that it begins with.

    Attributes:
        rule: None for a learning rate that is only looked at.
        until: the part of the run, after which a cosine to 0 begins.
        rates: the learning rates.
        part: one of so many parts of the updates is made.
    """

    rule: Rule | None
    until: float
    rates: tuple[float, ...] = BEGUN_WITH
    part: int = 1


VARIANTS = {
    "looked at": Variant(None, 1.0, LOOKED_AT, PART),
    "ratio .03, then a cosine": Variant(Rule(ratio(0.03), 0.05), 0.3),
    "ratio .3, then a cosine": Variant(Rule(ratio(0.3), 0.05), 0.3),
    "agreement .1, then a cosine": Variant(Rule(agreement(0.1), 0.05), 0.3),
    "agreement -.1, then a cosine": Variant(Rule(agreement(-0.1), 0.05), 0.3),
    "cosine, to the end": Variant(Rule(cosine, 0.05), 1.0),
}


class Run(NamedTuple):
    """A training run."""

    name: str
    variant: str
    rate: float

    @property
    def key(self) -> str:
        """Its name in the results."""
        return f"{self.variant}, {self.rate:g}"
