"""Evaluating, predicting and saving at the iterate; training at the look-ahead point."""

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import keras

from nagd_keras.callbacks.optimizers import nagd_of, synchronize

# The methods of a model that look at its variables, save or set them.
_METHODS = (
    "evaluate",
    "predict",
    "test_on_batch",
    "predict_on_batch",
    "save",
    "save_weights",
    "load_weights",
    "export",
    "get_weights",
    "set_weights",
)


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
    r"""Within `fit`, evaluates, predicts and saves at the iterate, and trains at the look-ahead.

    Nesterov's theorems speak of the iterate $\theta_t$; Keras trains, and would evaluate and save,
    the look-ahead point $w_t = \theta_t + s_t$. While `fit` runs with this callback, validation
    and the model's `evaluate`, `predict`, `save`, `save_weights`, `get_weights` and `set_weights`,
    whoever calls them (ModelCheckpoint, say, or EarlyStopping), find the iterate in the model's
    variables. Afterwards, after an exception too, these hold the same bits as before. A model that
    is called, `model(x)`, is the look-ahead point's.

    A model that was saved so holds the iterate, which is what one wants to predict with, and its
    optimizer knows: `model.optimizer.swap_to_lookahead()`, which this callback calls when `fit`
    begins, gives the exact look-ahead point back to train on from. Weights that are restored when
    `fit` ends, as by EarlyStopping, come with displacements of zero. The position in the list of
    callbacks does not matter, but for what looks when `fit` ends: that must stand in front. Only
    these methods, called in the thread of Keras' own `fit`, see the iterate; copies and pickles of
    the model do not. It does not go with SwapEMAWeights, whose averages have no displacement.
    Frozen variables stay where they are. Each look costs two passes over the variables and, while
    it lasts, the memory of one copy of them.

    For an `evaluate` or a `predict` outside `fit`, use `with at_iterate(model):`.

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

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks the optimizer and has the model look at the iterate."""
        nagd_of(self.model, type(self).__name__)
        for name in _METHODS:
            _Looking.install(self, name)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Leaves the iterate that a checkpoint may have brought."""
        synchronize(self.model)
        nagd_of(self.model, type(self).__name__).swap_to_lookahead()

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Refuses an evaluation outside fit, where it could not clean up after an exception."""
        self._refuse_outside_fit("evaluate")

    def on_predict_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Refuses a prediction outside fit, where it could not clean up after an exception."""
        self._refuse_outside_fit("predict")

    def _refuse_outside_fit(self, name: str) -> None:
        if not nagd_of(self.model, type(self).__name__).at_iterate:
            raise ValueError(
                f"EvaluateAtIterate is a callback of `fit`. Received: one in `{name}`. Use: with "
                f"nagd_keras.callbacks.at_iterate(model): model.{name}(...)"
            )

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Has the model look where it did before."""
        for name in _METHODS:
            if name != "set_weights":  # EarlyStopping may stand behind, and restore its weights.
                _Looking.remove(self.model, name)


class _Looking:
    """Stands before a method of the model, and goes to the iterate for the call.

    Keras has no hook that runs when evaluating or saving fails, so a swap in one hook and back in
    another would leave the model at the wrong point. A `finally` does not.

    Nor has it a hook for a fit that fails, which thus leaves these behind: one that is called when
    its fit is no longer executed takes all of them away.
    """

    def __init__(self, callback: Any, name: str) -> None:
        self._callback, self._model, self._name = callback, callback.model, name
        self._method: Callable[..., Any] = getattr(self._model, name)
        self._replaced = vars(self._model).get(name)
        self._thread = threading.get_ident()
        functools.update_wrapper(self, self._method, updated=())  # the name and documentation

    @classmethod
    def install(cls, callback: Any, name: str) -> None:
        """Puts one before a method, in the place of one that an earlier fit left behind."""
        cls.remove(callback.model, name)
        setattr(callback.model, name, cls(callback, name))

    @classmethod
    def remove(cls, model: Any, name: str) -> None:
        """Takes the one before a method away, if there is one."""
        found = vars(model).get(name)
        if isinstance(found, cls):
            delattr(model, name)  # The method of the class shows again.
            if found._replaced is not None:
                setattr(model, name, found._replaced)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != self._thread:
            return self._method(*args, **kwargs)  # Variables must not move under others' eyes.
        if not self._in_its_fit():
            for name in _METHODS:
                self.remove(self._model, name)
            return self._method(*args, **kwargs)
        if self._name == "set_weights" and any(
            frame.f_code.co_name == "on_train_end" for frame in _frames()
        ):
            # The displacements belong to the weights that are given up.
            nagd_of(self._model, type(self._callback).__name__).reset_momentum()
            return self._method(*args, **kwargs)
        with at_iterate(self._model):
            return self._method(*args, **kwargs)

    def _in_its_fit(self) -> bool:
        """Whether the call comes from a fit of the model that has the callback."""
        for frame in _frames():
            found = frame.f_locals if frame.f_code.co_name == "fit" else {}
            listed = getattr(found.get("callbacks"), "callbacks", ())
            if found.get("self") is self._model and any(c is self._callback for c in listed):
                return True
        return False


def _frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back
