"""Schedules of the learning rate and the momentum: pure functions of the step."""

from nagd_keras.schedules.linear_warmup import LinearWarmup
from nagd_keras.schedules.nesterov import NesterovMomentum
from nagd_keras.schedules.one_cycle import OneCycle
from nagd_keras.schedules.piecewise import Piecewise
from nagd_keras.schedules.schedule import Schedule
from nagd_keras.schedules.strongly_convex import StronglyConvexMomentum
from nagd_keras.schedules.sutskever import SutskeverMomentum

__all__ = [
    "LinearWarmup",
    "NesterovMomentum",
    "OneCycle",
    "Piecewise",
    "Schedule",
    "StronglyConvexMomentum",
    "SutskeverMomentum",
]


def __dir__() -> list[str]:
    """Returns the public names, without the modules that they come from."""
    return list(__all__)
