"""Trains with two replicas and with one device, and prints what came of it as JSON.

A process of its own, since devices are set up once: `python -m tests.support.replicas FOLDER`, and
`long` behind it for what only the long tests ask for.
"""

import contextlib
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from nagd_keras import NAGD, callbacks, convert, schedules
from tests.support.agreement import counters, deviation
from tests.support.replica_cases import CALLBACKS, SETTINGS

X = np.random.default_rng(0).normal(size=(32, 3)).astype("float32")
Y = np.sin(X.sum(axis=1, keepdims=True))
SPOILED = X.copy()
SPOILED[8] = np.nan  # in the share of one replica
IDS = np.random.default_rng(1).integers(0, 6, size=(32, 3))
EPOCH = {"batch_size": 8, "shuffle": False, "verbose": 0}


def strategies() -> tuple[Any, Any]:
    """Two strategies of two replicas, on devices that this process then has for good."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    parts = [tf.config.LogicalDeviceConfiguration()] * 3
    tf.config.set_logical_device_configuration(cpu, parts)
    pairs = ("CPU:0", "CPU:1"), ("CPU:1", "CPU:2")
    first, second = (tf.distribute.MirroredStrategy(pair) for pair in pairs)
    return first, second


def network(optimizer: Any, table: bool = False, constraint: Any = None) -> Any:
    keras.utils.set_random_seed(0)
    inner = [keras.layers.Dense(4, "tanh", kernel_constraint=constraint, name="hidden")]
    if table:
        inner = [keras.layers.Embedding(8, 4), keras.layers.Flatten()]
    model = keras.Sequential([keras.Input((3,)), *inner, keras.layers.Dense(1, name="out")])
    model.compile(optimizer=optimizer(), loss="mse")
    return model


def twice(train: Callable[[], Any]) -> tuple[Any, Any]:
    """What is trained by two replicas, and on one device."""
    with BOTH.scope():
        two = train()
    return two, train()


def compared(train: Callable[[], Any]) -> dict[str, Any]:
    two, one = twice(train)
    return {"deviation": deviation(two, one), "counters": [counters(two), counters(one)]}


def settings(case: Any) -> dict[str, Any]:
    def train() -> Any:
        model = network(
            lambda: NAGD(0.125, case.momentum, **case.settings), case.table, case.constraint
        )
        inputs = IDS if case.table else SPOILED if case.spoiled else X
        model.fit(inputs, Y, epochs=3, **EPOCH)
        return model

    return compared(train)


def callback(case: Any) -> dict[str, Any]:
    logs: list[Any] = []

    def train() -> Any:
        model = network(lambda: NAGD(0.125, 0.875))
        inputs = SPOILED if case.spoiled else X
        history = model.fit(
            inputs, Y, epochs=4, validation_data=(X, Y), callbacks=case.make(), **EPOCH
        )
        logs.append(history.history)
        return model

    return {**compared(train), "logs": logs}


def live() -> dict[str, Any]:
    replicas: list[Any] = []

    def train() -> Any:
        model = network(lambda: NAGD(0.125, 0.875, weight_decay=0.0))
        model.fit(X, Y, **EPOCH)
        optimizer = model.optimizer
        optimizer.momentum, optimizer.weight_decay, optimizer.learning_rate = 0.5, 0.125, 0.0625
        numbers = BOTH.experimental_local_results(optimizer.momentum.variable.value)
        replicas.append([float(x.numpy()[2]) for x in numbers])
        model.fit(X, Y, **EPOCH)
        return model

    return {**compared(train), "momentum": replicas}


def scheduled() -> dict[str, Any]:
    def train() -> Any:
        rising = schedules.SutskeverMomentum(0.99, 2)
        model = network(lambda: NAGD(schedules.LinearWarmup(0.125, 4), rising))
        model.fit(X, Y, epochs=2, **EPOCH)
        return model

    return compared(train)


def beside_keras(limits: dict[str, float]) -> float:
    """How far Keras' SGD, which clips before it sums, is from NAGD with two replicas."""

    def train(optimizer: Callable[..., Any], **more: Any) -> Any:
        model = network(lambda: optimizer(0.125, 0.875, **more, **limits))
        model.fit(X, Y, epochs=2, **EPOCH)
        return model

    with BOTH.scope():
        ours, theirs = train(NAGD), train(keras.optimizers.SGD, nesterov=True)
    pairs = zip(ours.get_weights(), theirs.get_weights(), strict=True)
    return float(max(np.max(np.abs(u - v)) / np.max(np.abs(v)) for u, v in pairs))


def losses_of_keras() -> list[list[float]]:
    """What `fit` says the loss is with Keras' SGD, in two replicas and on one device."""

    def train() -> list[float]:
        model = network(lambda: keras.optimizers.SGD(0.125))
        losses: list[float] = model.fit(X, Y, epochs=2, **EPOCH).history["loss"]
        return losses

    with BOTH.scope():
        two = train()
    return [two, train()]


def saved(folder: Path, inside: bool) -> dict[str, Any]:
    """What goes on from a state that was saved by another number of replicas, or by as many.

    The file is written in the scope of the saver, or outside.
    """

    def start() -> Any:
        model = network(lambda: NAGD(0.125, schedules.NesterovMomentum(), restart="speed"))
        model.fit(X, Y, epochs=2, **EPOCH)
        return model

    def on(model: Any) -> Any:
        model.fit(X, Y, epochs=2, **EPOCH)
        return model

    found = {}
    scopes: dict[str, Any] = {"two replicas": BOTH.scope, "one device": contextlib.nullcontext}
    for saver, scope in scopes.items():
        with scope():
            model = start()
        with scope() if inside else contextlib.nullcontext():
            model.save(folder / "model.keras")
            model.save_weights(folder / "model.weights.h5")
            note = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
            note.write(str(folder / "checkpoint"))
        with scope():
            wanted = on(model)
        for loader, other in scopes.items():
            # The scope in which a file is written matters to none of these, or to all.
            for how in (from_model, from_weights, from_checkpoint)[: 3 if inside else 1]:
                with other():
                    again = on(how(folder))
                name = f"{saver}, {'inside' if inside else 'outside'}, {loader}: {how.__name__}"
                found[name] = [deviation(again, wanted), counters(again), counters(wanted)]
    return found


def from_model(folder: Path) -> Any:
    return keras.saving.load_model(folder / "model.keras")


def unsaved() -> Any:
    model = network(lambda: NAGD(0.125, schedules.NesterovMomentum(), restart="speed"))
    model.optimizer.build(model.trainable_variables)
    return model


def from_weights(folder: Path) -> Any:
    model = unsaved()
    model.load_weights(folder / "model.weights.h5")
    return model


def from_checkpoint(folder: Path) -> Any:
    model = unsaved()
    note = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
    note.read(str(folder / "checkpoint")).assert_consumed()
    return model


def adopted() -> dict[str, Any]:
    """A model that Keras' SGD trained in the scope, adopted outside of it."""
    with BOTH.scope():
        make = [network(lambda: keras.optimizers.SGD(0.125, 0.875, nesterov=True)) for _ in "ab"]
    for model in make:
        model.fit(X, Y, epochs=2, **EPOCH)
    convert.adopt(make[0])
    for model in make:
        model.fit(X, Y, epochs=2, **EPOCH)
    weights = [np.concatenate([w.ravel() for w in model.get_weights()]) for model in make]
    return {
        "deviation": float(np.max(np.abs(weights[0] - weights[1])) / np.max(np.abs(weights[1]))),
        "age": counters(make[0])[0],
    }


def range_test() -> int:
    """One of a model that nothing has built yet, outside the scope."""
    with BOTH.scope():
        model = keras.Sequential([keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
        model.compile(optimizer=NAGD(), loss="mse")
    warnings.simplefilter("ignore")  # There is nothing to find.
    sweep = callbacks.find_learning_rate(model, X, Y, max=0.1, steps=20, batch_size=8, verbose=0)
    model.fit(X, Y, epochs=1, verbose=0)
    return len(sweep.losses)


def unknown_length() -> dict[str, Any]:
    """Two replicas with data that tell their length, and with data that do not."""
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
    everything = tf.autograph.experimental.do_not_convert(lambda *_: True)

    def train(dataset: Any) -> Any:
        settings = {"weight_decay": 0.125, "use_ema": True, "gradient_accumulation_steps": 2}
        with BOTH.scope():
            model = network(lambda: NAGD(0.125, schedules.NesterovMomentum(), **settings))
        model.fit(dataset, epochs=3, shuffle=False, verbose=0)
        return model

    warnings.filterwarnings("ignore", "(?s).*ran out of data")
    found, wanted = train(data.filter(everything)), train(data)
    return {
        "deviation": deviation(found, wanted),
        "counters": [counters(found), counters(wanted)],
    }


def mixed_float16() -> dict[str, Any]:
    keras.config.set_dtype_policy("mixed_float16")
    try:

        def train() -> Any:
            model = network(lambda: NAGD(0.125, 0.875, restart="gradient", global_clipnorm=0.5))
            model.fit(X, Y, epochs=3, **EPOCH)
            return model

        two, one = twice(train)
    finally:
        keras.config.set_dtype_policy("float32")
    ages = [counters(m)[0] for m in (two, one)]
    return {"deviation": deviation(two, one), "ages": ages}


def refused() -> dict[str, str]:
    """The errors where an optimizer cannot do what it was told to."""

    def plain() -> Any:
        return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])

    with BOTH.scope():
        model, restarting = plain(), NAGD(restart="gradient")
    with OTHERS.scope():
        elsewhere = plain()
    nowhere = plain()

    def within(optimizer: Any, step: Callable[[Any, Any], Any], graph: bool = True) -> None:
        def share() -> None:
            gradients = [tf.ones(v.shape) for v in model.trainable_variables]
            step(gradients, model.trainable_variables)

        BOTH.run(tf.function(share) if graph else share)

    def outside_of_replicas() -> None:
        with BOTH.scope():
            restarting.build(model.trainable_variables)
            restarting.apply([tf.ones(v.shape) for v in model.trainable_variables])

    def share_alone() -> None:
        within(restarting, lambda g, v: restarting.update_step(g[0], v[0], 0.1), graph=False)

    def unbuilt() -> None:
        with BOTH.scope():
            optimizer = NAGD()
        within(optimizer, optimizer.apply)

    def of(scope: Any, variables: Any) -> Callable[[], None]:
        def build() -> None:
            with scope:
                NAGD().build(variables)

        return build

    def fit_outside() -> None:
        model.compile(optimizer=NAGD(), loss="mse")
        model.fit(X, Y, verbose=0)

    tried: Iterator[tuple[str, Callable[[], None]]] = iter(
        {
            "outside of the replicas": outside_of_replicas,
            "a share of a gradient": share_alone,
            "not built": unbuilt,
            "another strategy": of(BOTH.scope(), elsewhere.trainable_variables),
            "no strategy": of(BOTH.scope(), nowhere.trainable_variables),
            "optimizer outside": of(contextlib.nullcontext(), model.trainable_variables),
            "fit, optimizer outside": fit_outside,
        }.items()
    )
    found = {}
    for name, attempt in tried:
        before = model.get_weights()
        try:
            attempt()
        except ValueError as error:
            unchanged = all(map(np.array_equal, model.get_weights(), before))
            found[name] = str(error) if unchanged else "the model was changed"
        else:
            found[name] = "nothing was raised"
    return found


def main(folder: Path, long: bool) -> dict[str, Any]:
    found = {
        "settings": {name: settings(case) for name, case in SETTINGS.items() if case.long == long},
        "callbacks": {
            name: callback(case) for name, case in CALLBACKS.items() if case.long == long
        },
    }
    if long:
        return {
            **found,
            "saved": saved(folder, inside=False) | saved(folder, inside=True),
            "mixed_float16": mixed_float16(),
            "losses of Keras": losses_of_keras(),
            "beside Keras": [beside_keras({}), beside_keras({"clipnorm": 0.05})],
            "adopted": adopted(),
            "range test": range_test(),
            "scheduled": scheduled(),
            "live": live(),
        }
    return {
        **found,
        "unknown length": unknown_length(),
        "refused": refused(),
    }


if __name__ == "__main__":  # Not where pytest looks for doctests.
    BOTH, OTHERS = strategies()
    print("found:", json.dumps(main(Path(sys.argv[1]), len(sys.argv) > 2)))
