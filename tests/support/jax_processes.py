"""Trains in two processes of JAX and in one, and prints what came of it as JSON.

`python -m tests.support.jax_processes FOLDER ADDRESS PLACE` for both places, 0 and 1, at the same
time.
"""

import json
import os
import sys
import traceback
from typing import Any

import keras
import numpy as np

from nagd_keras import callbacks, saving
from tests.support.agreement import counters, deviation, state
from tests.support.jax_network import (
    IDS,
    POISONED,
    SCHEDULE,
    TARGETS,
    make,
    same_bits,
)

OTHERS: dict[str, dict[str, Any]] = {
    "accumulation, averages": {
        "gradient_accumulation_steps": 2,
        "use_ema": True,
        "ema_momentum": 0.5,
        "ema_overwrite_frequency": 3,
    },
    "clipped, decayed": {"clipnorm": 0.01, "weight_decay": 0.125, "restart": "gradient"},
    "slot_dtype, clipped": {"slot_dtype": "bfloat16", "global_clipnorm": 0.01},
}


def fail(*error: Any) -> None:
    traceback.print_exception(*error)
    os._exit(1)  # JAX would wait for the other process first.


def fit(model: Any, targets: np.ndarray, epochs: int = 2, **settings: Any) -> None:
    """Trains with all of every batch of 8, or with this process' half under a distribution."""
    import jax

    rows, size = np.arange(64), 8
    if keras.distribution.distribution() is not None:
        rows, size = rows.reshape(-1, 2, 4)[:, jax.process_index()].ravel(), 4
    common = {"batch_size": size, "shuffle": False, "verbose": 0}
    model.fit(IDS[rows], targets[rows], epochs=epochs, **common, **settings)


def moved(model: Any) -> list[Any]:
    return [*model.variables, *model.optimizer.displacements]


def spread() -> Any:
    devices = keras.distribution.list_devices()
    return keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False).scope()


def train() -> Any:
    model = make(momentum=SCHEDULE, restart="speed", skip_nonfinite=True)
    monitor = callbacks.HyperparameterMonitor(norms=True)
    fit(model, POISONED, callbacks=[monitor])
    fit(model, TARGETS, callbacks=[callbacks.StopAtTolerance(1e-9), monitor])
    return model


def other(settings: dict[str, Any]) -> Any:
    """Trains with other settings, and a momentum that is set in between."""
    model = make(**settings)
    fit(model, TARGETS)
    model.optimizer.momentum = 0.5
    fit(model, TARGETS, epochs=1)
    return model


def main(path: str) -> dict[str, Any]:
    import jax
    from jax.experimental import multihost_utils

    with spread():
        model = train()
    # One process writes what all have: not in the scope, as Keras makes a variable where it saves.
    if jax.process_index() == 0:
        saving.save_model(model, path)
    multihost_utils.sync_global_devices("saved")
    found: dict[str, Any] = {}
    with spread():
        loaded = saving.load_model(path)
        found["bits"] = same_bits(state(loaded), state(model))
        loaded.optimizer.swap_to_iterate()
        loaded.optimizer.swap_to_lookahead()
        found["back"] = same_bits(state(loaded), state(model))
        fit(model, TARGETS)
        fit(loaded, TARGETS)
        # Not the norm of the gradient, which only the first of them tracks.
        found["goes on"] = same_bits(moved(loaded), moved(model))
        others = {name: other(settings) for name, settings in OTHERS.items()}
    if jax.process_index() == 0:
        found["others"] = {
            name: deviation(model, other(OTHERS[name])) for name, model in others.items()
        }
        one, alone = saving.load_model(path), train()
        found["counters"] = [counters(one), counters(alone)]
        found["deviation"] = deviation(one, alone)
        fit(one, TARGETS)
        found["goes on alone"] = deviation(one, loaded)
    return found


if __name__ == "__main__":
    import jax

    sys.excepthook = fail
    folder, address, number_of_this = sys.argv[1:]
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, 2, int(number_of_this))
    print("found:", json.dumps(main(f"{folder}/two.keras")))
