"""Who takes part, what of each is tuned, and in which ranges."""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from keras import ops, optimizers

from nagd_keras import NAGD, callbacks, directions, schedules

DRAWS = 6
WARM = 0.05  # of the updates, in which the learning rate rises from 0
WIDTH = 100.0  # The largest learning rate of a range is so many times the smallest.
# Whose pilot says where the range is, for steps that have the gradient's size, and that do not.
BY_GRADIENT, RELATIVE = "SGD, Nesterov", "Adam"


class Draw(NamedTuple):
    """One trial's settings.

    Attributes:
        rate: the learning rate, or the peak of a cycle.
        rest: 1 minus the momentum or first beta, or the weight decay.
        decays: whether the learning rate falls to 0 along a cosine.
    """

    rate: float
    rest: float
    decays: bool

    def schedule(self, updates: int) -> Any:
        """Returns the learning rate: a number, or a schedule."""
        return optimizers.schedules.CosineDecay(self.rate, updates) if self.decays else self.rate


class Warmed(Draw):
    """The same with a learning rate that rises for a part of the updates, and then falls to 0."""

    def schedule(self, updates: int) -> Any:
        """Returns the learning rate."""
        rising = max(1, round(WARM * updates))
        return optimizers.schedules.CosineDecay(
            0.0, updates - rising, warmup_target=self.rate, warmup_steps=rising
        )


class Contestant(NamedTuple):
    """A method.

    Attributes:
        make: makes an optimizer for a draw and a number of updates.
        pilot: whose best learning rate the range of this one's is around.
        factor: by which it is multiplied before.
        rests: the range of `Draw.rest`; its logarithm is drawn uniformly, as the learning rate's.
        rest: what that is.
        decays: whether a draw may let the learning rate decay.
        point: what is evaluated, for a model; what is trained on is put back.
        callbacks: makes those of `fit`.
        full_batch: whether it is for full batches alone.
    """

    make: Callable[[Draw, int], Any]
    pilot: str = RELATIVE
    factor: float = 1.0
    rests: tuple[float, float] = (0.005, 0.2)
    rest: str = "1 - momentum"
    decays: bool = True
    point: Callable[[Any], Any] = contextlib.nullcontext
    callbacks: Callable[[], list[Any]] = list
    full_batch: bool = False

    def draws(self, centre: float) -> list[Draw]:
        """Returns the trials: for all contestants the same points of their unit cubes.

        Args:
            centre: the best learning rate of the pilot.
        """
        rates = [centre * self.factor * WIDTH**power for power in (-0.5, 0.5)]
        return [
            Draw(_between(rates, a), _between(self.rests, b), bool(self.decays and c < 0.5))
            for a, b, c in _points()
        ]


@functools.cache
def _points() -> Any:
    from scipy.stats import qmc

    return qmc.Sobol(3, seed=0).random(8)[:DRAWS]


def _between(limits: Any, part: float) -> float:
    low, high = map(math.log, limits)
    return float(f"{math.exp(low + part * (high - low)):.3g}")


@contextlib.contextmanager
def at_average(model: Any) -> Iterator[Any]:
    """Lets the variables hold the averages that ScheduleFreeAdamW is to be evaluated at.

    Keras' has no method for it. They hold y = (1 - beta) z + beta x, and z is kept.
    """
    optimizer, variables = model.optimizer, model.trainable_variables
    held = [ops.copy(v.value) for v in variables]
    beta = optimizer.beta_1
    try:
        for variable, z in zip(variables, optimizer._momentums, strict=True):
            variable.assign((variable - (1 - beta) * z) / beta)
        yield model
    finally:
        for variable, value in zip(variables, held, strict=True):
            variable.assign(value)


def sutskever(direction: str) -> Callable[[Draw, int], Any]:
    """Returns a maker of NAGD whose momentum rises as in Sutskever et al., in the time there is."""

    def make(draw: Draw, updates: int) -> Any:
        rising = schedules.SutskeverMomentum(1 - draw.rest, max(1, updates // 100))
        return NAGD(draw.schedule(updates), rising, direction=direction)

    return make


def adaptive(draw: Draw, updates: int) -> Any:
    """Returns NAGD along its adaptive direction."""
    return NAGD(draw.schedule(updates), 1 - draw.rest, direction="adaptive")


def orthogonal(draw: Draw, updates: int) -> Any:
    """Returns NAGD along its orthogonal direction; both of its averages are of one length."""
    beta = 1 - draw.rest
    return NAGD(draw.schedule(updates), beta, direction=directions.Orthogonal(beta=beta))


def one_cycle(draw: Draw, updates: int) -> Any:
    """Returns NAGD with one cycle; its momentum falls by 0.1 while the learning rate rises."""
    peak, high = draw.rate, 1 - draw.rest
    rate = schedules.OneCycle(peak / 25, peak, peak / 25e4, updates)
    return NAGD(rate, schedules.OneCycle(high, max(0.0, high - 0.1), high, updates))


def of(name: str) -> Callable[[Draw, int], Any]:
    """Returns a maker of Keras' optimizers of a name, whose first beta is 1 minus what is drawn."""
    return lambda draw, updates: getattr(optimizers, name)(
        draw.schedule(updates), beta_1=1 - draw.rest
    )


# Without momentum the best learning rate is from that of the pilot, whose momentum is 0.95, where
# stability limits it, to 20 times that; Lion's is 3 to 10 times less than Adam's (Chen et al. 2023,
# section 5).
DESCENT, SIGN = 3.0, 0.1
BETA, BETAS = "1 - beta 1", (0.02, 0.3)
EARLIER = {
    "NAGD": Contestant(
        lambda draw, updates: NAGD(draw.schedule(updates), 1 - draw.rest),
        BY_GRADIENT,
        point=callbacks.at_iterate,
    ),
    "NAGD, SutskeverMomentum": Contestant(
        sutskever("gradient"), BY_GRADIENT, rests=(0.001, 0.1), point=callbacks.at_iterate
    ),
    "NAGD, one cycle": Contestant(one_cycle, BY_GRADIENT, decays=False, point=callbacks.at_iterate),
    "NAGD, restart": Contestant(
        lambda draw, updates: NAGD(
            draw.schedule(updates), schedules.NesterovMomentum(), restart="gradient"
        ),
        BY_GRADIENT,
        rest="",
        point=callbacks.at_iterate,
        full_batch=True,
    ),
}
DIRECTED = {
    "NAGD, adaptive": Contestant(adaptive, rests=BETAS, point=callbacks.at_iterate),
    "NAGD, adaptive, SutskeverMomentum": Contestant(
        sutskever("adaptive"), point=callbacks.at_iterate
    ),
    # Its averages are shorter: the prototypes' were.
    "NAGD, orthogonal": Contestant(
        orthogonal, rests=(0.05, 0.4), rest="1 - momentum and beta", point=callbacks.at_iterate
    ),
    "NAGD, orthogonal, SutskeverMomentum": Contestant(
        sutskever("orthogonal"), point=callbacks.at_iterate
    ),
}
OURS = {**EARLIER, **DIRECTED}
BUILT_IN = {
    "SGD": Contestant(
        lambda draw, updates: optimizers.SGD(draw.schedule(updates)),
        BY_GRADIENT,
        DESCENT,
        rest="",
    ),
    "SGD, Nesterov": Contestant(
        lambda draw, updates: optimizers.SGD(draw.schedule(updates), 1 - draw.rest, nesterov=True),
        BY_GRADIENT,
    ),
    "Adam": Contestant(of("Adam"), rests=BETAS, rest=BETA),
    "AdamW": Contestant(
        lambda draw, updates: optimizers.AdamW(draw.schedule(updates), weight_decay=draw.rest),
        rests=(1e-4, 0.1),
        rest="weight decay",
    ),
    "Nadam": Contestant(of("Nadam"), rests=BETAS, rest=BETA),
    "RMSprop": Contestant(
        lambda draw, updates: optimizers.RMSprop(draw.schedule(updates), rho=1 - draw.rest),
        rests=BETAS,
        rest="1 - rho",
    ),
    "Lion": Contestant(of("Lion"), factor=SIGN, rests=(0.02, 0.2), rest=BETA),
    "Muon": Contestant(
        lambda draw, updates: optimizers.Muon(
            draw.schedule(updates),
            momentum=1 - draw.rest,
            weight_decay=0.0,
            adam_weight_decay=0.0,
        ),
        rests=(0.02, 0.2),
    ),
    "ScheduleFreeAdamW": Contestant(
        of("ScheduleFreeAdamW"), rests=BETAS, rest=BETA, decays=False, point=at_average
    ),
}
ALL = {**OURS, **BUILT_IN}


def of_workload(full_batch: bool) -> dict[str, Contestant]:
    """Returns those that run on a workload."""
    return {name: each for name, each in ALL.items() if full_batch or not each.full_batch}
