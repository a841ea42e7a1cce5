"""Going back to the last good state when training diverges."""

import warnings
from typing import Any

import keras

from nagd_keras.arguments import call_of, count, optional, positive, share, verbosity
from nagd_keras.callbacks import guard_beginning as beginning
from nagd_keras.callbacks.advice import Advice
from nagd_keras.callbacks.batch_losses import BatchLoss, BatchLosses
from nagd_keras.callbacks.climbs import Climb, Climbs
from nagd_keras.callbacks.divergence import Divergence, named, report
from nagd_keras.callbacks.optimizers import build, nagd_of, synchronize
from nagd_keras.callbacks.rollbacks import Rollbacks
from nagd_keras.callbacks.snapshots import Kept, Reading, State, Watched
from nagd_keras.callbacks.spikes import KNOWN, Spikes
from nagd_keras.callbacks.together import GO_BACK, SCALE, check
from nagd_keras.callbacks.way_back import Return, WayBack
from nagd_keras.tensors import number

_IN_A_ROW = 4  # bad losses that are put down to the data, if skipped, or known from before


class DivergenceGuard(keras.callbacks.Callback):
    r"""Goes back to a good state, and on with a lower learning rate, when training diverges.

    Signs of divergence are

    - a loss, or a weight after its batch, that is not finite;
    - a spike: with $m$ the median of $\log l_i$ of the last `window` good losses and $D = 1.4826
      \cdot \text{median} |\log l_i - m|$, an $l$ with $\log l - m$ above both
      $\log \text{spike\_threshold}$ and $\text{spread} \cdot D$ (`nagd_keras.callbacks.spikes`);
    - a climb: the median of the last 25 losses has lost more than the share `climb` of what was
      gained, or the losses never fall though the weights move far (`nagd_keras.callbacks.climbs`).

    Then the weights, and what the optimizer has of each, get their values of a good state; the
    momentum is reset; the learning rate, or its schedule, is multiplied by `learning_rate_factor`,
    after a climb by a power of it; and training goes on with the next batch. A state is good if the
    loss of a later batch shows it. After a climb it is the one of the best level, or the beginning.
    Steps, schedules and counters go on. The epoch's logs leave bad batches out. Rollbacks, and what
    they took off, are kept with the optimizer's state, so a run that is resumed goes on with them.

    One bad loss does not tell whether the batch or the weights are to blame. `patience=2` puts two
    in a row down to the data: what they changed is undone, and no more. Four in a row are after an
    update that was skipped, and of spikes no larger than two before. If going back lowers no loss,
    since the data are sorted, the learning rate comes back, and climbs are no longer looked at.
    OneCycle goes on lowered as much. TerminateOnNaN ends what this callback mends.

    Args:
        monitor: the loss in the logs of the batches.
        spike_threshold: the factor over the median up to which a loss is always good, in
            $(1, \infty)$, or None to see no spikes.
        spread: the robust standard deviations over the median up to which it is, in $(0, \infty)$.
        window: the number of good losses that are compared with, at least 10.
        climb: the share of what was gained that may be lost, in (0, 1], or None for any.
        learning_rate_factor: in (0, 1].
        patience: the number of bad batches in a row that are put down to the data, at least 0.
        recovery: the number of good batches after which all is given back, or None for never.
        max_rollbacks: how often to go back, at least 0.
        snapshot_every: the number of batches after which the state is kept.
        verbose: 1 prints a line for each rollback, and what to change at the end; 0 does not.

    Attributes:
        events: the rollbacks of the last fit, and what stopped it, each a `Divergence`.
        left_out: how many of its batches were put down to the data.

    Raises:
        TypeError, ValueError: for an argument out of its range, an optimizer that is no NAGD or
            follows a callable, weights that are not finite, or a `monitor` that the logs lack.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> from nagd_keras import NAGD, callbacks
        >>> layer = keras.layers.Dense(1, kernel_initializer="zeros")
        >>> model = keras.Sequential([keras.Input((2,)), layer])
        >>> model.compile(optimizer=NAGD(0.1), loss="mse")
        >>> x, y = np.ones((8, 2)), np.ones((8, 1))
        >>> x[5] = np.nan
        >>> guard = callbacks.DivergenceGuard(verbose=0)
        >>> history = model.fit(x, y, batch_size=1, shuffle=False, callbacks=[guard], verbose=0)
        >>> print(guard.events[0])
        epoch 1, batch 6: loss is nan; back to epoch 1, batch 4, learning rate 0.05
    """

    async_safe = False
    __repr__ = call_of

    def __init__(
        self,
        monitor: str = "loss",
        *,
        spike_threshold: float | None = 3.0,
        spread: float = 5.0,
        window: int = 50,
        climb: float | None = 1 / 4,
        learning_rate_factor: float = 0.5,
        patience: int = 0,
        recovery: int | None = None,
        max_rollbacks: int = 10,
        snapshot_every: int = 1,
        verbose: int = 1,
    ) -> None:
        super().__init__()
        self.monitor = beginning.loss_of_batches(monitor)
        # Half of the losses are above the median.
        self.spike_threshold = optional(positive, "spike_threshold", spike_threshold, above=1.0)
        self.spread = positive("spread", spread)
        self.window = count("window", window, KNOWN)
        self.climb = optional(share, "climb", climb)
        self.learning_rate_factor = share("learning_rate_factor", learning_rate_factor)
        self.patience = count("patience", patience, 0)
        self.recovery = optional(count, "recovery", recovery)
        self.max_rollbacks = count("max_rollbacks", max_rollbacks, 0)
        self.snapshot_every = count("snapshot_every", snapshot_every)
        self.verbose = verbosity(verbose)
        self.fit_roles = (GO_BACK,) if self.learning_rate_factor == 1 else (GO_BACK, SCALE)
        self.events: list[Divergence] = []
        self.left_out = 0
        self._is_stopped = self._has_begun = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks the optimizer and the monitor."""
        optimizer = nagd_of(self.model, type(self).__name__)
        beginning.check_optimizer(optimizer, self.learning_rate_factor)
        check(self)
        self.events, self.left_out = [], 0
        self._is_stopped = self._has_begun = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Begins new means, and in epoch 0 without earlier rollbacks."""
        optimizer = nagd_of(self.model, type(self).__name__)
        if epoch == 0:
            Rollbacks.forget(optimizer)
        self._epoch, self._losses = epoch, BatchLosses(self.monitor)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Takes the state of the beginning for a good one."""
        if not self._has_begun:
            self._begin()
        self._losses.begin(batch, self.model)

    def _begin(self) -> None:
        optimizer = nagd_of(self.model, type(self).__name__)
        beginning.check_model(self.model)
        build(self.model)
        synchronize(self.model)
        self._watched = Watched(self.model, optimizer, keeps_momentum=self.patience > 0)
        self._last = now = self._watched.read(weights=True)
        beginning.check_weights(now)
        where = "the beginning" + (f" of epoch {self._epoch + 1}" if self._epoch else "")
        self._store = Kept(self._watched, State(now.values, where, is_first=True))
        self._spikes = Spikes(self.spike_threshold, self.spread, self.window)
        self._climbs = Climbs(self.climb)
        self._way_back = WayBack(self._store, self._climbs)
        self._rollbacks = Rollbacks(optimizer, self.learning_rate_factor)
        self._advice = Advice(optimizer)
        self._has_begun, self._not_kept = True, 0  # batches since a state was kept
        self._bad_losses = self._bad_states = 0  # in a row

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Judges the batch, and goes back if it was bad."""
        if self._is_stopped:
            return
        synchronize(self.model)
        loss = self._losses.end(self, batch, logs or {})
        least, limit = loss.value - loss.rounding, self._spikes.limit()
        is_bad = not loss.is_finite or least > limit
        self._not_kept += loss.batches
        if not self._watched.watches_metrics:
            self._watched.watch_metrics()
        now = self._watched.read(weights=not is_bad and self._not_kept >= self.snapshot_every)
        before, self._last = self._last, now
        skipped = self._watched.updates_skipped(before, now, loss.batches, not loss.is_finite)
        if is_bad:
            self._losses.leave_out(loss.batches, self._watched.metrics)
            self._reject(loss, limit, skipped)
            return
        self._losses.accept(now.metrics)
        self._bad_losses = 0
        if least <= self._spikes.ordinary():
            self._store.promote()
        self._spikes.add(loss.value)
        if self._has_climbed(loss.value):
            return
        if now.values:
            self._keep(now, loss.value, limit, skipped)
        if self.recovery and self._rollbacks.is_over(now.made, self.recovery):
            self._give_back()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Forgets the states, and reports if training was stopped."""
        advice = self._advice.text(self.events, self._climbs.start) if self.events else ""
        if self._has_begun:
            self._rollbacks.settle()
            del self._watched, self._store, self._way_back, self._last, self._losses
            self._has_begun = False
        if self._is_stopped:
            text = report(self.events, self.max_rollbacks, self.left_out, advice)
            warnings.warn(text, stacklevel=2)
        elif advice:
            self._say(advice)

    def _has_climbed(self, loss: float) -> bool:
        """Looks at the level of the losses, and goes back if it has risen."""
        if self._climbs.add(loss):
            self._store.prefer()
        if not self._climbs.is_young:
            self._store.settle()
        if vain := self._climbs.in_vain():
            self._take_back(vain)
        climb = self._climbs.seen(self._store.moved)
        if climb is not None:
            back = self._way_back.after_climb(climb)
            self._go_on(back, f"{self.monitor} {climb.seen}", climb.level, climb.limit)
        return climb is not None

    def _take_back(self, climb: Climb) -> None:
        self._rollbacks.take_back(climb.power)
        self._say_rate(f"{self.monitor} is no better with earlier weights, so the data changed")

    def _keep(self, now: Reading, loss: float, limit: float, skipped: bool) -> None:
        """Keeps a state, or goes back if it is not finite."""
        if not now.not_finite:
            self._store.take(State(now.values, self._place(), self._spikes.losses))
            self._not_kept = self._bad_states = 0
            return
        seen, self._bad_states = f"{named(now.not_finite)} is not finite", self._bad_states + 1
        if skipped and not any(variable.trainable for variable in now.not_finite):
            self._store.mend()
        elif self._bad_states <= self.patience:
            self._undo(seen)
        else:
            self._roll_back(seen, loss, limit)

    def _reject(self, loss: BatchLoss, limit: float, skipped: bool) -> None:
        """Leaves a batch with a bad loss out, or goes back to the good state."""
        above = f", above {limit:.4g}" if loss.is_finite else ""
        seen = f"{self.monitor} is {loss.value:.4g}{above}"
        self._bad_losses += 1
        is_known = skipped or self._spikes.knows(loss.value - loss.rounding)
        patience = max(_IN_A_ROW, self.patience) if is_known else self.patience
        if self._bad_losses > patience:
            if patience:
                seen += f", bad {self._bad_losses} times in a row"
            self._spikes.note(loss.value)
            self._roll_back(seen, loss.value, limit)
        elif skipped:
            self.left_out += 1
            self._store.mend()
        else:
            self._undo(seen)

    def _undo(self, seen: str) -> None:
        """Goes back to the latest state, and no more."""
        if not self.patience:  # Then the displacements are not kept.
            self._watched.optimizer.reset_momentum()
        self.left_out += 1
        self._say(f"{self._place()}: {seen}; back to {self._store.undo().where}")

    def _roll_back(self, seen: str, loss: float, limit: float) -> None:
        """Goes back after a bad batch."""
        if climb := self._climbs.climbed(spiked=True):
            back = self._way_back.after_climb(climb)
            seen = f"{seen}, and it {climb.seen}"
        else:
            back = self._way_back.after_bad_batch()
        self._go_on(back, seen, loss, limit)

    def _go_on(self, back: Return, seen: str, loss: float, limit: float) -> None:
        """Goes on from a state with a lower learning rate, or stops."""
        optimizer, state = self._watched.optimizer, back.state
        optimizer.reset_momentum()
        self._spikes.losses = state.losses  # Those behind it may have belonged to bad weights.
        self._not_kept = self._bad_losses = self._bad_states = 0
        self._is_stopped = self._rollbacks.count >= self.max_rollbacks
        if self._is_stopped:
            self.model.stop_training = True
        else:
            self._rollbacks.add(self._last.made, back.power)
        at, rate = (self._epoch + 1, self._losses.done), number(optimizer.learning_rate)
        self.events.append(Divergence(*at, seen, loss, limit, state.where, rate, back.is_of_rate))
        self._say(f"{self.events[-1]}{'; training stops' if self._is_stopped else ''}")

    def _give_back(self) -> None:
        self._rollbacks.give_back()
        self._spikes.forget()
        self._say_rate(f"good for {self.recovery} batches")

    def _say_rate(self, what: str) -> None:
        rate = number(self._watched.optimizer.learning_rate)
        self._say(f"{self._place()}: {what}, learning rate {rate:.4g}")

    def _place(self) -> str:
        return f"epoch {self._epoch + 1}, batch {self._losses.done}"

    def _say(self, what: str) -> None:
        if self.verbose:
            print(f"\nDivergenceGuard: {what}.")
