"""What the guard sees, and what it gives back."""

import keras
import numpy as np
import pytest

from nagd_keras import NAGD, schedules
from nagd_keras.callbacks import DivergenceGuard
from nagd_keras.callbacks.snapshots import Watched
from tests.support.drivers import to_float64
from tests.support.guarded import (
    EPOCH,
    LONG,
    OBSERVED,
    At,
    assert_same,
    guard,
    normalized,
    set_to,
    state,
    stopped,
    train,
)
from tests.support.limits import needs
from tests.support.training import BATCH, WAYS, data, fit, nagd, network

NAN, INF = float("nan"), float("inf")
STORES = {
    "memory": {},
    "every 2": {"snapshot_every": 2},
    "patient": {"patience": 1},
}
QUICK = ("memory",)  # The others are left to the long tests.
EACH_STORE = pytest.mark.parametrize(
    "store", [pytest.param(s, marks=() if s in QUICK else pytest.mark.long) for s in STORES]
)


def ignoring_losses(**settings):
    """A guard that sees only what is not finite."""
    return guard(spike_threshold=None, **settings)


# Nothing bad


@pytest.mark.keep(1)
@pytest.mark.parametrize(
    ("way", "store"),
    [
        # Each way with one store, and each store in one way, will do for a quick look.
        pytest.param(
            way,
            store,
            marks=[*way.marks, *([] if store == "memory" or i == 0 else [pytest.mark.long])],
        )
        for i, way in enumerate(WAYS)
        for store in STORES
    ],
    ids=str,
)
def test_without_a_bad_batch_nothing_changes(way, store):
    runs = []
    for callbacks in ([], [guard(**STORES[store])]):
        model = way.start(learning_rate=0.05, momentum=0.8, weight_decay=0.001)
        histories = way.train(model, callbacks)
        runs.append((state(model), [h.history for h in histories]))
    assert_same(runs[1][0], runs[0][0])
    assert runs[1][1] == runs[0][1]
    assert callbacks[0].events == []
    assert callbacks[0].left_out == 0


# Going back


def gone_back(make, batches, bad, back_to, rate=0.5):
    """A run that never had what was given up: the oracle for a rollback at one bad batch.

    Args:
        make: makes the model.
        batches: those of the run.
        bad: the place of the bad batch.
        back_to: the number of batches whose updates are kept.
        rate: what the learning rate is multiplied by.
    """
    model = make()
    optimizer = nagd(model)

    def go_on(model):
        optimizer._iterations.assign(bad + 1)
        optimizer.reset_momentum()
        if rate != 1:
            optimizer.scale_learning_rate(rate)

    if back_to == 0:
        optimizer.build(model.trainable_variables)
        averages = getattr(optimizer, "_model_variables_moving_average", [])
        for average, variable in zip(averages, model.trainable_variables, strict=False):
            average.assign(keras.ops.copy(variable))
        go_on(model)
    train(model, [*batches[:back_to], *batches[bad + 1 :]], At(go_on, batch=back_to - 1))
    return model


MODELS = {
    "plain": lambda: network(NAGD(0.05, 0.8)),
    "averages, decay": lambda: network(NAGD(0.05, 0.8, weight_decay=0.01, use_ema=True)),
    "schedules": lambda: network(
        NAGD(schedules.LinearWarmup(0.05, 9, start=0.01), schedules.NesterovMomentum())
    ),
    "normalization": normalized,
    # On PyTorch it is the plain one again: each model would be compiled for some 20 s.
    "xla": lambda: network(NAGD(0.05, 0.8), jit_compile=keras.backend.backend() != "torch"),
    "eager": lambda: network(NAGD(0.05, 0.8), run_eagerly=True, jit_compile=False),
    "sixteen bits": lambda: network(NAGD(0.05, 0.8, slot_dtype="bfloat16")),
    "skips": lambda: network(NAGD(0.05, 0.8, skip_nonfinite=True)),
    "restarts": lambda: network(NAGD(0.05, 0.8, restart="speed")),
}


@pytest.mark.keep(1)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("settings", "back_to"),
    # At the bad batch 11 the update of batch 10 is not known to be good, that of batch 9 is.
    [({}, 10), ({"snapshot_every": 4}, 8), ({"learning_rate_factor": 0.125}, 10)],
    ids=str,
)
def test_a_bad_batch_is_as_if_it_and_the_one_before_had_not_been(name, settings, back_to):
    """To the bit, in all variables of the model and of the optimizer."""
    bad, factor = 11, 1e4
    model, guarded = MODELS[name](), guard(**settings)
    train(model, LONG, guarded, spoiled={bad: factor})
    (event,) = guarded.events
    assert (event.epoch, event.batch) == (1, bad + 1)
    assert event.value > event.limit
    assert event.restored == f"epoch 1, batch {back_to}"
    rate = settings.get("learning_rate_factor", 0.5)
    reference = gone_back(MODELS[name], LONG, bad, back_to, rate)
    # What was counted in between stays counted.
    but = (*OBSERVED, "restarts", "velocity_norm") if name == "restarts" else OBSERVED
    assert_same(state(model, but), state(reference, but))


@pytest.mark.keep(1)
@pytest.mark.parametrize("factor", [NAN, INF, 1e30], ids=str)
@EACH_STORE
def test_what_is_not_finite(factor, store):
    bad = 4
    make = lambda: network(NAGD(0.05, 0.8, use_ema=True))  # noqa: E731
    back_to = {"memory": 3, "every 2": 2, "patient": 3}[store]
    guarded = guard(**{**STORES[store], "patience": 0})
    model = make()
    train(model, EPOCH, guarded, spoiled={bad: factor})
    (event,) = guarded.events
    assert not event.value < event.limit
    assert_same(state(model), state(gone_back(make, EPOCH, bad, back_to)))


def test_back_to_the_beginning():
    """The first state is good without any batch that shows it."""
    model, guarded = network(NAGD(0.05)), guard()
    before = state(model)
    train(model, EPOCH[:1], guarded, spoiled={0: NAN})
    assert guarded.events[0].restored == "the beginning"
    for (name, found), wanted in zip(state(model).items(), before.values(), strict=False):
        if name.startswith("weight"):
            np.testing.assert_array_equal(found, wanted)
    assert float(model.optimizer.learning_rate) == np.float32(0.025)


def test_a_weight_that_is_not_finite():
    """Found at the end of its batch, by name, though the loss was fine."""
    spoil = At(lambda model: set_to(model.get_layer("out").kernel, NAN), batch=3)
    model, guarded = network(NAGD(0.05, 0.8)), guard()
    train(model, EPOCH, spoil, guarded)
    (event,) = guarded.events
    assert event.seen == f"{model.get_layer('out').kernel.path} is not finite"
    assert event.batch == 4
    # The loss of batch 3 has shown that the state before it was good.
    reference = gone_back(lambda: network(NAGD(0.05, 0.8)), EPOCH, 3, 3)
    assert_same(state(model), state(reference))


@pytest.mark.long
def test_many_weights_that_are_not_finite():
    def spoil(model):
        for variable in model.trainable_variables:
            set_to(variable, INF)

    guarded = guard()
    train(network(NAGD()), EPOCH, At(spoil, batch=2), guarded)
    assert guarded.events[0].seen.endswith("out/kernel and 1 more is not finite")


def test_weights_whose_sum_overflows_are_finite():
    """The quick test is a sum; it must not be taken for the answer."""
    model = network(NAGD(0.0))
    for variable in model.trainable_variables:
        set_to(variable, 3e38)
    guarded = ignoring_losses()
    x, y = data()
    model.fit(0 * x, y, epochs=1, callbacks=[guarded], verbose=0)
    assert all("not finite" not in event.seen for event in guarded.events)


@pytest.mark.long
def test_statistics_that_are_not_finite():
    """They are weights, too, though no loss of training shows it."""
    model, guarded = normalized(), guard()
    spoil = At(lambda model: set_to(model.get_layer("normalization").moving_mean, INF), batch=2)
    train(model, EPOCH, spoil, guarded)
    assert "moving_mean" in guarded.events[0].seen
    assert_same(state(model), state(gone_back(normalized, EPOCH, 2, 2)))


@pytest.mark.long
def test_the_seeds_go_on():
    """The same dropout again, after the same batches, would not be random."""
    masks = []
    for callbacks, spoiled in ([], {}), ([guard()], {3: NAN}):
        model = normalized(dropout=0.5)
        train(model, EPOCH, *callbacks, spoiled=spoiled)
        seeds = [v for v in model.variables if "seed" in v.path]
        masks += [to_float64(v) for v in seeds]
    assert len(masks) == 2
    np.testing.assert_array_equal(*masks)


@pytest.mark.long
def test_twice_the_same_state():
    """Without a good batch between, and the learning rate falls twice all the same."""
    make = lambda: network(NAGD(0.05, 0.8))  # noqa: E731
    model, guarded = make(), guard()
    train(model, EPOCH, guarded, spoiled={3: NAN, 4: INF})
    assert [event.restored for event in guarded.events] == ["epoch 1, batch 2"] * 2
    rates = [event.learning_rate for event in guarded.events]
    assert rates == [np.float32(0.025), np.float32(0.0125)]
    reference = gone_back(make, EPOCH, 4, 2, rate=0.25)
    nagd(reference).restarts.assign(2)
    assert_same(state(model), state(reference))


def by_hand(losses, guarded=None):
    """Shows a guard the running means of losses, of which bad ones are left out; returns it."""
    guarded, total, good = guarded or guard(), 0.0, 0
    guarded.set_model(network(NAGD()))
    guarded.set_params({"steps": len(losses)})
    guarded.on_train_begin()
    guarded.on_epoch_begin(0)
    for batch, loss in enumerate(losses):
        guarded.on_train_batch_begin(batch)
        guarded.on_train_batch_end(batch, {"loss": (total + loss) / (good + 1)})
        if guarded._losses._left_out + good == batch:
            total, good = total + loss, good + 1
    return guarded


def test_what_rounding_can_explain_is_no_spike():
    """After a first loss of 1e8, the sum of Keras knows the others to within 36 only."""
    losses = [1e8, *[1e-3] * 60]
    assert by_hand([*losses, 20.0]).events == []
    assert by_hand([*losses, 50.0]).events != []


def test_a_state_is_good_only_after_an_ordinary_loss():
    """One that is not bad, but near it, shows nothing; or the way up would be kept step by step."""
    guarded = by_hand([*[1.0] * 11, 2.5, 2.5, 4.0])
    # Batch 11 had the last ordinary loss: with the weights that batch 10 had left.
    assert guarded.events[0].restored == "epoch 1, batch 10"
    assert guarded.events[0].value == pytest.approx(4.0)
    assert guarded.events[0].limit == pytest.approx(3.0)
    # Nor do the losses behind that state speak of what is normal.
    assert max(guarded._spikes.losses) == pytest.approx(1.0)


@pytest.mark.long
def test_accumulated_gradients_are_given_up():
    make = lambda: network(NAGD(0.05, 0.8, gradient_accumulation_steps=3))  # noqa: E731
    model, guarded = make(), guard()
    # In the middle of a window: what batch 3 brought is given up with batch 4.
    train(model, EPOCH, guarded, spoiled={4: NAN})
    assert len(guarded.events) == 1
    assert_same(state(model), state(gone_back(make, EPOCH, 4, 3)))


@pytest.mark.long
@needs("steps per execution")
def test_executions_of_several_steps():
    """A bad batch spoils its execution, and the state is that before the one before."""
    make = lambda: network(NAGD(0.05, 0.8), steps_per_execution=3)  # noqa: E731
    model, guarded = make(), guard()
    train(model, LONG, guarded, spoiled={10: NAN})
    (event,) = guarded.events
    assert (event.batch, event.restored) == (12, "epoch 1, batch 6")
    reference = make()
    train(reference, LONG[:6])
    nagd(reference)._iterations.assign(12)
    reference.optimizer.reset_momentum()
    reference.optimizer.scale_learning_rate(0.5)
    train(reference, LONG[12:])
    assert_same(state(model), state(reference))


# The learning rate


def test_a_schedule_is_lowered_and_goes_on():
    decay = keras.optimizers.schedules.PolynomialDecay(0.05, 30, 0.01)
    rates = []
    model, guarded = network(NAGD(decay)), guard()
    watch = At(lambda model: rates.append(float(model.optimizer.learning_rate)))
    train(model, EPOCH, guarded, watch, spoiled={1: NAN, 4: NAN})
    factors = [1, 0.5, 0.5, 0.5, 0.25, 0.25]
    wanted = [f * float(decay(i + 1)) for i, f in enumerate(factors)]
    np.testing.assert_allclose(rates, wanted, rtol=1e-6)


@pytest.mark.long
def test_a_schedule_that_is_zero_where_the_batch_is_bad():
    warm_up = schedules.LinearWarmup(0.1, 4, start=0.0)

    class Late(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return warm_up(keras.ops.maximum(step - 3, 0))

    model, guarded = network(NAGD(Late())), guard()
    train(model, EPOCH, guarded, spoiled={1: NAN})
    assert guarded.events[0].learning_rate == 0.0
    assert float(model.optimizer.learning_rate) == pytest.approx(0.5 * float(warm_up(3)))


@pytest.mark.long
def test_what_a_plateau_took_stays_taken():
    """A rollback does not bring back a learning rate from before, nor another hyperparameter."""

    def lower(model):
        nagd(model).learning_rate = 0.02
        nagd(model).momentum = 0.6
        nagd(model).weight_decay = 0.25

    for settings in ({}, {"patience": 1}, {"snapshot_every": 4}):
        model = network(NAGD(0.05, 0.8, weight_decay=0.5))
        guarded = guard(**settings)
        train(model, EPOCH, guarded, At(lower, batch=3), spoiled={4: NAN, 5: NAN})
        rollbacks = len(guarded.events)
        assert rollbacks == 2 - settings.get("patience", 0)
        optimizer = nagd(model)
        assert float(optimizer.learning_rate) == np.float32(0.02) * 0.5**rollbacks
        assert float(optimizer.momentum) == np.float32(0.6)
        assert float(optimizer.weight_decay) == 0.25


def test_a_callable_is_left_alone():
    model, guarded = network(NAGD(lambda: 0.05)), guard(learning_rate_factor=1)
    train(model, EPOCH, guarded, spoiled={2: NAN})
    assert guarded.events[0].learning_rate == pytest.approx(0.05)


@pytest.mark.parametrize(("recovery", "wanted"), [(3, 0.05), (4, 0.025)])
def test_recovery(recovery, wanted, capsys):
    """Three good batches follow the bad one."""
    model, guarded = network(NAGD(0.05)), guard(recovery=recovery, verbose=1)
    train(model, EPOCH, guarded, spoiled={2: NAN})
    assert float(model.optimizer.learning_rate) == np.float32(wanted)
    said = capsys.readouterr().out
    assert "DivergenceGuard: epoch 1, batch 3: loss is nan; back to epoch 1, batch 1" in said
    assert ("batch 6: good for 3 batches, learning rate 0.05" in said) == (recovery == 3)


@pytest.mark.long
def test_recovery_of_several_and_its_count():
    """What two rollbacks took comes back at once, and the count of rollbacks begins anew."""
    model = network(NAGD(schedules.LinearWarmup(0.05, 4, start=0.01)))
    guarded = guard(recovery=4, max_rollbacks=2)
    train(model, LONG, guarded, spoiled={1: NAN, 2: NAN, 9: NAN, 10: NAN})
    assert len(guarded.events) == 4
    assert float(model.optimizer.learning_rate) == np.float32(0.05)


@pytest.mark.long
def test_recovery_gives_no_more_than_was_lost():
    """A callback that has set the learning rate again meanwhile has overruled the guard."""
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.05)
    model, guarded = network(NAGD(0.05)), guard(recovery=8)
    train(model, EPOCH, guarded, scheduler, spoiled={2: NAN}, epochs=1)
    assert float(model.optimizer.learning_rate) == np.float32(0.025)
    train(model, EPOCH, guarded, scheduler, epochs=2, initial_epoch=1)
    assert float(model.optimizer.learning_rate) == np.float32(0.05)


# Giving up


@pytest.mark.parametrize("most", [0, 2])
def test_it_stops_with_a_report(most, capsys):
    model = network(NAGD(0.08))
    guarded = guard(max_rollbacks=most, verbose=1)
    spoiled = {2: NAN, 4: 1e30, 5: INF}
    history, report = stopped(model, EPOCH, guarded, spoiled=spoiled, epochs=3)
    assert history.epoch == [0]
    assert len(guarded.events) == most + 1
    assert f"after {most} rollbacks (max_rollbacks)" in report
    for event in guarded.events:
        assert f"  {event}\n" in report
    assert "epoch 1, batch 3: loss is nan; back to epoch 1, batch 1" in report
    assert "learning rate or clip" in report
    assert capsys.readouterr().out.count("training stops") == 1
    # The last bad batch costs nothing more: there is no training for a lower learning rate.
    assert float(model.optimizer.learning_rate) == np.float32(0.08 * 0.5**most)
    assert guarded.events[-1].learning_rate == np.float32(0.08 * 0.5**most)
    assert all(np.isfinite(value).all() for value in state(model).values())


def test_the_stop_leaves_the_last_good_state():
    make = lambda: network(NAGD(0.05, 0.8))  # noqa: E731
    model = make()
    stopped(model, EPOCH, guard(max_rollbacks=0), spoiled={4: NAN})
    assert_same(state(model), state(gone_back(make, EPOCH[:5], 4, 3, rate=1)))


@pytest.mark.long
def test_a_long_report_is_cut():
    guarded = guard(max_rollbacks=24)
    spoiled = dict.fromkeys(EPOCH, NAN)
    _, report = stopped(network(NAGD(0.05)), EPOCH, guarded, spoiled=spoiled, epochs=9)
    assert report.count("loss is nan") == 20


@pytest.mark.long
def test_a_fit_from_epoch_0_has_all_rollbacks_again():
    model, guarded = network(NAGD(0.05)), guard(max_rollbacks=1)
    for i in range(3):
        train(model, EPOCH, guarded, spoiled={2: NAN})
        assert len(guarded.events) == 1
        assert float(model.optimizer.learning_rate) == np.float32(0.05 * 0.5 ** (i + 1))


# Batches that are put down to the data


@pytest.mark.long
@EACH_STORE
@pytest.mark.parametrize("spoiled", [{0: NAN}, {3: INF}, {2: NAN, 3: NAN, 5: NAN}], ids=str)
def test_skipped_updates_need_no_rollback(store, spoiled):
    """The run is that without the bad batches, to the bit, but for the counters."""
    model = normalized(NAGD(0.05, skip_nonfinite=True))
    guarded = guard(**STORES[store])
    train(model, LONG, guarded, spoiled=spoiled)
    assert guarded.events == []
    assert guarded.left_out == len(spoiled) == int(model.optimizer.skipped_updates)
    reference = normalized(NAGD(0.05, skip_nonfinite=True))
    train(reference, [b for place, b in enumerate(LONG) if place not in spoiled])
    assert_weights_as(model, reference)


def assert_weights_as(model, reference):
    for found, wanted in zip(model.weights, reference.weights, strict=True):
        if "moving" not in found.path:
            np.testing.assert_array_equal(to_float64(found), to_float64(wanted), found.path)
        else:
            assert np.isfinite(to_float64(found)).all()
    pairs = zip(nagd(model).displacements, nagd(reference).displacements, strict=True)
    for found, wanted in pairs:
        np.testing.assert_array_equal(to_float64(found), to_float64(wanted))
    assert float(model.optimizer.learning_rate) == float(reference.optimizer.learning_rate)


@pytest.mark.long
def test_statistics_of_a_skipped_batch_are_those_before():
    model = normalized(NAGD(0.05, skip_nonfinite=True))
    train(model, EPOCH[:4], guard(), spoiled={3: NAN})
    reference = normalized(NAGD(0.05, skip_nonfinite=True))
    train(reference, EPOCH[:3])
    for found, wanted in zip(model.weights, reference.weights, strict=True):
        np.testing.assert_array_equal(to_float64(found), to_float64(wanted))


@pytest.mark.long
@pytest.mark.parametrize("place", [3, 5])
def test_accumulated_gradients_that_will_be_skipped(place):
    """A batch within a window spoils what was accumulated, and is known to be skipped with it."""
    make = lambda: network(  # noqa: E731
        NAGD(0.05, 0.8, gradient_accumulation_steps=3, skip_nonfinite=True)
    )
    model, guarded = make(), guard()
    train(model, EPOCH, guarded, spoiled={place: NAN})
    assert guarded.events == []
    assert int(model.optimizer.skipped_updates) == guarded.left_out == 1
    reference = make()
    train(reference, EPOCH[:3])
    assert_weights_as(model, reference)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow traces")
def test_a_model_without_metrics_is_read_by_one_function(monkeypatch):
    """That was traced once: to look for its metrics again and again would trace each time."""

    class Bare(keras.Sequential):
        metrics = ()

        def train_step(self, *args):
            super().train_step(*args)
            return {"loss": keras.ops.ones(())}

    made = []
    watch = Watched.watch_metrics
    monkeypatch.setattr(Watched, "watch_metrics", lambda self: made.append(watch(self)))
    model = Bare([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(NAGD(0.05), "mse")
    train(model, EPOCH, guard())
    assert len(made) == 1


@pytest.mark.long
def test_bad_losses_in_a_row_are_not_the_data():
    """Updates of broken weights are skipped for ever; after four it is time to go back."""

    def spoil(model):
        for variable in model.trainable_variables:
            set_to(variable, 1e30)  # finite, with losses and gradients that are not

    model = network(NAGD(0.05, skip_nonfinite=True))
    guarded = guard()
    train(model, LONG, guarded, At(spoil, batch=5))
    (event,) = guarded.events
    assert (event.batch, event.restored) == (11, "epoch 1, batch 5")
    assert "bad 5 times in a row" in event.seen
    assert guarded.left_out == 4
    assert np.isfinite(model.evaluate(*data(), verbose=0)[0])


@pytest.mark.long
def test_loss_scaling_skips_by_itself():
    """The run is that without the guard: the scale is halved, NAGD's rate and momentum stay."""
    states = []
    for callbacks in ([], [guard()]):
        keras.config.set_dtype_policy("mixed_float16")
        model = network(NAGD(0.05, 0.8))
        train(model, EPOCH, *callbacks, spoiled={3: NAN})
        states.append(state(model))
    assert_same(*states)
    assert int(nagd(model)._iterations) < len(EPOCH)
    assert float(nagd(model).learning_rate) == np.float32(0.05)
    assert callbacks[0].events == []
    assert callbacks[0].left_out == 1


@pytest.mark.long
def test_a_rollback_leaves_the_scale_of_losses():
    keras.config.set_dtype_policy("mixed_float16")
    model = network(NAGD(0.05, 0.8))
    spoil = At(lambda model: set_to(model.get_layer("out").kernel, NAN), batch=3)
    halve = At(lambda model: model.optimizer.dynamic_scale.assign(64.0), batch=3)
    made = []
    count = At(lambda model: made.append(int(nagd(model)._iterations)))
    guarded = guard()
    train(model, EPOCH, halve, spoil, count, guarded, count)
    assert len(guarded.events) == 1
    assert float(model.optimizer.dynamic_scale) == 64.0
    assert made[0::2] == made[1::2] == sorted(made[0::2])


@pytest.mark.keep(1)
@pytest.mark.parametrize("factor", [NAN, INF, 1e30], ids=str)
def test_patience_undoes_a_batch(factor):
    """The run is that without the bad batches, to the bit: momentum, averages and statistics."""
    spoiled = {2: factor, 4: factor, 6: factor, 17: factor}
    make = lambda: normalized(NAGD(0.05, schedules.NesterovMomentum(), use_ema=True))  # noqa: E731
    model, guarded = make(), guard(patience=1)
    train(model, LONG, guarded, spoiled=spoiled)
    assert guarded.events == []
    assert guarded.left_out == 4
    reference = make()
    train(reference, [b for place, b in enumerate(LONG) if place not in spoiled])
    reference.optimizer._iterations.assign(len(LONG))
    assert_same(state(model), state(reference))


@pytest.mark.long
@pytest.mark.parametrize("settings", [{}, {"patience": 1}], ids=str)
def test_averages_of_a_first_batch_that_is_bad(settings):
    """Keras sets them in the update of its first step, which is over; they must not be zeros."""
    model = network(NAGD(0.05, 0.8, use_ema=True, ema_momentum=0.75))
    start = [to_float64(v) for v in model.trainable_variables]
    train(model, EPOCH[:2], guard(learning_rate_factor=1, **settings), spoiled={0: NAN})
    reference = network(NAGD(0.05, 0.8))
    train(reference, EPOCH[1:2])
    for found, first, after in zip(model.weights, start, reference.weights, strict=True):
        wanted = 0.75 * first + 0.25 * to_float64(after)
        np.testing.assert_allclose(to_float64(found), wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.long
def test_patience_ends_with_the_second_bad_batch_in_a_row():
    make = lambda: network(NAGD(0.05, 0.8))  # noqa: E731
    model, guarded = make(), guard(patience=1)
    train(model, EPOCH, guarded, spoiled={3: NAN, 4: NAN})
    (event,) = guarded.events
    assert event.seen == "loss is nan, bad 2 times in a row"
    assert_same(state(model), state(gone_back(make, EPOCH, 4, 2)))


@pytest.mark.long
def test_patience_with_weights_that_are_not_finite():
    """Every batch has a fine loss and breaks the weights: it must not go on for ever."""
    spoil = At(lambda model: set_to(model.get_layer("out").kernel, NAN))
    guarded = guard(patience=1, max_rollbacks=1)
    stopped(network(NAGD()), EPOCH, spoil, guarded)
    assert len(guarded.events) == 2
    assert guarded.left_out == 2


# What Keras logs


def test_logs_leave_bad_batches_out():
    """The epoch's means are those over the good batches, also where the last one was bad."""
    losses = {}
    for name, batches, spoiled in [
        ("reference", EPOCH[:1] + EPOCH[2:5], {}),
        ("guarded", EPOCH, {1: NAN, 5: 1e30}),
    ]:
        model = network(NAGD(0.0))
        losses[name] = train(model, batches, guard(), spoiled=spoiled).history
    for name in ("loss", "mae"):
        assert losses["guarded"][name] == pytest.approx(losses["reference"][name], rel=1e-6)


def test_an_epoch_without_a_good_batch_shows_it():
    """Metrics that were reset would say that the loss is 0."""
    model = network(NAGD(0.05))
    history = train(model, EPOCH[:2], guard(), spoiled={0: NAN, 1: NAN}, epochs=2).history
    assert np.isnan(history["loss"]).all()


@pytest.mark.long
def test_metrics_begin_anew_after_bad_batches_at_the_begin():
    losses = []
    for batches, spoiled in (EPOCH, {0: NAN, 1: INF}), (EPOCH[2:], {}):
        losses += train(network(NAGD(0.0)), batches, guard(), spoiled=spoiled).history["loss"]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.long
def test_the_loss_of_a_batch_is_its_own():
    """A spike late in an epoch is as large as one at its begin, and behind others that were bad."""
    seen = []
    for spoiled in ({1: 1e4}, {16: 1e4}, {0: NAN, 4: NAN, 5: 1e4, 16: 1e4}):
        model, guarded = network(NAGD(0.0), metrics=[]), guard(window=10)
        train(model, LONG, guarded)
        train(model, [0] * len(LONG), guarded, spoiled=spoiled)
        seen.append(guarded.events[-1].value)
    assert seen[1:] == pytest.approx([seen[0]] * 2, rel=1e-5)


def test_what_is_zero_by_rounding_only():
    """Were it zero, or negative, losses would be compared by differences."""
    guarded = by_hand([1.0, *[1e-4] * 20, 0.0, *[1e-4] * 20, -1e-7, *[1e-4] * 5])
    assert guarded.events == []
    assert min(guarded._spikes.losses) > 0
    guarded = by_hand([1.0, *[1e-4] * 20, -1e-3, *[1e-4] * 5])
    assert min(guarded._spikes.losses) == pytest.approx(-1e-3)


@pytest.mark.parametrize("patience", [0, 1])
def test_spikes_of_one_size_are_the_data(patience):
    """A batch that is far out of line in each epoch takes off little, and stops nothing."""
    losses = [1.0] * 12
    for _ in range(20):
        losses += [*[1.0] * 9, 5.0]
    guarded = guard(patience=patience)
    shown = by_hand(losses, guarded)
    assert len(shown.events) == (2 if patience == 0 else 0)


def test_hard_batches_of_a_network_that_fits_all_others():
    """Nine of ten batches have nearly no loss. The tenth is no divergence, and stops nothing."""
    hard = [0.9, 0.5, 0.2, 0.6, 0.5, 0.15, 0.6]
    losses = [1.0, *np.geomspace(1, 1e-3, 50)]
    for loss in 4 * hard:
        losses += [*[1e-3] * 9, loss]
    events = by_hand(losses).events
    assert events
    assert max(event.batch for event in events) < len(losses) - 10 * len(hard)


def test_a_spoiled_batch_after_two_others_changes_nothing():
    """Its loss is smaller than theirs, and would have ruined the weights all the same."""
    model, reference, guarded = network(NAGD(0.05)), network(NAGD(0.05)), guard()
    train(model, LONG, guarded, spoiled={11: 1e4, 13: 1e4, 16: 1e3})
    train(reference, LONG, guard(), spoiled={11: 1e4, 13: 1e4})
    assert len(guarded.events) == 2
    assert guarded.left_out == 1
    loss = [m.evaluate(*data(), verbose=0) for m in (model, reference)]
    assert loss[0] == pytest.approx(loss[1], rel=0.2)


def test_other_monitors():
    model, guarded = network(NAGD(0.05)), guard(monitor="mae")
    train(model, LONG, guarded, spoiled={14: 1e4})
    assert guarded.events[0].seen.startswith("mae is ")


@pytest.mark.long
def test_a_spoiled_batch_of_another_scale():
    """As a user sees it: the loss of a batch is hundreds of times that of others, and finite."""
    model, guarded = network(NAGD(0.05)), DivergenceGuard(verbose=0)
    history = fit(model, guarded, epochs=6).history["loss"]
    x, y = data()
    x, y = np.concatenate([x, x, x]), np.concatenate([y, y, y])
    y[14 * BATCH : 15 * BATCH] *= 100
    again = model.fit(x, y, BATCH, 1, callbacks=[guarded], verbose=0, shuffle=False)
    assert guarded.events[0].batch == 15
    assert again.history["loss"][0] < history[0]
