"""What a learning-rate range test found."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from nagd_keras.figures import new_axes


class Suggestion(NamedTuple):
    """A learning rate to train with.

    Attributes:
        rate: the learning rate.
        is_sure: whether the loss fell clearly in a trial with it.
        reason: why this one, in words.
    """

    rate: float
    is_sure: bool
    reason: str


@dataclass(frozen=True, eq=False, repr=False)  # Arrays have no single truth.
class LearningRateSweep:
    """The losses of training with a rising learning rate, one batch for each.

    Attributes:
        learning_rates: the learning rates that were tried, rising; shape (n,).
        losses: the loss of each batch, before its update; shape (n,).
        smoothed_losses: their exponential moving average, corrected for its start; shape (n,).
        suggestion: the result of finer sweeps and trials, or None without any.
    """

    learning_rates: np.ndarray
    losses: np.ndarray
    smoothed_losses: np.ndarray
    suggestion: Suggestion | None = None

    @property
    def suggested(self) -> float:
        """The learning rate to train with; without trials, `minimum`."""
        return self.minimum if self.suggestion is None else self.suggestion.rate

    @property
    def is_sure(self) -> bool:
        """Whether a trial showed that the model trains with the suggested rate."""
        return self.suggestion is not None and self.suggestion.is_sure

    @property
    def falls(self) -> bool:
        """Whether the smoothed loss fell by more than twice the scatter of the batches' losses.

        If it fell by less, that may be chance, and the suggestions mean nothing.
        """
        losses, smoothed = self.losses[self._fall()], self.smoothed_losses[self._fall()]
        if len(losses) < 2:
            return False
        # Of the differences, since those of neighbours do not show the fall itself.
        scatter = np.sqrt(np.mean(np.diff(losses) ** 2) / 2)
        return bool(np.max(smoothed) - smoothed[-1] > 2 * scatter)

    def _fall(self) -> slice:
        """Returns the steps up to the smallest smoothed loss.

        It leaves out the first tenth, where the average still holds few losses.
        """
        return slice(len(self.losses) // 10, int(np.argmin(self.smoothed_losses)) + 1)

    @property
    def minimum(self) -> float:
        """A tenth of the learning rate at which the smoothed loss was smallest.

        If that is below the smallest rate that was tried, it is that one.
        """
        tenth = float(self.learning_rates[np.argmin(self.smoothed_losses)]) / 10
        return max(tenth, float(self.learning_rates[0]))

    @property
    def steepest(self) -> float:
        """The learning rate at which the smoothed loss fell fastest, before its minimum."""
        rates, losses = self.learning_rates[self._fall()], self.smoothed_losses[self._fall()]
        if len(losses) < 2:  # It only rose.
            return float(self.learning_rates[0])
        return float(rates[np.argmin(np.gradient(losses, np.log(rates)))])

    @property
    def valley(self) -> float:
        """The learning rate half way down the longest fall of the smoothed loss.

        The longest fall is the longest subsequence of falling losses, so noise does not end it.
        This is fastai's rule, and the most careful of the three: a sweep that begins far below the
        rates that train makes it smaller.
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
        """What the rules of the literature suggest, by their names."""
        return {"steepest": self.steepest, "minimum": self.minimum, "valley": self.valley}

    def __repr__(self) -> str:
        rates = self.learning_rates
        found = ", ".join(f"{name}={rate:.3g}" for name, rate in self.suggestions.items())
        tried = f"{len(rates)} learning rates from {rates[0]:.3g} to {rates[-1]:.3g}"
        why = "" if self.suggestion is None else f" ({self.suggestion.reason})"
        return f"<LearningRateSweep of {tried}: suggested={self.suggested:.3g}{why}; {found}>"

    def plot(self, ax: Any = None) -> Any:
        """Draws the losses over the learning rate, with the suggestions.

        Args:
            ax: matplotlib axes to draw into; new ones if None.

        Returns:
            The axes.

        Raises:
            ImportError: without matplotlib, which the extra `plot` brings.
        """
        ax = new_axes() if ax is None else ax
        ax.plot(self.learning_rates, self.losses, color="0.75", label="loss of a batch")
        ax.plot(self.learning_rates, self.smoothed_losses, label="smoothed")
        for marker, (name, rate) in zip("os^", self.suggestions.items(), strict=True):
            loss = np.interp(np.log(rate), np.log(self.learning_rates), self.smoothed_losses)
            ax.plot(rate, loss, marker, label=f"{name}: {rate:.2g}")
        said = f"suggested: {self.suggested:.2g}"
        ax.axvline(self.suggested, color="black", linestyle="--", label=said)
        # Batches that explode would leave no height for the rest.
        low, high = np.min(self.losses), np.quantile(self.losses, 0.9)
        margin = 0.1 * (high - low) or 1.0
        ax.set_ylim(low - margin, high + margin)
        ax.set(xscale="log", xlabel="learning rate", ylabel="training loss")
        ax.grid(alpha=0.3)
        ax.legend()
        return ax
