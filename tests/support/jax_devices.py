"""Trains on one device of JAX and on four, and prints what came of it as JSON.

A process of its own, since devices are set up once: `python -m tests.support.jax_devices FOLDER
KINDS`, with the names of the cases by kind as JSON, and the number of devices in `XLA_FLAGS`.
"""

import contextlib
import json
import sys
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
    apart,
    make,
    misplaced,
    same_bits,
)

EPOCH = {"batch_size": 8, "shuffle": False, "verbose": 0}
RECENT = hasattr(keras.distribution.DataParallel, "auto_shard_dataset")  # not so in Keras 3.10
CASES: dict[str, dict[str, Any]] = {
    "constant": {},
    "scheduled": {"momentum": SCHEDULE, "weight_decay": 0.125},
    "restart by gradient": {"momentum": 0.96875, "restart": "gradient"},
    "restart by speed": {"momentum": 0.96875, "restart": "speed"},
    "skip": {"skip_nonfinite": True, "restart": "gradient", "use_ema": True},
    "accumulation": {"gradient_accumulation_steps": 2},
    "clipnorm": {"clipnorm": 0.01},
    "global_clipnorm": {"global_clipnorm": 0.01},
    "clipvalue": {"clipvalue": 0.001},
    "average": {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 3},
    "slot_dtype": {"slot_dtype": "bfloat16"},
    "adaptive": {"direction": "adaptive", "learning_rate": 0.01},
    "orthogonal": {"direction": "orthogonal", "learning_rate": 0.01},
    "callbacks": {},
    "guard": {},
}


def split(shape: tuple[int, int]) -> Any:
    """Shares the batches along one axis of the devices, and the variables along the other."""
    devices = keras.distribution.list_devices()
    mesh = keras.distribution.DeviceMesh(shape, ["batch", "model"], devices)
    layout = keras.distribution.LayoutMap(mesh)
    # The keys are paths of variables, and not those of slots, whatever the separators.
    layout[".*table/embeddings"] = ("model", None)
    layout[".*hidden/kernel"] = (None, "model")
    layout[".*hidden/bias"] = ("model",)
    return keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")


def place(kind: str) -> Any:
    """The scope of a way to use the devices."""
    if kind == "one":
        return contextlib.nullcontext()
    if kind == "data":
        devices = keras.distribution.list_devices()
        return keras.distribution.DataParallel(devices=devices).scope()
    # Older Keras hands batches to the devices in the order of a set: right if all get the same.
    return split((2, 2) if RECENT else (1, 4)).scope()


class Losses(keras.callbacks.Callback):
    """Keeps the mean loss since the epoch began, as it is after each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        assert logs is not None
        self.seen.append(float(logs["loss"]))


def helpers() -> list[Any]:
    return [
        callbacks.MomentumScheduler(lambda epoch, momentum: 0.5 + 0.125 * epoch),
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.05 / (epoch + 1)),
        callbacks.HyperparameterMonitor(norms=True),
        callbacks.EvaluateAtIterate(),
        callbacks.AdaptiveRestart(),
        callbacks.StopAtTolerance(1e-9),
    ]


def train(name: str) -> tuple[Any, list[float], dict[str, list[float]]]:
    model, losses = make(**CASES[name]), Losses()
    others: list[Any] = []
    settings: dict[str, Any] = {}
    if name == "callbacks":
        others, settings = helpers(), {"validation_data": (IDS[:16], TARGETS[:16])}
    if name == "guard":
        others = [callbacks.DivergenceGuard(verbose=0)]
    targets = POISONED if name in ("skip", "guard") else TARGETS
    history = model.fit(IDS, targets, epochs=3, callbacks=[*others, losses], **EPOCH, **settings)
    return model, losses.seen, history.history


def compare(name: str, kind: str, one: Any) -> dict[str, Any]:
    with place(kind):
        model, losses, history = train(name)
    wanted, wanted_losses, wanted_history = one
    hidden = model.layers[2].kernel
    position = [v.path for v in model.trainable_variables].index(hidden.path)
    return {
        "misplaced": misplaced(model),
        "bytes": [
            [shard.data.nbytes for shard in v.value.addressable_shards]
            for v in (hidden, model.optimizer.displacements[position])
        ],
        "counters": [counters(model), counters(wanted)],
        "deviation": deviation(model, wanted),
        "losses": apart(losses, wanted_losses),
        "history": max(apart(history[key], wanted_history[key]) for key in wanted_history),
    }


def more(model: Any) -> None:
    model.fit(IDS, TARGETS, epochs=1, **EPOCH)


def files(folder: str) -> dict[str, Any]:
    """What is saved by one kind and goes on in another, in both formats."""
    found = {}
    settings = {"momentum": SCHEDULE, "restart": "speed", "use_ema": True}
    settings["gradient_accumulation_steps"] = 2
    for source, target in (("model", "one"), ("one", "model"), ("data", "model")):
        with place(source):
            model = make(**settings)
            more(model)
            saving.save_model(model, f"{folder}/{source}.keras")
            saving.save_weights(model, f"{folder}/{source}.weights.h5")
        with place(target):
            loaded = saving.load_model(f"{folder}/{source}.keras")
            weights = make(**settings)
            weights.optimizer.build(weights.trainable_variables)
            saving.load_weights(weights, f"{folder}/{source}.weights.h5")
        bits = [same_bits(state(each), state(model)) for each in (loaded, weights)]
        placed = misplaced(loaded) + misplaced(weights)
        with place(source):
            more(model)
        with place(target):
            more(loaded)
        found[f"{source} to {target}"] = {
            "bits": bits,
            "misplaced": placed + misplaced(loaded),
            "split": len({str(v.value.sharding) for v in loaded.trainable_variables}) > 1,
            "deviation": deviation(loaded, model),
        }
    return found


def methods() -> dict[str, Any]:
    """Where slots and variables lie after what sets them, beside training."""
    with place("model"):
        model = make(gradient_accumulation_steps=2)
        more(model)
        optimizer, found = model.optimizer, {}
        look_ahead = [v.numpy() for v in model.trainable_variables]

        def is_there() -> bool:
            pairs = zip(model.trainable_variables, look_ahead, strict=True)
            return all(np.array_equal(v.numpy(), w) for v, w in pairs)

        optimizer.swap_to_iterate()
        found["iterate"] = misplaced(model)
        moved = not is_there()
        optimizer.swap_to_lookahead()
        found["look-ahead"] = misplaced(model)
        back = is_there()
        optimizer.reset_momentum()
        found["reset"] = misplaced(model)
        zero = not any(s.numpy().any() for s in optimizer.displacements)
        spread = model.layers[0].embeddings.value.sharding.is_fully_replicated
        more(model)
        found["trained"] = misplaced(model)
        return {"misplaced": found, "moved": moved, "back": back, "zero": zero, "split": not spread}


def main(folder: str, kinds: dict[str, list[str]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in CASES:
        those = [kind for kind, names in kinds.items() if name in names]
        one = train(name) if those else None
        found |= {f"{name}, {kind}": compare(name, kind, one) for kind in those}
    return {**found, "files": files(folder), "methods": methods()}


if __name__ == "__main__":
    print("found:", json.dumps(main(sys.argv[1], json.loads(sys.argv[2]))))
