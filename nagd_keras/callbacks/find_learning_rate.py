"""The learning-rate range test."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from types import GeneratorType
from typing import Any

import numpy as np

from nagd_keras.arguments import count, positive, value, verbosity
from nagd_keras.callbacks.batches import Batches, arguments_of_fit, first_inputs
from nagd_keras.callbacks.borrowed import borrowed, generators_kept, stepwise
from nagd_keras.callbacks.learning_rate_sweep import LearningRateSweep
from nagd_keras.callbacks.optimizers import (
    bring_to_rest,
    build,
    check_settable,
    default_rate,
    optimizer_of,
)
from nagd_keras.callbacks.suggestion import suggested, untried
from nagd_keras.callbacks.sweep import Sweep
from nagd_keras.nagd import NAGD


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
    r"""Finds a learning rate to train with: `sweep.suggested`, which `OneCycle(sweep)` takes.

    Three parts, each with the model's own optimizer, loss and step, from its present weights and
    with the optimizer at rest:

    1. A sweep. Batch $i$ of $n$ trains with $\min \cdot (\max / \min)^{i / (n - 1)}$. This shows
       where the loss explodes. The function returns this curve.
    2. A finer sweep of $n$ batches through the three decades below. A tenth of the learning rate
       with the smallest smoothed loss is the candidate. If the loss does not fall clearly, two more
       sweeps with other batches follow, and the median is the candidate.
    3. Trials. The candidate trains for $n$ batches, and so does a third of it. As long as the third
       ends lower, it becomes the candidate. The function suggests the last candidate if the last
       quarter of its batches, at least five, has a lower loss than without training, by more than
       three standard errors. Otherwise it warns, and suggests the optimizer's default.

    Then the model gets back what it had, even after an error or an interruption: weights, optimizer
    state, metrics, statistics of normalization, seed generators, what it was compiled with, and the
    random generators of Python, NumPy and, where Keras draws from them, PyTorch. It does not get
    back a `tf.Variable` of its own, the batches of a generator, the random state within a `tf.data`
    pipeline, or Keras' global seed generator.

    Data that can be read only once, such as a generator, allow only the first part.

    Args:
        model: a compiled model whose optimizer's learning rate can be set. If it follows a
            schedule, NAGD scales the schedule, which must not be 0 at its present steps.
        x: the inputs, of shape (samples, ...), in any form that the model's `fit` takes. Arrays
            are cut into full batches. If the model has a `fit` of its own, as KerasHub's have, it
            gets the arrays as they are, and cuts and orders them itself.
        y: the targets, of shape (samples, ...), if `x` does not bring them.
        min: the first learning rate, in $(0, \infty)$.
        max: the last learning rate, larger than `min`.
        steps: $n$, the number of batches of each part, at least 2. Shorter data are read again;
            with a generator, the test ends at its last batch.
        batch_size: the size of the batches that arrays are cut into; 32 if None.
        stop_at: the test ends when the smoothed loss exceeds this multiple of its smallest value
            (if that is positive), or when the loss is not finite; larger than 1.
        smoothing: the factor of the old average in the smoothed loss, in [0, 1).
        sample_weight: the weights of the samples, of shape (samples,), for arrays.
        class_weight: the weights of the classes, as in `fit`.
        seed: the seed of the order of the samples of arrays. Other data keep their order.
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
        >>> sweep.is_sure
        True
        >>> model.optimizer.learning_rate = sweep.suggested

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
    inputs = None
    if not model.built:
        with generators_kept():
            inputs, data["x"] = first_inputs(data["x"])
    build(model, inputs)
    weights = {} if class_weight is None else {"class_weight": class_weight}

    def run(rates: np.ndarray, stop: float, repeat: int) -> Sweep:
        """Trains the model, which is at rest, with these learning rates."""
        sweep, batches = Sweep(optimizer, rates, stop, smoothing, verbose), data
        if repeat and isinstance(data["x"], Batches):
            batches = arguments_of_fit(model, x, y, sample_weight, steps, batch_size, seed + repeat)
        with borrowed(model), warnings.catch_warnings():
            bring_to_rest(model)
            # What is to be said of data that end is said here.
            warnings.filterwarnings("ignore", "(?s).*Your input ran out of data", UserWarning)
            model.fit(**batches, **weights, verbose=0, callbacks=[sweep])
        return sweep

    with stepwise(model):
        first = run(np.geomspace(low, high, steps), stop_at, 0)
        found, default = first.result(), default_rate(optimizer)
        if first.is_over and not isinstance(data["x"], GeneratorType):
            suggestion = suggested(found, run, steps, default)
        else:
            suggestion = untried(found, default)
    found = replace(found, suggestion=suggestion)
    if not found.is_sure:
        warnings.warn(
            "The range test is not sure of its suggestion. Received: "
            f"{found!r}. Look at its plot; try larger batches, other learning rates, or a model "
            "that is not trained yet.",
            stacklevel=2,
        )
    return found
