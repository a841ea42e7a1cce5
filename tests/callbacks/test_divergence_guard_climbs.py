"""Losses that climb, or never fell: what the guard goes back to, and what it says."""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_digits

from nagd_keras import NAGD, schedules
from nagd_keras.callbacks import DivergenceGuard, OneCycle
from nagd_keras.callbacks.climbs import LEVEL, START
from nagd_keras.callbacks.rollbacks import Rollbacks
from tests.support.drivers import to_float64
from tests.support.guarded import LONG, guard, normalized, set_to, stopped, train
from tests.support.limits import needs
from tests.support.training import network

NAN = float("nan")
LOW = np.linspace(0.6, 0.5, START).tolist()
UP = [2.0, *LOW[-59:], *[1.5] * LEVEL]
SEEN = 60 + LEVEL // 2 + 1  # losses, after which most of the last 25 are high
TOP = 57, 61  # the weights at their best, or just behind that
FLAT = [2.0] * 9  # With weights that are far away it has diverged after 6.


class Shown:
    """A guard that is shown losses; the weights are told how many batches there were."""

    def __init__(self, losses, far=False, model=None, **settings):
        self.model, self.far = model or normalized(NAGD(0.16)), far
        self.guard, self.total, self.batch = guard(**settings), 0.0, 0
        self.guard.set_model(self.model)
        self.guard.set_params({"steps": 10**6})
        self.guard.on_train_begin()
        self.guard.on_epoch_begin(0)
        self.show(losses)

    def show(self, losses):
        """Shows losses until it goes back."""
        before = len(self.guard.events)
        for loss in losses:
            self.guard.on_train_batch_begin(self.batch)
            self.batch += 1
            for variable in self.model.weights:
                if len(variable.shape) == 1:
                    set_to(variable, self.batch)
                elif self.far:
                    set_to(variable, 100.0)
            self.total += loss
            self.guard.on_train_batch_end(self.batch - 1, {"loss": self.total / self.batch})
            if len(self.guard.events) > before:
                return

    @property
    def rate(self):
        return float(self.model.optimizer.learning_rate)


# Where it goes back to


def test_back_to_the_best_level():
    """Weights, and the statistics of normalization, are those of the best level, to the bit."""
    shown = Shown(UP)
    (event,) = shown.guard.events
    assert event.seen.startswith("loss has climbed from 0.5")
    assert event.seen.endswith("to 1.5")
    assert event.batch == SEEN
    assert TOP[0] <= restored(event) <= TOP[1]
    assert event.value > event.limit
    assert event.is_of_rate
    vectors = [v for v in shown.model.weights if len(v.shape) == 1]
    assert any("moving" in v.path for v in vectors)
    assert not all(v.trainable for v in vectors)
    for variable in vectors:
        np.testing.assert_array_equal(to_float64(variable), restored(event))
    assert shown.rate == np.float32(0.16 / 4)
    assert int(shown.model.optimizer.restarts) == 1


def restored(event):
    return int(event.restored.removeprefix("epoch 1, batch "))


def test_what_did_not_help_lowers_the_rate_by_more():
    shown = Shown(UP)
    for power in (3, 4):
        before = shown.rate
        shown.show([*[0.5] * 5, *[1.5] * LEVEL])
        assert shown.rate == pytest.approx(before / 2**power)
    assert Rollbacks.left(shown.model.optimizer) == 0.5**9


def test_back_to_the_beginning_where_weights_were_spoiled():
    """Near the beginning; later, the best level is all that there is."""
    shown = Shown(UP, far=True)
    assert shown.guard.events[0].restored == "the beginning"
    assert shown.rate == np.float32(0.16 / 2**4)
    shown = Shown([2.0, *LOW, *[1.5] * LEVEL], far=True)
    assert restored(shown.guard.events[0]) >= START - 3
    assert shown.guard._store._first is None
    assert shown.rate == np.float32(0.16 / 2**2)


def test_losses_that_never_fell():
    shown = Shown(FLAT, far=True)
    (event,) = shown.guard.events
    assert (event.batch, event.restored) == (6, "the beginning")
    assert "is 2, and was 2 at the beginning, though the weights have moved far" in event.seen
    assert shown.rate == np.float32(0.16 / 2**4)
    assert Shown(FLAT).guard.events == []


def test_a_spike_of_weights_that_were_spoiled():
    """The batch is not to blame: it goes back to the beginning, not to before the spike."""
    for far, restored, rate in ((True, "the beginning", 0.02), (False, "epoch 1, batch 2", 0.08)):
        shown = Shown([2.0, 1.5, 1.5, 500.0], far=far)
        assert shown.guard.events[0].restored == restored
        assert shown.guard.events[0].is_of_rate == far
        assert shown.rate == np.float32(rate)


def test_a_spike_of_losses_that_climb():
    """They have lost what is much, which might be by chance, but for the spike."""
    noise = 1.5 ** np.array([1, -1, 1, 0, -1] * 12)
    losses = [2.0, *0.5 * noise, *0.9 * noise[:LEVEL]]
    shown = Shown(losses)
    assert shown.guard.events == []
    shown.show([50.0])
    (event,) = shown.guard.events
    assert "above" in event.seen
    assert "and it has climbed from" in event.seen
    assert restored(event) < TOP[1]


def test_data_that_have_changed():
    """The weights of before do no better, so the learning rate gets back what it lost."""
    shown = Shown(UP)
    assert shown.rate == np.float32(0.04)
    shown.show([1.5] * 3)
    assert shown.rate == np.float32(0.16)
    assert Rollbacks.left(shown.model.optimizer) == 1.0
    shown.show([1.5] * 200)
    assert len(shown.guard.events) == 1


def test_recovery_gives_back_all_powers():
    shown = Shown(UP, recovery=50)
    made = shown.model.optimizer._iterations
    made.assign(SEEN)
    shown.guard._rollbacks._notes["since"] = SEEN
    shown.show([0.5])
    assert shown.rate == np.float32(0.04)
    made.assign(SEEN + 50)
    shown.show([0.5])
    assert shown.rate == np.float32(0.16)
    assert Rollbacks.left(shown.model.optimizer) == 1.0


def test_it_stops_at_the_best_level():
    shown = Shown(UP, max_rollbacks=0)
    assert shown.model.stop_training
    assert shown.rate == np.float32(0.16)
    with pytest.warns(UserWarning, match="has climbed from"):
        shown.guard.on_train_end()


def test_without_climbs():
    shown = Shown([*UP, *FLAT], climb=None)
    assert Shown(FLAT, far=True, climb=None).guard.events == []
    assert shown.guard.events == []


# What it says


def test_what_to_compile_with(capsys):
    shown = Shown(UP, verbose=1)
    capsys.readouterr()
    shown.guard.on_train_end()
    assert capsys.readouterr().out == (
        "\nDivergenceGuard: The learning rate was about 4 times too high; compile with about 0.04 "
        "instead of 0.16.\n"
    )


def test_a_schedule_is_to_be_multiplied(capsys):
    decay = keras.optimizers.schedules.PolynomialDecay(0.16, 90, 0.01)
    shown = Shown(UP, model=normalized(NAGD(decay)), verbose=1)
    shown.model.optimizer._iterations.assign(SEEN)
    shown.guard.on_train_end()
    assert (
        "about 4 times too high; multiply what you gave, or the peak of the schedule, by 0.25.\n"
        in capsys.readouterr().out
    )


def test_a_bad_batch_may_be_to_blame(capsys):
    train(network(NAGD(0.05)), LONG, guard(verbose=1), spoiled={4: NAN})
    said = capsys.readouterr().out
    assert "Unless batches are spoiled, the learning rate was about 2 times too high" in said
    assert "compile with about 0.025 instead of 0.05" in said


def test_nothing_to_say(capsys):
    train(network(NAGD(0.05)), LONG, guard(verbose=1))
    train(network(NAGD(0.05)), LONG, guard(verbose=1, learning_rate_factor=1), spoiled={4: NAN})
    assert "too high" not in capsys.readouterr().out


def test_the_warning_says_it_too():
    _, report = stopped(network(NAGD(0.08)), LONG, guard(max_rollbacks=1), spoiled={2: NAN, 4: NAN})
    assert "compile with about 0.04 instead of 0.08." in report


def diabetes(rate):
    x, y = load_diabetes(return_X_y=True)
    keras.utils.set_random_seed(0)
    hidden = [keras.layers.Dense(32, "relu") for _ in range(2)]
    model = keras.Sequential([keras.Input((10,)), *hidden, keras.layers.Dense(1)])
    model.compile(NAGD(rate), "mse")
    return model, x.astype("float32"), y.astype("float32")


@pytest.mark.long
def test_targets_that_are_not_standardized(capsys):
    """With a learning rate that is hundreds of times too high it trains, and says what to do."""
    model, x, y = diabetes(0.01)
    model.fit(x, y, 32, 40, callbacks=[DivergenceGuard()], verbose=0)
    assert model.evaluate(x, y, verbose=0) < 0.6 * np.var(y)
    said = capsys.readouterr().out
    assert "the loss began at" in said
    assert "standardize them" in said


@pytest.mark.parametrize("losses", [UP, [2.0, 0.5, NAN, 0.5]], ids=["climb", "NaN"])
def test_silence(losses, capsys):
    shown = Shown(losses, verbose=0)
    assert shown.guard.events
    shown.guard.on_train_end()
    assert capsys.readouterr().out == ""


# What it is for


def images(rate, seed):
    """A small convolutional network, on digits."""
    x, y = load_digits(return_X_y=True)
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(64, "relu"),
            keras.layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(NAGD(rate), loss, metrics=["accuracy"])
    return model, x.reshape(-1, 8, 8, 1).astype("float32") / 16, y


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_a_learning_rate_that_is_too_high(seed):
    """Without the guard the losses stay at those of a network that tells nothing."""
    model, x, y = images(1.0, seed)
    guarded = guard()
    model.fit(x, y, 32, 6, callbacks=[guarded], verbose=0)
    assert guarded.events
    assert any(event.is_of_rate for event in guarded.events)
    assert model.evaluate(x, y, verbose=0)[1] > 0.9


@pytest.mark.long
def test_without_the_guard_it_is_lost():
    model, x, y = images(1.0, 0)
    model.fit(x, y, 32, 3, verbose=0)
    assert model.evaluate(x, y, verbose=0)[1] < 0.2


def labels_of_chance(y):
    rng = np.random.default_rng(0)
    return np.where(rng.random(len(y)) < 0.5, rng.integers(10, size=len(y)), y)


def permuted(y):
    return np.random.default_rng(0).permutation(y)


def cosine(y, p):
    return keras.losses.cosine_similarity(
        keras.ops.one_hot(keras.ops.cast(y[:, 0], "int32"), 10), p
    )


# Name: learning rate, examples, batch, epochs, and more.
CLEAN = {
    "small batches": (0.03, 800, 8, 3, {}),
    "two batches an epoch": (0.1, 200, 100, 60, {}),
    "noisy labels": (0.03, 1797, 16, 2, {"labels": labels_of_chance}),
    "labels of chance": (
        0.03,
        512,
        32,
        8,
        {"labels": lambda y: np.random.default_rng(0).permutation(y)},
    ),
    "negative losses": (0.1, 1797, 32, 4, {"loss": cosine}),
    "losses near zero": (0.1, 300, 32, 40, {}),
    "a cycle": (0.1, 1797, 32, 4, {"callbacks": [OneCycle(0.1, momentum=None)]}),
    "a warm-up": (schedules.LinearWarmup(0.1, 50, start=0.0), 1797, 32, 4, {}),
    "patience": (0.1, 1797, 32, 4, {"guard": {"patience": 2, "recovery": 30}}),
    "executions": (0.1, 1797, 16, 4, {"compile": {"steps_per_execution": 4}}),
}


@pytest.mark.keep(1)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=needs("steps per execution")) if name == "executions" else name
        for name in CLEAN
    ],
)
def test_good_learning_rates_are_left_alone(name):
    rate, examples, batch, epochs, more = CLEAN[name]
    x, y = load_digits(return_X_y=True)
    x, y = (x[:examples] / 16).astype("float32"), more.get("labels", lambda y: y)(y[:examples])
    keras.utils.set_random_seed(0)
    hidden = [keras.layers.Dense(64, "relu") for _ in range(2)]
    model = keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(10)])
    loss = more.get("loss", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.compile(NAGD(rate), loss, **more.get("compile", {}))
    guarded = guard(**more.get("guard", {}))
    callbacks = [*more.get("callbacks", []), guarded]
    model.fit(x, y[:, None], batch, epochs, callbacks=callbacks, verbose=0)
    assert guarded.events == []
