"""The learning-rate range test leaves the model as it was."""

import random

import keras
import numpy as np
import pytest

from nagd_keras import NAGD, schedules
from nagd_keras.callbacks.borrowed import generators_kept
from tests.support.drivers import assert_identical, snapshot
from tests.support.limits import needs
from tests.support.sweeps import Breaking, rich_model, sweep
from tests.support.training import BATCH, data, network

pytestmark = [
    pytest.mark.long,  # see pyproject.toml
    # The sweeps of most tests are short, and of small noisy batches.
    pytest.mark.filterwarnings("ignore:The range test is not sure"),
]

EXECUTIONS = "steps per execution"
MODELS = {
    "plain": lambda: network(NAGD(0.05)),
    "rich": lambda: rich_model(NAGD(0.05)),
    "not built": lambda: rich_model(NAGD(0.05), built=False),
    "averages": lambda: rich_model(NAGD(0.05, use_ema=True, ema_overwrite_frequency=5)),
    "accumulation": lambda: rich_model(NAGD(0.05, gradient_accumulation_steps=3)),
    EXECUTIONS: lambda: rich_model(NAGD(0.05), steps_per_execution=2),
    "xla": lambda: rich_model(NAGD(0.05), jit_compile=True),
    "schedules": lambda: rich_model(
        NAGD(schedules.LinearWarmup(0.05, 5, start=0.01), schedules.NesterovMomentum())
    ),
    "Keras SGD": lambda: rich_model(keras.optimizers.SGD(0.05, 0.9)),
    "Keras Adam": lambda: rich_model(keras.optimizers.Adam(0.05)),
}


def train(model):
    """Shuffled, so that the random generators of everybody count too."""
    return model.fit(*data(), BATCH, 2, verbose=0, validation_data=data()).history


def build_as_a_sweep_does(model):
    """So that both runs draw as many random numbers: of PyTorch's, or of NumPy's on JAX.

    There `fit` takes one more batch, and so an order of the batches, if losses or metrics are not
    built yet.
    """
    if keras.backend.backend() != "tensorflow":
        with generators_kept():
            model.evaluate(*data(), verbose=0)


def marked(*names):
    """Those that the backend can train."""
    return [pytest.param(n, marks=[needs(n)] if n == EXECUTIONS else []) for n in names]


@pytest.mark.parametrize("name", marked(*MODELS))
def test_training_goes_on_as_without_it(name):
    """Whether the model is new or trained: it is swept before the first fit and the second."""
    results = []
    for swept in (False, True):
        model, seen = MODELS[name](), []
        if not swept:
            build_as_a_sweep_does(model)
        for _ in range(2):
            if swept:  # However the loss jumps, as it does with dropout.
                assert len(sweep(model, stop_at=1e6).losses) > 10
            logs = train(model)
            seen.append((snapshot(model, model.optimizer), logs, random.random()))
        results.append(seen)
    for found, wanted in zip(results[1], results[0], strict=True):
        assert_identical(found[0], wanted[0])
        assert found[1:] == wanted[1:]


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    test_training_goes_on_as_without_it("rich")


def everything(model):
    """All that a sweep may change."""
    held = ("history", "stop_training", "train_function", "steps_per_execution", "_initial_epoch")
    attributes = {name: vars(model).get(name) for name in held}
    held = [*model.variables, *model.metrics_variables, *model.optimizer.variables]
    return snapshot(held), attributes, random.getstate(), str(np.random.get_state())  # noqa: NPY002


def assert_same(found, wanted):
    assert_identical(found[0], wanted[0])
    assert found[1:] == wanted[1:]


def interrupting(error):
    """Data that end with an exception in the middle."""

    class Data(keras.utils.PyDataset):
        def __len__(self):
            return 20

        def __getitem__(self, index):
            if index >= 5:
                raise error
            return tuple(a[:BATCH] for a in data())

    return Data()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
@pytest.mark.parametrize("name", marked("rich", EXECUTIONS))
def test_an_interruption_leaves_all_as_it_was(name, error, monkeypatch):
    """Raised by a callback of Keras' in the middle, as Ctrl-C would be."""
    model = MODELS[name]()
    train(model)
    before = everything(model)
    updates = []

    def update(self, *args, **kwargs):
        updates.append(args)
        if len(updates) == 5:
            raise error

    monkeypatch.setattr(keras.utils.Progbar, "update", update)
    with pytest.raises(error):
        sweep(model)
    assert_same(everything(model), before)


def test_an_error_in_the_data_leaves_all_as_it_was():
    model = MODELS["rich"]()
    train(model)
    before = everything(model)
    with pytest.raises(Exception, match="spoiled"):
        sweep(model, interrupting(ValueError("spoiled")))
    assert_same(everything(model), before)


def test_nan_ends_it_and_leaves_all_as_it_was():
    model = keras.Sequential([keras.Input((4,)), Breaking(), keras.layers.Dense(1)])
    model.compile(NAGD(0.05), "mse")
    before = snapshot(model)
    found = sweep(model)
    assert len(found.losses) == 6
    assert np.all(np.isfinite(found.losses))
    assert_identical(snapshot(model), before)


def test_the_epoch_that_a_backup_left_is_not_that_of_the_sweep():
    model = network(NAGD(0.05))
    model._initial_epoch = 3  # as BackupAndRestore does
    assert len(sweep(model, steps=5, max=1e-3).losses) == 5
    assert model._initial_epoch == 3


def test_a_new_model_gets_neither_attributes_nor_metrics():
    model = network(NAGD(0.05))
    before = set(vars(model))
    sweep(model, steps=5)
    assert not {"history", "stop_training"} & (set(vars(model)) - before)
    assert all(np.all(value == 0) for value in snapshot(model.metrics_variables))


class TwoOptimizers(keras.Sequential):
    def train_step(self, *data):
        logs = super().train_step(*data)
        self.second.apply([keras.ops.ones(())], [self.extra])
        return logs


@needs("a second optimizer")
def test_optimizers_of_the_models_own_are_given_back():
    model = TwoOptimizers([keras.Input((4,)), keras.layers.Dense(1)])
    model.extra = keras.Variable(1.0, trainable=False)
    model.second = NAGD(0.1)
    model.compile(optimizer=NAGD(0.05), loss="mse")
    model.fit(*data(), verbose=0)
    before = snapshot(model, model.optimizer, model.second)
    sweep(model)
    assert_identical(snapshot(model, model.optimizer, model.second), before)
