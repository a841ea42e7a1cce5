"""What is compared: each direction as it comes, and with one or two settings changed."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from keras import ops

from benchmarks.race import workloads
from benchmarks.race.contestants import Contestant
from nagd_keras import NAGD, callbacks, directions

# What the race has besides was left to judge the defaults that were chosen on these.
NAMES = "logistic", "digits", "curves", "addition", "recommender", "text", "photograph"
WORKLOADS = {name: workloads.WORKLOADS[name] for name in NAMES}
RATES = 0.01, 0.032, 0.0032
LONGER = 5  # times the updates of the race


class Variant(NamedTuple):
    """A direction with settings.

    Attributes:
        direction: made with its defaults but for what is changed.
        momentum: None for the direction's own.
        longer: whether it also runs with more updates.
    """

    direction: directions.Direction
    momentum: float | None = None
    longer: bool = False

    def contestant(self) -> Contestant:
        """Returns it as one of the race."""
        return Contestant(
            lambda draw, updates: NAGD(
                draw.schedule(updates), self.momentum, direction=self.direction
            ),
            point=callbacks.at_iterate,
        )


class Debiased(directions.Adaptive):
    """The mean of squares begins at zero, and is debiased by the number of the update."""

    def direct(
        self, gradient: Any, slots: Mapping[str, Any], t: Any
    ) -> tuple[Any, Mapping[str, Any]]:
        """Returns the direction; nothing at the first update."""
        mean, first = slots["mean_square"], ops.cast(t <= 1, t.dtype)
        size = ops.sqrt(mean / (1 - self.beta_2 ** (t - 1 + first)))
        limit = (1 - first) * ops.power(t, 0.25)
        step = ops.clip(gradient / ops.maximum(size, self.epsilon), -limit, limit)
        return step, {"mean_square": self.beta_2 * mean + (1 - self.beta_2) * ops.square(gradient)}


class Behind(directions.Orthogonal):
    """Without Nesterov's look-ahead inside the average."""

    def ahead(self, average: Any, gradient: Any) -> Any:
        """Returns the average as it is."""
        return average


def orthogonal(momentum: float | None = None, longer: bool = False, **settings: Any) -> Variant:
    """Returns a variant of `Orthogonal`."""
    return Variant(directions.Orthogonal(**settings), momentum, longer)


def adaptive(momentum: float | None = None, longer: bool = False, **settings: Any) -> Variant:
    """Returns a variant of `Adaptive`."""
    return Variant(directions.Adaptive(**settings), momentum, longer)


ORTHOGONAL = {
    "b .8, momentum .9": orthogonal(0.9, True),
    # What the variants that name no momentum are to be compared with.
    "b .8, momentum .8": orthogonal(0.8, True, beta=0.8),
    "b .5, momentum .9": orthogonal(0.9, beta=0.5),
    "b .9, momentum .8": orthogonal(0.8, beta=0.9),
    "b .9, momentum .9": orthogonal(0.9, True, beta=0.9),
    "b .95, momentum 0": orthogonal(0.0, True, beta=0.95),
    "b 0, momentum .9": orthogonal(0.9, beta=0.0),
    "five steps, quintic": orthogonal(0.8, iteration="quintic"),
    "five steps, Muon's": orthogonal(0.8, iteration="muon"),
    "outputs as they are": orthogonal(0.8, normalize=False),
    "no look-ahead in the average": Variant(Behind(), 0.8),
    "b .8, momentum .5": orthogonal(0.5, beta=0.8),
    "beta_2 .95": orthogonal(0.8, beta_2=0.95),
    "beta_2 .999": orthogonal(0.8, beta_2=0.999),
    "scale .1": orthogonal(0.8, scale=0.1),
    "scale .4": orthogonal(0.8, scale=0.4),
    "b .5, momentum .8": orthogonal(0.8, beta=0.5),
    "b .9, momentum .5": orthogonal(0.5, beta=0.9),
    "b .95, momentum .95": orthogonal(0.95, True, beta=0.95),
}
ADAPTIVE = {
    "momentum .9": adaptive(0.9, True),
    "momentum .8": adaptive(0.8),
    "momentum .95": adaptive(0.95, True),
    "beta_2 .999": adaptive(0.9, True, beta_2=0.999),
    "beta_2 .95": adaptive(0.9, True, beta_2=0.95),
    "momentum .5": adaptive(0.5),
    "momentum 0": adaptive(0.0),
    "epsilon 1e-6": adaptive(0.9, epsilon=1e-6),
    "debiased": Variant(Debiased(), 0.9),
}
FAMILIES = {"orthogonal": ORTHOGONAL, "adaptive": ADAPTIVE}
