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
    r"""Makes the variables of a model hold the iterate $\theta_t = w_t - s_t$ in a `with` block.

    At the end, even after an exception, they hold the look-ahead point again, to the bit. If you
    set variables in the block, their values count as the new iterate. Nested uses do nothing. If
    something other than training has set the variables before, such as the averages of `use_ema` at
    the end of `fit`, they are not the look-ahead point, and there is no iterate to find.

    Args:
        model: a model that is compiled with NAGD.

    Raises:
        TypeError, ValueError: if the model is not compiled with NAGD.

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

    Nesterov's theorems speak of the iterate $\theta_t$. Keras trains the look-ahead point
    $w_t = \theta_t + s_t$, and would evaluate and save it. With this callback the model's variables
    hold the iterate while `fit` validates, and from the end of an epoch until the next one begins.
    Training has the same bits as without it.

    Put it first in the list of callbacks. At the end of an epoch, callbacks after it find the
    iterate, and callbacks before it the look-ahead point. ModelCheckpoint, Backup and EarlyStopping
    should save and remember what was evaluated, so they must stand after it. A model that they save
    trains on to the bit: its optimizer also knows the look-ahead point. This callback goes there
    when an epoch begins, and `model.optimizer.swap_to_lookahead()` at any time.

    When `fit` ends, the model holds the look-ahead point again, or what EarlyStopping restores. In
    the second case the displacements are those of the last epoch: call
    `model.optimizer.reset_momentum()` before you train on or look for the iterate.

    AdaptiveRestart and DivergenceGuard may stand anywhere. If AdaptiveRestart compares epochs and
    stands after this callback, training goes on from the iterate that was evaluated; without this
    callback it goes on from the look-ahead point. Within an epoch, `ModelCheckpoint(save_freq=100)`
    saves the look-ahead point, whose loss the batches have. When `fit` ends, the model holds the
    averages of `use_ema`, as without this callback. It does not go with SwapEMAWeights.

    An `evaluate` or `predict` outside `fit`, or within another callback, sees what the variables
    hold. Pass it `callbacks=[EvaluateAtIterate()]`, or call it in `with at_iterate(model):`. If
    `fit` or `evaluate` fails, the variables may still hold the iterate; go back as above. A swap is
    a pass over the variables. While they hold the iterate, the optimizer keeps one copy of them.

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
        """Goes to the look-ahead point, also from what a load or an earlier fit has left."""
        self._optimizer().swap_to_lookahead()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Goes to the look-ahead point, also after an evaluation that failed in a callback."""
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
