"""Callbacks that fight: one check of the whole list, when training begins."""

import math
import warnings
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import keras
from keras import callbacks as of_keras

from nagd_keras.arguments import takes
from nagd_keras.callbacks.listed import listed_with
from nagd_keras.callbacks.optimizers import follows, optimizer_of

# What callbacks do. Those of this package say so themselves, in an attribute `fit_roles`.
CYCLE = "set the learning rate before every batch"
MOMENTUM = "set the momentum"
RESTART = "restart the momentum"
STOP = "stop at a tolerance"
GO_BACK = "go back to a good state"
BACK_UP = "back training up"
REMEMBER = "back up what other callbacks know"
ITERATE = "evaluate at the iterate"
SHOW = "show hyperparameters in the logs"
LOWER = "lower the learning rate"
SCALE = "lower the learning rate, that of a cycle too"
EPOCH_END = "change something at the end of epochs that a backup must hold"
_KNOW = "know something at the end of epochs that a backup must hold"
_EPOCH_RATE = "set the learning rate of every epoch, whatever it is"
_RATE = "set the learning rate of every epoch"
_LOG = "log"
_KEEP_BEST = "keep what was evaluated"
_STOP_EARLY = "stop early"
_STOP_AT_NAN = "stop at NaN"
_AVERAGE = "evaluate averages"

# Those that only one can have, and what to do about two.
_ALONE = dict.fromkeys((CYCLE, MOMENTUM, RESTART, STOP, GO_BACK, BACK_UP, ITERATE), "Leave one.")
_ALONE[MOMENTUM] = "Leave one, or pass momentum=None to OneCycle."
# Pairs that fight, wherever they stand, and what is said of them.
_PAIRS = {
    (CYCLE, LOWER): "{0} sets the learning rate before every batch, so that what {1} takes off is "
    "lost at the next one. Leave out one of them, or the lowering; or give NAGD the cycle as its "
    "learning rate, `schedules.OneCycle(...)`, which {1} scales.",
    (CYCLE, _RATE): "{0} sets the learning rate before every batch, so that {1} has no effect. "
    "Leave out one of them.",
    (_EPOCH_RATE, LOWER): "{0} sets the learning rate of every epoch, so that what {1} takes off "
    "is lost at the next one. Give {0} a function of the epoch and the present learning rate, or "
    "leave out one of them.",
    (_STOP_AT_NAN, GO_BACK): "{0} ends training at the first loss that is not finite, which {1} "
    "would mend. Leave out {0}.",
    (_AVERAGE, ITERATE): "{0} and {1} both exchange the weights for an evaluation, and take those "
    "of the other for what is trained. Leave out one of them.",
}
_PAIRS[_EPOCH_RATE, SCALE] = _PAIRS[_EPOCH_RATE, LOWER]
# Pairs of which the first must not stand before the second.
_ORDERS = {
    (_LOG, SHOW): "{0} stands before {1} in the list, and logs nothing of what that shows. Put {0} "
    "after {1}.",
    (_KEEP_BEST, ITERATE): "{0} stands before {1} in the list, and keeps the look-ahead point, "
    "while the iterate was evaluated. Put {1} first.",
} | dict.fromkeys(
    [(BACK_UP, EPOCH_END), (REMEMBER, _KNOW)],
    "{0} stands before {1} in the list, and saves the epoch before {1} has done its work at its "
    "end: a run that is resumed goes on without that. Put {0} after {1}.",
)


def check(callback: Any) -> None:
    """Checks all callbacks of the list; only the first one of this package does it.

    Warns of callbacks that make each other useless.

    Raises:
        ValueError: if two do what only one can do.
    """
    listed = listed_with(callback)
    if next(each for each in listed if hasattr(each, "fit_roles")) is not callback:
        return
    for message in refused(listed, optimizer_of(callback.model)):
        raise ValueError(message)
    for message in doubtful(listed, callback.params or {}):
        warnings.warn(message, stacklevel=3)


def roles_of(callback: Any) -> Collection[str]:
    """Returns what a callback does that others may fight with."""
    if hasattr(callback, "fit_roles"):
        return callback.fit_roles  # type: ignore[no-any-return]
    if isinstance(callback, of_keras.LearningRateScheduler):
        # One that does not get the present rate cannot multiply it.
        return (_RATE,) if takes(callback.schedule, 0, 0.0) else (_RATE, _EPOCH_RATE)
    found = next((roles for kind, roles in _OF_KERAS.items() if isinstance(callback, kind)), ())
    left = set()
    if isinstance(callback, of_keras.EarlyStopping) and not callback.restore_best_weights:
        left = {_KEEP_BEST}
    if isinstance(callback, of_keras.ModelCheckpoint):
        # One that saves within epochs keeps what is trained, and one that saves all knows nothing.
        left |= set() if callback.save_freq == "epoch" else {_KEEP_BEST}
        left |= set() if callback.save_best_only else {_KNOW}
    return [role for role in found if role not in left]


_OF_KERAS: dict[type, Sequence[str]] = {
    of_keras.ReduceLROnPlateau: (LOWER, EPOCH_END),
    of_keras.EarlyStopping: (_STOP_EARLY, _KEEP_BEST, _KNOW),
    of_keras.ModelCheckpoint: (_KEEP_BEST, _KNOW),
    of_keras.BackupAndRestore: (BACK_UP,),
    of_keras.TerminateOnNaN: (_STOP_AT_NAN,),
    of_keras.SwapEMAWeights: (_AVERAGE,),
    of_keras.CSVLogger: (_LOG,),
    of_keras.TensorBoard: (_LOG,),
    of_keras.RemoteMonitor: (_LOG,),
    of_keras.History: (_LOG,),
    of_keras.ProgbarLogger: (_LOG,),
}


def refused(listed: Sequence[Any], optimizer: Any) -> Iterator[str]:
    """Yields messages about callbacks that exclude each other."""
    for role, way_out in _ALONE.items():
        names = [_name(each) for each in _with(role, listed)]
        if len(names) > 1:
            yield (
                f"Only one callback of a fit can {role}. Received: {' and '.join(names)}. {way_out}"
            )
    for each in _with(_EPOCH_RATE, listed):
        if follows(optimizer, "learning_rate"):
            yield (
                f"{_name(each)} sets the learning rate of every epoch to a number, but that of "
                f"{type(optimizer).__name__} follows a schedule, which goes on from there. Give "
                "the optimizer a number as learning_rate, or leave out the callback."
            )


def doubtful(listed: Sequence[Any], params: dict[str, Any]) -> Iterator[str]:
    """Yields messages about callbacks that make others useless, and says where to put them.

    Args:
        listed: the callbacks, in their order.
        params: what Keras tells them of the fit.
    """
    for (first, second), text in _PAIRS.items():
        for one in _with(first, listed):
            for other in _with(second, listed):
                yield text.format(_name(one), _name(other))
    for (first, second), text in _ORDERS.items():
        for place, one in enumerate(listed):
            if first in roles_of(one):
                for other in _with(second, listed[place + 1 :]):
                    yield text.format(_name(one), _name(other))
    for cycle in _with(CYCLE, listed):
        epochs = _epochs(cycle, params)
        for each in _with(_STOP_EARLY, listed):
            # It may stop in the epoch after so many.
            if each.start_from_epoch + max(each.patience, 1) + 1 < epochs:
                yield (
                    f"{_name(each)} can end training before the cycle of {_name(cycle)} has come "
                    f"down from its high learning rates. Received: patience={each.patience}. Leave "
                    f"out {_name(each)}, or pass it a patience of all epochs; to keep the best "
                    "epoch, use ModelCheckpoint(save_best_only=True)."
                )


def _epochs(cycle: Any, params: dict[str, Any]) -> float:
    """Returns the number of epochs of a cycle, infinity if it is not known."""
    epochs, steps = params.get("epochs", math.inf), params.get("steps")
    own = math.ceil(cycle.total_steps / steps) if cycle.total_steps and steps else math.inf
    return min(epochs, own)  # type: ignore[no-any-return]


def _with(role: str, listed: Sequence[Any]) -> list[Any]:
    return [each for each in listed if role in roles_of(each)]


def _name(callback: keras.callbacks.Callback) -> str:
    return type(callback).__name__
