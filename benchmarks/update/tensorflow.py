"""What an update adds to a step on TensorFlow: four models, three optimizers, and the limit."""

import math

from benchmarks.support import child, limit
from benchmarks.update.models import LARGE, chosen
from benchmarks.update.tensorflow_steps import BASE, SGD, keras_sgd, training_step, variables_of
from nagd_keras import NAGD, schedules

OPTIMIZERS = {
    SGD: keras_sgd,
    "NAGD": NAGD,
    "NAGD, momentum schedule": lambda: NAGD(momentum=schedules.SutskeverMomentum()),
}


def measure(report: child.Report) -> None:
    """Reports the four models."""
    for model, shapes in chosen(report.quick).items():
        contestants = {BASE: training_step(variables_of(shapes))}
        for name, make in OPTIMIZERS.items():
            contestants[name] = training_step(variables_of(shapes), make())
        elements = sum(map(math.prod, shapes))
        best = limit.update(elements) if model == LARGE else None
        if best:
            contestants[limit.NAME] = best
        report.race(
            model,
            contestants,
            [SGD],
            base=BASE,
            alone=[limit.NAME],
            more=lambda rows, n=elements: limit.bandwidth(rows, n),
        )
        if model == LARGE and not best:
            report.row(model, limit.NAME, error="not measured: no C compiler with OpenMP")


if __name__ == "__main__":
    child.run(measure)
