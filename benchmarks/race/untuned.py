"""Who takes part without tuning: with one learning rate for all workloads, or with none given."""

import functools
from collections.abc import Callable
from typing import Any

from keras import optimizers

from benchmarks.race.contestants import BUILT_IN, WARM, Contestant, Draw, at_average
from nagd_keras import NAGD, callbacks, schedules

DIRECTIONS = "gradient", "adaptive", "orthogonal"
KERAS: dict[str, dict[str, Any]] = {
    "SGD": {},
    "SGD, Nesterov": {"momentum": 0.9, "nesterov": True},
    **{name: {} for name in ("Adam", "AdamW", "Nadam", "RMSprop", "Lion")},
    # As in the trials: the decay that it has by itself is for longer runs.
    "Muon": {"weight_decay": 0.0, "adam_weight_decay": 0.0},
}


def keras_own(name: str, draw: Draw, updates: int) -> Any:
    """Returns one of Keras' optimizers with its defaults but for the learning rate."""
    maker = getattr(optimizers, name.split(",")[0])
    return maker(draw.schedule(updates), **KERAS[name])


def schedule_free(draw: Draw, updates: int) -> Any:
    """Returns Keras' ScheduleFreeAdamW, whose learning rate does not fall."""
    return optimizers.ScheduleFreeAdamW(draw.rate, warmup_steps=round(WARM * updates))


def ours(direction: str, draw: Draw, updates: int) -> Any:
    """Returns NAGD with the defaults of a direction but for the learning rate."""
    return NAGD(draw.schedule(updates), direction=direction)


def rising(direction: str, draw: Draw, updates: int) -> Any:
    """Returns the same with a momentum that rises to 0.99 in the time there is."""
    momentum = schedules.SutskeverMomentum(0.99, max(1, updates // 100))
    return NAGD(draw.schedule(updates), momentum, direction=direction)


def as_it_comes(make: Callable[[], Any], draw: Draw, updates: int) -> Any:
    """Returns an optimizer to which nothing is given."""
    return make()


def _nagd(make: Callable[..., Any], direction: str) -> Contestant:
    return Contestant(functools.partial(make, direction), point=callbacks.at_iterate)


def _alone(make: Callable[[], Any], **settings: Any) -> Contestant:
    return Contestant(functools.partial(as_it_comes, make), **settings)


ONE_RATE = {
    **{f"NAGD, {each}": _nagd(ours, each) for each in DIRECTIONS},
    "NAGD, orthogonal, SutskeverMomentum": _nagd(rising, "orthogonal"),
    **{name: Contestant(functools.partial(keras_own, name)) for name in KERAS},
    "ScheduleFreeAdamW": Contestant(schedule_free, point=at_average),
}
AS_IT_COMES = {
    **{
        f"NAGD, {each}, OneCycle": _alone(
            functools.partial(NAGD, direction=each),
            point=callbacks.at_iterate,
            callbacks=lambda: [callbacks.OneCycle()],
        )
        for each in DIRECTIONS
    },
    **{
        name: _alone(getattr(optimizers, name, None), point=each.point)
        for name, each in BUILT_IN.items()
        if "," not in name
    },
}
