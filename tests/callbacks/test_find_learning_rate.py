"""What the learning-rate range test suggests, and from which losses."""

import keras
import numpy as np
import pytest

from nagd_keras import NAGD, schedules
from nagd_keras.callbacks import LearningRateSweep
from tests.support.drivers import assert_identical, snapshot, to_float64
from tests.support.sweeps import Breaking, sweep
from tests.support.training import BATCH, data, nagd, network

# The sweeps of most tests are short, and of small noisy batches.
pytestmark = pytest.mark.filterwarnings("ignore:The range test is not sure")


def test_the_losses_are_those_of_training_with_those_rates():
    """By hand: each batch with its rate; the batches are those of the seed."""
    model = network(NAGD(0.05, 0.5))
    found = sweep(model, seed=3)
    np.testing.assert_allclose(found.learning_rates, np.geomspace(1e-4, 1.0, 30))
    rng, (x, y) = np.random.default_rng(3), data()
    order = np.concatenate([rng.permutation(len(x)) for _ in range(20)]).reshape(30, 32)
    losses = []
    for rate, rows in zip(found.learning_rates, order, strict=True):
        losses.append(np.mean((to_float64(model(x[rows])) - y[rows]) ** 2))
        model.optimizer.learning_rate = rate
        model.train_on_batch(x[rows], y[rows])
    np.testing.assert_allclose(found.losses, losses, rtol=1e-5)
    smoothed, average = [], 0.0
    for i, loss in enumerate(found.losses, 1):
        average = 0.9 * average + 0.1 * loss
        smoothed.append(average / (1 - 0.9**i))
    np.testing.assert_allclose(found.smoothed_losses, smoothed)


def test_it_stops_where_the_loss_explodes():
    found = sweep(network(NAGD(0.05)), max=1e3, steps=60, stop_at=2.0)
    assert len(found.losses) < 60
    smoothed = found.smoothed_losses
    assert smoothed[-1] > 2 * smoothed.min()
    assert np.all(smoothed[:-1] <= 2 * np.minimum.accumulate(smoothed)[:-1])


@pytest.mark.long
def test_the_suggestions_train():
    """Each suggested rate trains better than a hundredth of it, and lies before the explosion."""
    found = sweep(network(NAGD(0.05)), min=1e-6, max=10.0, steps=100)
    model = network(NAGD(0.05))  # One for all, so that it is compiled once.
    model.optimizer.build(model.trainable_variables)
    start = [(v, v.numpy()) for v in (*model.variables, *model.optimizer.variables)]
    for name, rate in found.suggestions.items():
        final = {}
        for factor in (0.01, 1):
            for variable, value in start:
                variable.assign(value)
            model.optimizer.learning_rate = rate * factor
            final[factor] = model.fit(*data(), BATCH, 5, verbose=0).history["loss"][-1]
        assert final[1] < 0.9 * final[0.01], name
        assert 1e-4 < rate < found.learning_rates[np.argmin(found.smoothed_losses)], name


def test_suggestions_by_hand():
    rates = 10.0 ** np.arange(-5, 1)
    losses = np.array([4.0, 4.1, 3.5, 1.5, 1.0, 9.0])
    found = LearningRateSweep(rates, losses, losses)
    assert found.minimum == pytest.approx(1e-2)
    assert found.steepest == pytest.approx(1e-3)  # From 4.1 to 1.5, more than from 3.5 to 1.0.
    assert found.valley == pytest.approx(1e-4)  # The longest fall goes from the first to 1.0.
    rising = LearningRateSweep(rates, rates, rates)
    assert rising.steepest == rates[0]
    assert rising.valley == rates[0]


@pytest.mark.long
def test_weights_of_samples_and_classes():
    """A class of weight 0 does not count, nor does a sample."""
    x = np.eye(4, dtype="float32")[np.arange(16) % 4]
    y = (np.arange(16) % 2).astype("float32")
    kept = y == 0

    def losses(model_data, **weights):
        model = keras.Sequential(
            [keras.Input((4,)), keras.layers.Dense(1, kernel_initializer="ones")]
        )
        model.compile(NAGD(0.05), "mse")
        return sweep(model, *model_data, steps=5, batch_size=16, max=1e-3, **weights).losses

    by_class = losses((x, y), class_weight={0: 2.0, 1: 0.0})
    by_sample = losses((x, y), sample_weight=2.0 * kept)
    np.testing.assert_allclose(by_class, by_sample, rtol=1e-6)
    np.testing.assert_allclose(by_class, losses((x[kept], y[kept])), rtol=1e-6)


def test_progress_and_plot(capsys):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    found = sweep(network(NAGD(0.05)), verbose=1)
    out = capsys.readouterr().out
    assert "30/30" in out
    assert "learning_rate" in out
    figure, axes = plt.subplots()
    assert found.plot(ax=axes) is axes
    assert axes.get_xscale() == "log"
    assert len(axes.lines) == 2 + 3 + 1
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), found.smoothed_losses)
    plt.close(figure)


@pytest.mark.keep(7)
@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"min": 1.0, "max": 1.0}, ValueError, r"larger than `min`.*max=1\.0"),
        ({"min": 0.0}, ValueError, r"min=0\.0"),
        ({"max": float("inf")}, ValueError, "max=inf"),
        ({"max": 1e39}, ValueError, r"max=1e\+39"),
        ({"min": "a"}, TypeError, "min='a'"),
        ({"steps": 1}, ValueError, "steps=1"),
        ({"steps": 2.5}, TypeError, r"steps=2\.5"),
        ({"stop_at": 1.0}, ValueError, r"stop_at=1\.0"),
        ({"smoothing": 1.0}, ValueError, r"smoothing=1\.0"),
        ({"batch_size": 0}, ValueError, "batch_size=0"),
        ({"x": np.ones((3, 4)), "y": np.ones(2)}, ValueError, r"\[2, 3\] samples"),
        ({"x": np.ones((0, 4)), "y": np.ones(0)}, ValueError, r"\[0\] samples"),
        ({"x": np.ones((3, 4)), "sample_weight": np.ones(3)}, ValueError, "y=None"),
        ({"x": np.full((9, 4), np.nan), "y": np.ones(9)}, ValueError, "finite loss. Received: 0"),
    ],
)
def test_bad_input(settings, error, says):
    model = network(NAGD(0.05))
    model.optimizer.build(model.trainable_variables)
    before = snapshot(model, model.optimizer)
    with pytest.raises(error, match=says):
        sweep(model, **settings)
    assert_identical(snapshot(model, model.optimizer), before)


@pytest.mark.parametrize(
    ("optimizer", "says"),
    [
        (lambda: NAGD(lambda: 0.1), "NAGD, whose learning_rate follows a schedule or a callable"),
        (
            lambda: keras.optimizers.SGD(schedules.LinearWarmup(0.1, 5)),
            "SGD, whose learning_rate follows",
        ),
    ],
)
def test_a_rate_that_cannot_be_set(optimizer, says):
    with pytest.raises(TypeError, match=says):
        sweep(network(optimizer()))


def test_a_schedule_that_is_zero():
    model = network(NAGD(schedules.LinearWarmup(0.1, 5)))
    with pytest.raises(ValueError, match=r"its value is 0 at step 0"):
        sweep(model)
    assert float(nagd(model).learning_rate) == 0.0


def test_a_model_that_is_not_compiled():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="Compile it first"):
        sweep(model)


def test_a_training_step_without_a_loss():
    class Silent(keras.Sequential):
        def train_step(self, *data):
            found, logs = super().train_step(*data), {"quality": 1.0}
            # On JAX there is a state, too.
            return (logs, found[1]) if isinstance(found, tuple) else logs

    model = Silent([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(NAGD(0.05), "mse")
    with pytest.raises(ValueError, match="returns quality"):
        sweep(model)


def test_a_loss_below_zero_is_no_explosion():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(NAGD(0.05), loss=lambda y, p: keras.ops.square(p - y) - 100.0)
    assert len(sweep(model, min=1e-6, max=1e-4, steps=12).losses) == 12


def test_an_infinite_loss_ends_it():
    class Infinite(Breaking):
        def call(self, x):
            self.count.assign(self.count + 1)
            return x + keras.ops.where(self.count < 7, 0.0, np.inf)

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1), Infinite()])
    model.compile(NAGD(0.05), "mse")
    assert len(sweep(model, steps=20, max=1e-3).losses) == 6


def test_the_slope_is_that_over_the_logarithm():
    rates = np.array([1e-6, 1e-5, 1e-4, 1e-3, 2e-3, 4e-3])
    losses = np.array([9.0, 8.9, 8.0, 6.0, 4.5, 3.0])
    assert LearningRateSweep(rates, losses, losses).steepest == 2e-3


def test_equal_losses_are_no_fall():
    losses = np.array([5.0, 5.0, 5.0, 5.0, 5.0, 9.0, 8.0, 7.0, 6.0])
    found = LearningRateSweep(10.0 ** np.arange(-8, 1), losses, losses)
    assert found.valley == found.learning_rates[6]


@pytest.mark.filterwarnings("error:The range test is not sure")
class TestWhatIsSuggested:
    @pytest.mark.long
    def test_a_model_that_is_trained_already_is_told(self):
        x = np.random.default_rng(0).normal(size=(256, 4))
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile(optimizer=NAGD(0.1), loss="mse")
        y = x.sum(axis=1, keepdims=True)
        assert sweep(model, x, y, steps=100, min=1e-6).falls
        model.fit(x, y, epochs=30, verbose=0)
        with pytest.warns(UserWarning, match="not sure of its suggestion.*LearningRateSweep of"):
            found = sweep(model, x, y, steps=100, min=1e-6)
        assert not found.falls
        assert min(found.suggestions.values()) >= 1e-6

    def test_noise_on_the_plateau_is_not_the_steepest_fall(self):
        """A plateau with noise, and a fall at 1e-2."""

        def smoothed(losses):
            sums = [sum(0.9 ** (i - j) * losses[j] for j in range(i + 1)) for i in range(200)]
            return np.array(sums) * 0.1 / (1 - 0.9 ** np.arange(1, 201))

        rates = np.geomspace(1e-6, 1, 200)
        for seed in range(20):
            noise = np.random.default_rng(seed).normal(size=200)
            losses = 2.3 / (1 + rates / 1e-2) + 0.1 * noise
            found = LearningRateSweep(rates, losses, smoothed(losses))
            assert found.falls
            assert 1e-3 < found.steepest < 0.1
            assert not LearningRateSweep(rates, noise, smoothed(noise)).falls
