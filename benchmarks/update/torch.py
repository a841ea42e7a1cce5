"""Updates on PyTorch, which makes them one operation after the other, against its own SGD.

The fused SGD makes one pass over memory and moves the same bytes: it is the limit here. The one in
C would bring threads of its own, which stand in the way of PyTorch's.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import torch

from benchmarks.support import child
from benchmarks.update.models import chosen
from nagd_keras import NAGD, schedules

SGD = "Keras SGD"
FUSED = "PyTorch SGD, fused"
FOREACH = "PyTorch SGD, foreach"
KERAS = {
    SGD: lambda: keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True),
    "NAGD": NAGD,
    "NAGD, momentum schedule": lambda: NAGD(momentum=schedules.SutskeverMomentum()),
}
Shapes = Sequence[tuple[int, ...]]


def measure(report: child.Report) -> None:
    """Reports the four models."""
    for model, shapes in chosen(report.quick).items():
        contestants = {
            FUSED: _torch(shapes, fused=True),
            FOREACH: _torch(shapes, foreach=True),
            **{name: keras_step(shapes, make()) for name, make in KERAS.items()},
        }
        report.race(model, contestants, [SGD, FUSED])


def _torch(shapes: Shapes, **how: bool) -> Callable[[], object]:
    parameters = [torch.nn.Parameter(torch.ones(shape)) for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 1e-3)
    return torch.optim.SGD(parameters, 0.01, momentum=0.9, nesterov=True, **how).step


def keras_step(shapes: Shapes, optimizer: Any) -> Callable[[], object]:
    """Returns calls of an update of variables of these shapes."""
    return step_of([keras.Variable(keras.ops.ones(shape)) for shape in shapes], optimizer)


def step_of(variables: Sequence[Any], optimizer: Any) -> Callable[[], object]:
    """Returns calls of an update of variables."""
    gradients = [1e-3 * v.value.detach() for v in variables]
    optimizer.build(variables)

    def call() -> None:
        with torch.no_grad():  # as Keras' own train step does
            optimizer.apply(gradients, variables)

    return call


if __name__ == "__main__":
    child.run(measure)
