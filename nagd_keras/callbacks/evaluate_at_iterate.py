"""Evaluating, predicting and saving at the iterate; training at the look-ahead point."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from nagd_keras.arguments import call_of
from nagd_keras.callbacks.optimizers import nagd_of, synchronize
from nagd_keras.callbacks.together import ITERATE, check
from nagd_keras.nagd import NAGD


@contextlib.contextmanager
def at_iterate(model: Any) -> Iterator[Any]:
    r"""Has the variables of a model hold the iterate $\theta_t = w_t - s_t$ for a while.

    At the end, after an exception too, they hold the look-ahead point again, to the bit. Variables
    that are set meanwhile are taken for the new iterate. Nested uses do nothing. If something else
    than training has set the variables before, such as the averages of `use_ema` at the end of
    `fit`, they are no look-ahead point, and there is no iterate to be found.

    Args:
        model: a model that is compiled with NAGD.

    Raises:
        TypeError, ValueError: if it is not.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> from nagd_keras import NAGD, callbacks
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile(optimizer=NAGD(0.1), loss="mse")
        >>> history = model.fit(np.eye(2), np.ones((2, 1)), verbose=0)
        >>> with callbacks.at_iterate(model):
        ...     loss = model.evaluate(np.eye(2), np.ones((2, 1)), verbose=0)
        >>> model.optimizer.at_iterate
        False
    """
    optimizer = nagd_of(model, "at_iterate")
    if optimizer.at_iterate:
        yield model
        return
    synchronize(model)
    try:
        optimizer.swap_to_iterate()
        yield model
    finally:
        synchronize(model)  # On JAX an evaluation that failed keeps the variables' values.
        optimizer.swap_to_lookahead()


class EvaluateAtIterate(keras.callbacks.Callback):
    r"""Within `fit`, validates and saves at the iterate, and trains at the look-ahead point.

    Nesterov's theorems speak of the iterate $\theta_t$; Keras trains, and would evaluate and save,
    the look-ahead point $w_t = \theta_t + s_t$. With this callback the model's variables hold the
    iterate while `fit` validates, and from the end of an epoch until the next one begins. Training
    has the same bits as without it.

    Put it first in the list of callbacks. At the end of an epoch those after it find the iterate,
    and those before it the look-ahead point: ModelCheckpoint, Backup and EarlyStopping, which
    should save and remember what was evaluated, must stand after it. A model that was saved so
    trains on to the bit: its optimizer knows the look-ahead point too, to which this callback
    goes when an epoch begins, and `model.optimizer.swap_to_lookahead()` at any time. When `fit`
    ends, the model holds the look-ahead point again; or what EarlyStopping restores, whose
    displacements are those of the last epoch: before training on from there, or looking for its
    iterate, call `model.optimizer.reset_momentum()`.

    AdaptiveRestart and DivergenceGuard may stand anywhere; but where AdaptiveRestart compares
    epochs and stands after this callback, training goes on from the iterate that was evaluated,
    and not, as without this callback, from the look-ahead point. What is saved within an epoch, as
    by `ModelCheckpoint(save_freq=100)`, is the look-ahead point, whose loss the batches have. The
    averages of `use_ema` are in the model when `fit` ends, as without this callback; it does not
    go with SwapEMAWeights.

    An `evaluate` or a `predict` that another callback calls, or that is called outside `fit`, sees
    what the variables hold. Pass it `callbacks=[EvaluateAtIterate()]`, or call it
    `with at_iterate(model):`. If `fit` or `evaluate` fails, the variables may still hold the
    iterate, and the optimizer knows the way back, as above. A swap is a pass over the variables;
    while they hold the iterate, one copy of them is kept.

    Raises:
        TypeError: before training starts, if the optimizer is not a NAGD.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> from nagd_keras import NAGD, callbacks
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile(optimizer=NAGD(0.1), loss="mse")
        >>> data = np.eye(2), np.ones((2, 1))
        >>> history = model.fit(
        ...     *data, validation_data=data, callbacks=[callbacks.EvaluateAtIterate()], verbose=0
        ... )
        >>> with callbacks.at_iterate(model):
        ...     model.evaluate(*data, verbose=0) == history.history["val_loss"][0]
        True
    """

    fit_roles = (ITERATE,)
    _goes_back = False  # from the evaluation that is under way

    __repr__ = call_of

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks the optimizer and the other callbacks."""
        self._optimizer()
        check(self)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Goes to the look-ahead point, also from what was loaded or an earlier fit left."""
        self._optimizer().swap_to_lookahead()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Goes to the look-ahead point, also if an evaluation failed and a callback went on."""
        if nagd_of(self.model, type(self).__name__).at_iterate:
            self._optimizer().swap_to_lookahead()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Goes to the iterate; NAGD itself goes back where `fit` ends."""
        self._optimizer().swap_to_iterate()

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Goes to the iterate."""
        optimizer = self._optimizer()
        self._goes_back = not optimizer.at_iterate
        optimizer.swap_to_iterate()

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Goes to where the variables were."""
        if self._goes_back:
            self._optimizer().swap_to_lookahead()

    on_predict_begin, on_predict_end = on_test_begin, on_test_end

    def _optimizer(self) -> NAGD:
        synchronize(self.model)
        return nagd_of(self.model, type(self).__name__)
