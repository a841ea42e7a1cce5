"""What the guard refuses, before the first step."""

import keras
import numpy as np
import pytest

from nagd_keras import NAGD, schedules
from nagd_keras.callbacks import DivergenceGuard
from tests.support.drivers import assert_identical, snapshot
from tests.support.guarded import EPOCH, guard, set_to, train
from tests.support.training import BATCH, data, fit, network

NAN = float("nan")


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"spike_threshold": 1}, ValueError, "larger than 1.*spike_threshold=1"),
        ({"spike_threshold": 1.0}, ValueError, r"spike_threshold=1\.0"),
        ({"spike_threshold": 0.5}, ValueError, r"spike_threshold=0\.5"),
        ({"spike_threshold": -3}, ValueError, "spike_threshold=-3"),
        ({"spike_threshold": NAN}, ValueError, "spike_threshold=nan"),
        ({"spike_threshold": float("inf")}, ValueError, "spike_threshold=inf"),
        ({"spike_threshold": "3"}, TypeError, "spike_threshold='3'"),
        ({"spread": 0}, ValueError, "spread=0"),
        ({"spread": NAN}, ValueError, "spread=nan"),
        ({"window": 9}, ValueError, r"\[10, .*window=9"),
        ({"window": 20.0}, TypeError, r"window=20\.0"),
        ({"climb": 0}, ValueError, "climb=0"),
        ({"climb": 1.5}, ValueError, r"\(0, 1\].*climb=1\.5"),
        ({"climb": "0.5"}, TypeError, "climb='0.5'"),
        ({"learning_rate_factor": 0}, ValueError, "learning_rate_factor=0"),
        ({"learning_rate_factor": 1.5}, ValueError, r"\(0, 1\].*learning_rate_factor=1\.5"),
        ({"patience": -1}, ValueError, "patience=-1"),
        ({"patience": True}, TypeError, "patience=True"),
        ({"recovery": 0}, ValueError, "recovery=0"),
        ({"max_rollbacks": -1}, ValueError, "max_rollbacks=-1"),
        ({"max_rollbacks": None}, TypeError, "max_rollbacks=None"),
        ({"snapshot_every": 0}, ValueError, "snapshot_every=0"),
        ({"snapshot_every": "epoch"}, TypeError, "snapshot_every='epoch'"),
        ({"monitor": None}, TypeError, "monitor=None"),
        ({"monitor": "accuracy"}, ValueError, "must be a loss.*monitor='accuracy'"),
        ({"monitor": "val_auc"}, ValueError, "must be a loss"),
        ({"monitor": "val_loss"}, ValueError, "must be a loss of batches"),
        ({"verbose": 2}, ValueError, "verbose=2"),
    ],
    ids=str,
)
def test_bad_settings(settings, error, says):
    with pytest.raises(error, match=says):
        DivergenceGuard(**settings)


def refused(model, guarded, error, says, **settings):
    """Nothing was trained, and nothing was changed."""
    if not model.optimizer.built and model.built:
        model.optimizer.build(model.trainable_variables)
    before = snapshot(model, model.optimizer)
    with pytest.raises(error, match=f"(?s){says}"):
        fit(model, guarded, **settings)
    assert_identical(snapshot(model, model.optimizer), before)


def test_a_monitor_that_is_not_there():
    with pytest.raises(ValueError, match=r"monitor='mse'\. There are: .*mae"):
        fit(network(NAGD(), metrics=["mae"]), guard(monitor="mse"))


METRICS = {
    "mae": "mae",
    "mean_absolute_error": keras.losses.mean_absolute_error,
    "deviation": keras.metrics.MeanAbsoluteError(name="deviation"),
    "mse": "mse",
    "mean_squared_error": keras.metrics.MeanSquaredError(),
}


@pytest.mark.keep(1)
@pytest.mark.parametrize("monitor", METRICS)
def test_a_monitor_that_is_there(monitor):
    """Whatever Keras makes of what was given to `compile`."""
    model = network(NAGD(0.05), metrics=[METRICS[monitor]])
    guarded = guard(monitor=monitor)
    train(model, EPOCH, guarded, spoiled={3: NAN})
    assert guarded.events[0].seen == f"{monitor} is nan"


@pytest.mark.long
def test_the_losses_of_several_outputs():
    inputs = keras.Input((4,))
    outputs = {name: keras.layers.Dense(1, name=name)(inputs) for name in ("a", "b")}
    model = keras.Model(inputs, outputs)
    model.compile(NAGD(0.01), {"a": "mse", "b": "mse"})
    x, y = data()
    spoiled = y.copy()
    spoiled[BATCH * 3] = NAN
    guarded = guard(monitor="b_loss")
    targets = {"a": y, "b": spoiled}
    model.fit(x, targets, BATCH, callbacks=[guarded], verbose=0, shuffle=False)
    assert guarded.events[0].seen == "b_loss is nan"
    with pytest.raises(ValueError, match=r"monitor='c_loss'.*b_loss"):
        model.fit(x, targets, BATCH, callbacks=[guard(monitor="c_loss")], verbose=0)


def test_weights_that_are_not_finite_at_the_beginning():
    model = network(NAGD())
    set_to(model.get_layer("out").bias, NAN)
    refused(model, guard(), ValueError, "not finite at the beginning.*out/bias.*other weights")


def test_a_model_without_weights():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Flatten()])
    model.compile(NAGD(), "mse")
    x, _ = data()
    with pytest.raises(ValueError, match=r"nothing to go back to.*no weights"):
        model.fit(x, x, callbacks=[guard()], verbose=0)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="others build the model")
def test_a_model_that_is_not_built():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(NAGD(), "mse")
    with pytest.raises(ValueError, match=r"nothing to go back to.*Call it on a batch"):
        fit(model, guard())
    assert not model.built
    x, _ = data()
    model(x[:1])
    fit(model, guard())


def test_another_optimizer():
    model = network(keras.optimizers.SGD())
    refused(model, guard(), TypeError, "DivergenceGuard needs the optimizer NAGD.*with SGD")


def test_a_callable_cannot_be_lowered():
    model = network(NAGD(lambda: 0.05))
    says = r"callable.*learning_rate_factor=0\.5\. Pass learning_rate_factor=1"
    refused(model, guard(), ValueError, says)


def test_two_guards():
    model = network(NAGD())
    model.optimizer.build(model.trainable_variables)
    before = snapshot(model)
    with pytest.raises(ValueError, match="Only one callback of a fit can go back to a good state"):
        fit(model, guard(), guard())
    assert_identical(snapshot(model), before)
    fit(model, guard())  # One after the other is fine.


class Custom(keras.Model):
    """Logs under a name of its own, which is known only when a step was made."""

    def __init__(self):
        super().__init__()
        self.layer = keras.layers.Dense(1)

    def call(self, x):
        return self.layer(x)

    def train_step(self, *args):
        logs = super().train_step(*args)
        if keras.backend.backend() == "jax":
            return {"objective": logs[0]["loss"]}, logs[1]
        return {"objective": logs["loss"]}


def test_a_step_that_logs_what_it_likes():
    model = Custom()
    model.compile(NAGD(0.05), "mse")
    x, _ = data()
    model(x[:1])
    with pytest.raises(ValueError, match=r"monitor='loss'\. There are: .*objective"):
        fit(model, guard())
    guarded = guard(monitor="objective")
    train(model, EPOCH, guarded, spoiled={3: NAN})
    assert guarded.events[0].seen == "objective is nan"
    assert np.isfinite(model.predict(x, verbose=0)).all()


def test_a_learning_rate_that_is_scaled():
    for optimizer in (NAGD(0.5), NAGD(schedules.OneCycle(0.1, 0.5, 0.1, 10))):
        before = float(optimizer.learning_rate)
        optimizer.scale_learning_rate(0.25)
        optimizer.scale_learning_rate(0.5)
        assert float(optimizer.learning_rate) == pytest.approx(before / 8)
        for factor, error in ((-1, ValueError), (NAN, ValueError), (1e300, ValueError)):
            with pytest.raises(error, match=r"learning_rate.*finite number"):
                optimizer.scale_learning_rate(factor)
        with pytest.raises(TypeError, match="the factor '2'"):
            optimizer.scale_learning_rate("2")
        assert float(optimizer.learning_rate) == pytest.approx(before / 8)
    with pytest.raises(TypeError, match="to a number only"):
        NAGD(lambda: 0.5).scale_learning_rate(0.5)
