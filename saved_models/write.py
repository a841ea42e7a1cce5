"""Writes the small models that a release keeps, to be loaded by all later ones.

    python saved_models/write.py --help

Every model is trained for a few steps, saved, and trained on. What is written beside it, in a JSON
file: the versions that wrote it, what the optimizer was like, and the losses of the further steps.
"""

import argparse
import copy
import json
import os
import platform
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

import nagd_keras
from nagd_keras import NAGD
from nagd_keras.schedules import (
    LinearWarmup,
    NesterovMomentum,
    OneCycle,
    Piecewise,
    StronglyConvexMomentum,
    SutskeverMomentum,
)

SAVED_AT = 7  # odd: within a window of two batches, and within one of three
FURTHER = 20  # steps whose losses are written
BATCH, INPUTS = 8, 4
# The live hyperparameters, and the counters, of which each is a property of NAGD.
HYPERPARAMETERS = ("learning_rate", "momentum", "weight_decay")
COUNTERS = ("iterations", "age", "restarts")


@dataclass(frozen=True)
class Case:
    """One model: the settings of its optimizer, and how it is trained and saved."""

    name: str
    settings: dict[str, Any]
    formats: tuple[str, ...] = (".keras",)
    policy: str = "float32"
    prepare: Callable[[Any], None] = lambda optimizer: None
    after: dict[int, Callable[[Any], None]] = field(default_factory=dict)  # by step
    at_iterate: bool = False
    normalized: bool = False  # has a layer whose weights are not all trained
    steps: int = SAVED_AT


def set_live(optimizer: Any) -> None:
    """Sets all three hyperparameters."""
    optimizer.momentum, optimizer.learning_rate, optimizer.weight_decay = 0.85, 0.04, 0.02


def halve(optimizer: Any) -> None:
    """Halves the learning rate, which scales a schedule."""
    optimizer.learning_rate = 0.5 * float(optimizer.learning_rate)


def exclude(optimizer: Any) -> None:
    """Decays only some of the variables."""
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma"])


def restart(optimizer: Any) -> None:
    """Resets the momentum, so that the age is not the number of steps."""
    optimizer.reset_momentum()


RISING, WARM = NesterovMomentum(), LinearWarmup(0.05, steps=5)
AVERAGES = {
    "use_ema": True,
    "ema_momentum": 0.9,
    "ema_overwrite_frequency": 3,
    "gradient_accumulation_steps": 3,
}
CASES = [
    Case("untrained", {"learning_rate": 0.05, "momentum": RISING}, steps=0),
    Case(
        "plain",
        {"learning_rate": 0.05},
        formats=(".keras", ".h5", ".weights.h5", ".ckpt"),
    ),
    Case(
        "schedules",
        {
            "learning_rate": OneCycle(0.01, 0.05, 0.001, total_steps=20),
            "momentum": RISING,
            "weight_decay": Piecewise([5, 10], [0.01, WARM, 0.02]),
        },
    ),
    Case(
        "scaled-schedule",
        {"learning_rate": WARM, "momentum": SutskeverMomentum(0.95, period=4)},
        formats=(".keras", ".h5"),
        after={3: halve},
    ),
    Case(
        "averages",
        {"weight_decay": 0.0, **AVERAGES},
        formats=(".keras", ".h5"),
        after={2: set_live},
    ),
    Case(
        "decay-of-some",
        {"learning_rate": 0.05, "weight_decay": 0.1, **AVERAGES},
        formats=(".keras", ".weights.h5"),
        prepare=exclude,
    ),
    Case(
        "at-iterate",
        {"learning_rate": 0.05, "momentum": StronglyConvexMomentum(400.0)},
        formats=(".keras", ".ckpt"),
        at_iterate=True,
    ),
    Case(
        "mixed-float16",
        {"learning_rate": 0.05, "momentum": RISING},
        formats=(".keras", ".weights.h5"),
        policy="mixed_float16",
    ),
    Case("bfloat16", {"learning_rate": 0.05, "weight_decay": 0.01}, policy="bfloat16"),
    Case(
        "everything",
        {
            "learning_rate": WARM,
            "momentum": RISING,
            "weight_decay": 0.01,
            "learning_rate_multipliers": {"out": 0.5},
            "clipnorm": 2.0,
            "use_ema": True,
            "ema_momentum": 0.9,
            "ema_overwrite_frequency": 4,
            "gradient_accumulation_steps": 2,
        },
        formats=(".keras", ".weights.h5", ".ckpt"),
        prepare=exclude,
        after={2: restart, 5: halve},
        normalized=True,
        at_iterate=True,
    ),
    Case("adaptive", {"direction": "adaptive"}, formats=(".keras", ".weights.h5")),
    Case("orthogonal", {"direction": "orthogonal"}, formats=(".keras", ".ckpt")),
]


def batch(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns a batch of a smooth function, by formula: random numbers change with NumPy.

    Never change it: the losses that all releases have written are of these batches.
    """
    k = np.arange(BATCH * INPUTS, dtype="float64").reshape(BATCH, INPUTS)
    x = np.sin(0.7 * k + 1.3 * number + 0.1 * k**2)
    y = np.sin(2 * x).sum(axis=1, keepdims=True)
    return x.astype("float32"), y.astype("float32")


def train(model: Any, number: int) -> float:
    """Trains on one batch; returns its loss."""
    model.reset_metrics()  # Otherwise it is the mean over all batches so far.
    return float(model.train_on_batch(*batch(number), return_dict=True)["loss"])


def losses(model: Any, trained: int, further: int = FURTHER) -> list[float]:
    """Goes on with a model that has seen the first batches; returns the losses of the next."""
    nagd_of(model).swap_to_lookahead()
    return [train(model, number) for number in range(trained + 1, trained + further + 1)]


def nagd_of(model: Any) -> Any:
    """Returns the NAGD of a model, without loss scaling."""
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


def make_model(case: Case) -> Any:
    """Makes a model and its optimizer, the same every time."""
    keras.config.set_dtype_policy(case.policy)
    layers = [
        keras.layers.Dense(5, activation="tanh", use_bias=False, name="hidden"),
        *([keras.layers.BatchNormalization(name="norm")] if case.normalized else []),
        keras.layers.Dense(1, name="out"),
    ]
    model = keras.Sequential([keras.Input((INPUTS,)), *layers])
    for i, variable in enumerate(model.trainable_variables):
        if variable.path.endswith("kernel"):
            size = int(np.prod(variable.shape))
            variable.assign(np.sin(np.arange(size) + 10.0 * i).reshape(variable.shape))
    optimizer = NAGD(**case.settings)
    case.prepare(optimizer)
    # As an object: Keras cannot load the name "mse" from its older format.
    model.compile(optimizer, keras.losses.MeanSquaredError(), run_eagerly=True)
    return model


def save(model: Any, path: Path) -> None:
    """Saves a model in the format that the name of the file says."""
    if path.suffix == ".ckpt":
        tf.train.Checkpoint(model=model).write(str(path))
    elif path.name.endswith(".weights.h5"):
        model.save_weights(path)
    elif path.suffix == ".h5":
        copy.deepcopy(model).save(path)  # Keras takes the optimizer out of what it saves next.
    else:
        model.save(path)


def described(model: Any) -> dict[str, Any]:
    """Returns what a loaded model must have: numbers, and the checksums of its variables."""
    nagd = nagd_of(model)
    values = {name: getattr(nagd, name) for name in HYPERPARAMETERS}
    return {
        **{name: int(getattr(nagd, name)) for name in COUNTERS},
        **{name: None if value is None else float(value) for name, value in values.items()},
        "at_iterate": nagd.at_iterate,
        "weights": [checksum(variable) for variable in model.weights],
        "displacements": [checksum(variable) for variable in nagd.displacements],
    }


def look_ahead(model: Any) -> list[int]:
    """Brings a model to the look-ahead point; returns the checksums of its weights there."""
    nagd_of(model).swap_to_lookahead()
    return [checksum(variable) for variable in model.weights]


def checksum(variable: Any) -> int:
    """Returns the CRC-32 of a variable's value; float32 holds all of 16 bits."""
    return zlib.crc32(keras.ops.convert_to_numpy(keras.ops.cast(variable, "float32")).tobytes())


def write(case: Case, folder: Path) -> None:
    """Writes one model, in all its formats, and its JSON file."""
    model = make_model(case)
    for number in range(1, case.steps + 1):
        train(model, number)
        case.after.get(number, lambda _: None)(nagd_of(model))
    if case.at_iterate:
        nagd_of(model).swap_to_iterate()
    files = [case.name + ending for ending in case.formats]
    for file in files:
        save(model, folder / file)
    model.optimizer.build(model.trainable_variables)  # as one that is loaded is
    description = {
        "wrote": {
            "nagd_keras": nagd_keras.__version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "python": platform.python_version(),
        },
        "policy": case.policy,
        "steps": case.steps,
        "files": files,
        **described(model),
        "look_ahead": look_ahead(model),
        "losses": losses(model, case.steps),
    }
    (folder / f"{case.name}.json").write_text(json.dumps(description, indent=1) + "\n")


def default_folder() -> Path:
    """Returns the folder of these versions of nagd_keras and Keras."""
    version = ".".join(keras.__version__.split(".")[:2])
    return Path(__file__).resolve().parent / nagd_keras.__version__ / f"keras-{version}"


def main(arguments: list[str] | None = None) -> None:
    """Writes all models."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0] if __doc__ else None,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--output", type=Path, default=default_folder(), help="the folder")
    folder = parser.parse_args(arguments).output
    folder.mkdir(parents=True, exist_ok=True)
    for case in CASES:
        write(case, folder)
    sizes = [path.stat().st_size for path in folder.iterdir() if path.is_file()]
    print(f"{len(sizes)} files, {sum(sizes)} bytes, written into {folder}")


if __name__ == "__main__":
    main()
