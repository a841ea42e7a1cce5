"""What each setting costs on TensorFlow: NAGD with it against Keras' SGD with the same."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import keras

from benchmarks.support import child
from benchmarks.update.models import MIXED
from benchmarks.update.tensorflow_steps import BASE, SGD, keras_sgd, training_step, variables_of
from nagd_keras import NAGD


class Setting(NamedTuple):
    """One row: how to make both optimizers, and how to call their steps.

    Attributes:
        both: settings that both take.
        own: settings that NAGD alone has; SGD goes without.
        wrap: what is made of either optimizer.
        set_up: what is done to NAGD alone.
        jit: whether the whole step is compiled by XLA.
        calls: how many steps make an update.
        each: what is done to NAGD before each step.
    """

    both: Mapping[str, Any] = MappingProxyType({})
    own: Mapping[str, Any] = MappingProxyType({})
    wrap: Callable[[Any], Any] = lambda optimizer: optimizer
    set_up: Callable[[Any], None] = lambda optimizer: None
    jit: bool = False
    calls: int = 1
    each: Callable[[Any], None] | None = None


def _tracks(optimizer: Any) -> None:
    optimizer.tracks_gradient_norm = True


def _sets_momentum(optimizer: Any) -> None:
    optimizer.momentum = 0.9


QUICK = 3
SETTINGS = {
    "none": Setting(),
    "jit_compile=True": Setting(jit=True),
    "clipnorm": Setting({"clipnorm": 1.0}),
    "clipvalue": Setting({"clipvalue": 5e-4}),
    "global_clipnorm": Setting({"global_clipnorm": 1.0}),
    "weight_decay": Setting({"weight_decay": 1e-4}),
    "use_ema": Setting({"use_ema": True}),
    "gradient_accumulation_steps=2": Setting({"gradient_accumulation_steps": 2}, calls=2),
    "loss_scale_factor": Setting({"loss_scale_factor": 1024.0}),
    "LossScaleOptimizer (mixed_float16)": Setting(wrap=keras.optimizers.LossScaleOptimizer),
    "learning_rate_multipliers, NAGD's": Setting(own={"learning_rate_multipliers": {".": 0.5}}),
    "momentum set before each, NAGD's": Setting(each=_sets_momentum),
    "tracks_gradient_norm, NAGD's": Setting(set_up=_tracks),
    'slot_dtype="bfloat16", NAGD\'s': Setting(own={"slot_dtype": "bfloat16"}),
}


def measure(report: child.Report) -> None:
    """Reports each setting; all update the same variables, which an update hardly changes."""
    variables = variables_of(MIXED)
    for name, setting in list(SETTINGS.items())[: QUICK if report.quick else None]:
        contestants = {BASE: _step(variables, None, setting)}
        contestants[SGD] = _step(variables, setting.wrap(keras_sgd(**setting.both)), setting)
        try:
            nagd = NAGD(**setting.both, **setting.own)
            setting.set_up(nagd)
            contestants["NAGD"] = _step(variables, setting.wrap(nagd), setting, setting.each)
        except (TypeError, ValueError) as error:
            report.failed(name, "NAGD", error)
            continue
        report.race(name, contestants, [SGD], base=BASE)


def _step(
    variables: list[Any],
    optimizer: Any,
    setting: Setting,
    each: Callable[[Any], None] | None = None,
) -> Callable[[], None]:
    step = training_step(variables, optimizer, setting.jit)

    def call() -> None:
        for _ in range(setting.calls):
            if each:
                each(optimizer)
            step()

    return call


if __name__ == "__main__":
    child.run(measure)
