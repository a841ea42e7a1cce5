"""Training each batch with another learning rate."""

import math
import warnings
from typing import Any

import keras
import numpy as np

from nagd_keras.callbacks.learning_rate_sweep import LearningRateSweep
from nagd_keras.callbacks.optimizers import set_rate, synchronize
from nagd_keras.tensors import global_norm, number, tensor


class Sweep(keras.callbacks.Callback):
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
        self.is_over = self.is_spoiled = False
        self._progress = keras.utils.Progbar(
            len(rates), verbose=verbose, stateful_metrics=["learning_rate", "loss"]
        )

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Sets the learning rate."""
        synchronize(self.model)
        set_rate(self._optimizer, float(self._rates[len(self._losses)]))
        self.model.reset_metrics()  # so that the logs tell of this batch alone

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes the loss, and ends training where it explodes."""
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

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Looks at the weights: a loss can be finite without them, since ReLU may make 0 of NaN."""
        synchronize(self.model)
        weights = map(tensor, self.model.trainable_variables)
        self.is_spoiled = not math.isfinite(number(global_norm(weights)))

    def all_losses(self) -> np.ndarray:
        """Returns the losses, with infinity at the end if the sweep did not get through."""
        is_broken = self.is_spoiled or len(self._losses) < len(self._rates)
        return np.array([*self._losses, math.inf] if is_broken else self._losses)

    def _stop(self) -> None:
        self.is_over = self.model.stop_training = True
        if self._losses:
            self._progress.update(len(self._losses), finalize=True)

    def result(self) -> LearningRateSweep:
        """Returns the sweep; warns if the data ended before the test did.

        Raises:
            ValueError: if there are too few losses to suggest anything.
        """
        done, steps = len(self._losses), len(self._rates)
        ended = "" if self.is_over else f" The data ended after {done} of {steps} batches."
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
