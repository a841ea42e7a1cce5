"""Who takes part: optimizers as they come, and with the schedules that need no setting."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from keras import optimizers

from benchmarks.race.contestants import Warmed
from nagd_keras import NAGD, callbacks

KERAS = "Adam", "AdamW", "Nadam", "RMSprop", "SGD", "Muon"
DIRECTIONS = "gradient", "adaptive", "orthogonal"


def nothing(model: Any, x: Any, y: Any, batch: int) -> list[Any]:
    """Returns no callbacks."""
    return []


class Contestant(NamedTuple):
    """A way to train that asks for no setting.

    Attributes:
        make: makes an optimizer for a number of updates.
        callbacks: makes those of `fit`, for the compiled model, its data and the batch size.
        point: what is evaluated, for a model; what is trained on is put back.
    """

    make: Callable[[int], Any]
    callbacks: Callable[[Any, Any, Any, int], list[Any]] = nothing
    point: Callable[[Any], Any] = contextlib.nullcontext


def as_it_comes(name: str, updates: int) -> Any:
    """Returns one of Keras' optimizers."""
    return getattr(optimizers, name)()


def scheduled(name: str, updates: int) -> Any:
    """Returns the same, whose learning rate rises to what it is else, and falls along a cosine."""
    rate = float(as_it_comes(name, updates).learning_rate)
    return getattr(optimizers, name)(Warmed(rate, 0.0, True).schedule(updates))


def cycle(model: Any, x: Any, y: Any, batch: int) -> list[Any]:
    """Returns one cycle, as it comes."""
    return [callbacks.OneCycle()]


def found(model: Any, x: Any, y: Any, batch: int) -> list[Any]:
    """Returns one cycle to what a range test finds."""
    return [
        callbacks.OneCycle(callbacks.find_learning_rate(model, x, y, batch_size=batch, verbose=0))
    ]


def ours(direction: str, made: Callable[..., list[Any]] = nothing) -> Contestant:
    """Returns NAGD along a direction."""
    return Contestant(lambda updates: NAGD(direction=direction), made, callbacks.at_iterate)


CONTESTANTS = {
    **{name: Contestant(functools.partial(as_it_comes, name)) for name in KERAS},
    **{
        f"{name}, warm-up and cosine": Contestant(functools.partial(scheduled, name))
        for name in KERAS
    },
    **{f"NAGD, {each}": ours(each) for each in DIRECTIONS},
    **{f"NAGD, {each}, OneCycle": ours(each, cycle) for each in DIRECTIONS},
    **{f"NAGD, {each}, found and OneCycle": ours(each, found) for each in DIRECTIONS},
}
