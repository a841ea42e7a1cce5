"""What an update costs with the decisions that are made over all variables, on Keras' backend."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from benchmarks.support import child
from benchmarks.update.models import LARGE, MODELS
from nagd_keras import NAGD

NAME = "NAGD"
SETTINGS: dict[str, dict[str, Any]] = {
    NAME: {},
    'NAGD, restart="gradient"': {"restart": "gradient"},
    'NAGD, restart="speed"': {"restart": "speed"},
    "NAGD, skip_nonfinite": {"skip_nonfinite": True},
    "NAGD, global_clipnorm": {"global_clipnorm": 1.0},
    "NAGD, both": {"skip_nonfinite": True, "global_clipnorm": 1.0},
}
Shapes = Sequence[tuple[int, ...]]


def measure(report: child.Report) -> None:
    """Reports the large variable and the small network."""
    for model, shapes in MODELS.items():
        if model == LARGE or (len(shapes) < 100 and not report.quick):
            contestants, base = _contestants(shapes)
            report.race(model, contestants, [NAME], base=base)


def _contestants(shapes: Shapes) -> tuple[dict[str, Callable[[], object]], str | None]:
    """Returns calls of steps, and which of them makes no update, if their costs are differences."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        from benchmarks.update.tensorflow_steps import BASE, training_step, variables_of

        made = {
            name: training_step(variables_of(shapes), NAGD(**s)) for name, s in SETTINGS.items()
        }
        return {BASE: training_step(variables_of(shapes)), **made}, BASE
    if backend == "jax":
        from benchmarks.update.jax import keras_step
    else:
        from benchmarks.update.torch import keras_step
    return {name: keras_step(shapes, NAGD(**s)) for name, s in SETTINGS.items()}, None


if __name__ == "__main__":
    child.run(measure)
