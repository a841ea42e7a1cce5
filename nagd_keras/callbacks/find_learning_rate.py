"""The learning-rate range test."""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from nagd_keras.arguments import count, positive, value, verbosity
from nagd_keras.callbacks.batches import arguments_of_fit, first_inputs
from nagd_keras.callbacks.borrowed import borrowed, generators_kept
from nagd_keras.callbacks.learning_rate_sweep import LearningRateSweep
from nagd_keras.callbacks.optimizers import (
    bring_to_rest,
    build,
    check_settable,
    optimizer_of,
    set_rate,
    synchronize,
)
from nagd_keras.nagd import NAGD
from nagd_keras.tensors import number


def find_learning_rate(
    model: Any,
    x: Any,
    y: Any = None,
    *,
    min: float = 1e-7,
    max: float = 10.0,
    steps: int = 100,
    batch_size: int | None = None,
    stop_at: float = 4.0,
    smoothing: float = 0.9,
    sample_weight: Any = None,
    class_weight: Mapping[int, float] | None = None,
    seed: int = 0,
    verbose: int = 1,
) -> LearningRateSweep:
    r"""Trains with a learning rate that rises from batch to batch, and looks when the loss falls.

    Batch $i$ of $n$ is trained with $\min \cdot (\max / \min)^{i / (n - 1)}$, by `fit`, with the
    model's own optimizer, loss and step. The optimizer begins at rest, as a new one does, so that
    what was trained before does not drive it. Then the model gets back what it had: weights,
    optimizer state, metrics, statistics of normalization, seed generators, what it was compiled
    with, and the random generators of Python, NumPy and, where Keras draws from them, PyTorch. So
    it does when the test is interrupted or fails. Only what was not built yet stays built. What is
    not Keras' or not the model's is not given back: a `tf.Variable` of the model's own, the batches
    of a generator, the random state within a `tf.data` pipeline, Keras' global seed generator.

    Warns where the loss did not fall clearly, since the suggestions mean little then, and where
    the data ended before the test did.

    Args:
        model: a compiled model whose optimizer's learning rate can be set. One of NAGD's that
            follows a schedule is scaled; the schedule must not be 0 at its present steps.
        x: the inputs, of shape (samples, ...), in any form that the model's `fit` takes. Arrays
            are cut into full batches. A `fit` of the model's own, such as KerasHub's, gets them as
            they are, and cuts and orders them itself.
        y: the targets, of shape (samples, ...), if `x` does not bring them.
        min: the first learning rate, in $(0, \infty)$.
        max: the last learning rate, larger than `min`.
        steps: the number of batches, at least 2. Data that are shorter are gone through again, but
            for a generator, which has its batches once: with its last one the test ends.
        batch_size: the size of the batches that arrays are cut into; 32 if None.
        stop_at: the test ends when the smoothed loss exceeds this multiple of its smallest value
            (if that is positive), or when the loss is not finite; larger than 1.
        smoothing: the factor of the old average in the smoothed loss, in [0, 1).
        sample_weight: the weights of the samples, of shape (samples,), for arrays.
        class_weight: the weights of the classes, as in `fit`.
        seed: of the order in which arrays are gone through; data of other forms keep theirs.
        verbose: 1 shows a progress bar, 0 does not.

    Returns:
        The learning rates, losses and suggestions; see `LearningRateSweep`.

    Raises:
        TypeError, ValueError: for an argument out of its range, a learning rate that cannot be set,
            a model that is not compiled, data without batches, or a loss that is not finite from
            the start.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> from nagd_keras import NAGD, callbacks
        >>> x = np.random.default_rng(0).normal(size=(256, 8))
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
        >>> model.compile(optimizer=NAGD(), loss="mse")
        >>> sweep = callbacks.find_learning_rate(model, x, x.sum(axis=1), verbose=0)
        >>> sorted(sweep.suggestions)
        ['minimum', 'steepest', 'valley']
        >>> model.optimizer.learning_rate = sweep.valley

    References:
        Smith (2017), Cyclical Learning Rates for Training Neural Networks, section 3.3.
    """
    low, high = positive("min", min), positive("max", max)
    if not low < high:
        raise ValueError(f"`max` must be larger than `min`. Received: min={min!r}, max={max!r}.")
    count("steps", steps, least=2)
    positive("stop_at", stop_at, above=1.0)
    value("smoothing", smoothing, supremum=1.0)
    count("seed", seed, least=0)
    verbosity(verbose)
    if x is None:
        raise TypeError("find_learning_rate needs data to train with. Received: x=None.")
    optimizer = optimizer_of(model)
    # A schedule of NAGD's is scaled; so its learning rate can be set all the same.
    if not (isinstance(optimizer, NAGD) and optimizer.given_as("learning_rate") == "schedule"):
        check_settable(optimizer, "learning_rate", "find_learning_rate")
    data = arguments_of_fit(model, x, y, sample_weight, steps, batch_size, seed)
    sweep = _Sweep(optimizer, np.geomspace(low, high, steps), stop_at, smoothing, verbose)
    inputs = None
    if not model.built:
        with generators_kept():
            inputs, data["x"] = first_inputs(data["x"])
    build(model, inputs)
    with borrowed(model), warnings.catch_warnings():
        bring_to_rest(model)
        # What is to be said of data that end is said here.
        warnings.filterwarnings("ignore", "(?s).*Your input ran out of data", UserWarning)
        weights = {} if class_weight is None else {"class_weight": class_weight}
        model.fit(**data, **weights, verbose=0, callbacks=[sweep])
    found = sweep.result()
    if not found.falls:
        warnings.warn(
            "The loss did not fall clearly in the range test, so that its suggestions mean little. "
            f"Received: {found!r}. Look at its plot; try larger batches, other learning rates, or "
            "a model that is not trained yet.",
            stacklevel=2,
        )
    return found


class _Sweep(keras.callbacks.Callback):
    """Sets the learning rates and notes the losses."""

    def __init__(
        self, optimizer: Any, rates: np.ndarray, stop_at: float, smoothing: float, verbose: int
    ) -> None:
        super().__init__()
        self._optimizer, self._rates = optimizer, rates
        self._stop_at, self._smoothing = stop_at, smoothing
        self._losses: list[float] = []
        self._smoothed: list[float] = []
        self._average = 0.0
        self._is_over = False
        self._progress = keras.utils.Progbar(
            len(rates), verbose=verbose, stateful_metrics=["learning_rate", "loss"]
        )

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        synchronize(self.model)
        set_rate(self._optimizer, float(self._rates[len(self._losses)]))
        self.model.reset_metrics()  # so that the logs tell of this batch alone

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        if "loss" not in logs:
            raise ValueError(
                "find_learning_rate reads the logs' `loss`, but the model's training step returns "
                f"{', '.join(logs) or 'nothing'}. Return the mean of the loss as `loss`."
            )
        loss = number(logs["loss"])
        if not math.isfinite(loss):
            self._stop()
            return
        self._losses.append(loss)
        self._average = self._smoothing * self._average + (1 - self._smoothing) * loss
        # Corrected for the average's start at 0.
        self._smoothed.append(self._average / (1 - self._smoothing ** len(self._losses)))
        done, best = len(self._losses), np.min(self._smoothed)
        self._progress.update(
            done, [("learning_rate", self._rates[done - 1]), ("loss", loss)], finalize=False
        )
        if done == len(self._rates) or self._smoothed[-1] > self._stop_at * best > 0:
            self._stop()

    def _stop(self) -> None:
        self._is_over = self.model.stop_training = True
        if self._losses:
            self._progress.update(len(self._losses), finalize=True)

    def result(self) -> LearningRateSweep:
        """Returns what was found; warns if the data ended before the test did.

        Raises:
            ValueError: if that is not enough to suggest anything.
        """
        done, steps = len(self._losses), len(self._rates)
        ended = "" if self._is_over else f" The data ended after {done} of {steps} batches."
        if done < 2:
            raise ValueError(
                f"The range test needs at least 2 batches with a finite loss. Received: {done}."
                f"{ended} Check that the data are not empty and hold no NaN, or start at a smaller "
                f"`min` than {self._rates[0]:g}. The model is as it was."
            )
        if ended:
            warnings.warn(
                f"The range test is not complete.{ended} No learning rate above "
                f"{self._rates[done - 1]:.3g} was tried. Pass data that can be gone through again, "
                f"as arrays or a dataset can, a generator of {steps} batches, or steps={done}.",
                stacklevel=3,
            )
        return LearningRateSweep(
            self._rates[:done], np.array(self._losses), np.array(self._smoothed)
        )
