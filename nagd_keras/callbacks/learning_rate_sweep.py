"""What a learning-rate range test found."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from nagd_keras.figures import new_axes


@dataclass(frozen=True)
class LearningRateSweep:
    """The losses of training with a rising learning rate, one batch for each.

    Attributes:
        learning_rates: the learning rates that were tried, rising; shape (n,).
        losses: the loss of each batch, before its update; shape (n,).
        smoothed_losses: their exponential moving average, corrected for its start; shape (n,).
    """

    learning_rates: np.ndarray
    losses: np.ndarray
    smoothed_losses: np.ndarray

    @property
    def minimum(self) -> float:
        """A tenth of the learning rate at which the smoothed loss was smallest."""
        return float(self.learning_rates[np.argmin(self.smoothed_losses)]) / 10

    @property
    def steepest(self) -> float:
        """The learning rate at which the smoothed loss fell fastest, before its minimum.

        The first tenth of the steps is left out, where the average still holds few losses.
        """
        begin, end = len(self.losses) // 10, int(np.argmin(self.smoothed_losses)) + 1
        rates, losses = self.learning_rates[begin:end], self.smoothed_losses[begin:end]
        if len(losses) < 2:  # It only rose.
            return float(self.learning_rates[0])
        return float(rates[np.argmin(np.gradient(losses, np.log(rates)))])

    @property
    def valley(self) -> float:
        """The learning rate half way down the longest fall of the smoothed loss.

        The longest fall is the longest subsequence of falling losses, so that noise does not end
        it. The rule is fastai's. It is the most careful of the three: a sweep that begins far
        below the rates that train makes it smaller.
        """
        losses = self.smoothed_losses
        length, previous = np.ones(len(losses), int), np.full(len(losses), -1)
        for i in range(1, len(losses)):
            higher = np.flatnonzero(losses[:i] > losses[i])
            if len(higher):
                previous[i] = higher[np.argmax(length[higher])]
                length[i] = length[previous[i]] + 1
        last = first = int(np.argmax(length))
        while previous[first] >= 0:
            first = int(previous[first])
        third = (last - first) / 3
        return float(self.learning_rates[first + int(third) + int(third / 2)])

    @property
    def suggestions(self) -> dict[str, float]:
        """All three suggestions by name."""
        return {"steepest": self.steepest, "minimum": self.minimum, "valley": self.valley}

    def plot(self, axes: Any = None) -> Any:
        """Draws the losses over the learning rate, with the suggestions.

        Args:
            axes: matplotlib axes to draw into; new ones if None.

        Returns:
            The axes.

        Raises:
            ImportError: without matplotlib, which the extra `plot` brings.
        """
        axes = new_axes() if axes is None else axes
        axes.plot(self.learning_rates, self.losses, color="0.75", label="loss of a batch")
        axes.plot(self.learning_rates, self.smoothed_losses, label="smoothed")
        for marker, (name, rate) in zip("os^", self.suggestions.items(), strict=True):
            loss = np.interp(np.log(rate), np.log(self.learning_rates), self.smoothed_losses)
            axes.plot(rate, loss, marker, label=f"{name}: {rate:.2g}")
        axes.set(xscale="log", xlabel="learning rate", ylabel="training loss")
        axes.grid(alpha=0.3)
        axes.legend()
        return axes
