"""Reading a monitored quantity from the logs, and which way it should go."""

import math
import warnings
from typing import Any, Literal, TypeAlias, get_args

from nagd_keras.arguments import choice
from nagd_keras.tensors import number

Mode: TypeAlias = Literal["auto", "min", "max"]
_RISING = ("acc", "auc", "precision", "recall", "f1", "iou", "r2", "cosine_similarity")
_FALLING = ("loss", "error", "mse", "mae", "mape", "msle", "crossentropy", "divergence", "poisson")


def checked_monitor(monitor: Any) -> str:
    """Returns the name of a quantity; raises TypeError if it is not text."""
    if not isinstance(monitor, str):
        raise TypeError(f"`monitor` must be a name in the logs. Received: monitor={monitor!r}.")
    return monitor


def is_rising(monitor: str, mode: str) -> bool:
    """Returns whether larger is better.

    Raises:
        ValueError: for an unknown mode, or if "auto" cannot tell from the name.
    """
    if choice("mode", mode, get_args(Mode)) != "auto":
        return mode == "max"
    found = rises(monitor)
    if found is None:
        raise ValueError(
            f"Whether {monitor!r} should fall or rise cannot be told from its name. Received: "
            f'monitor={monitor!r}, mode="auto". Pass mode="min" or mode="max".'
        )
    return found


def rises(monitor: str) -> bool | None:
    """Returns whether larger is better, or None if the name does not tell."""
    # The last word counts: with several outputs, Keras puts their names before.
    falling, rising = (max(map(monitor.rfind, names)) for names in (_FALLING, _RISING))
    return None if falling == rising else rising > falling


class Monitored:
    """A quantity in the logs; warns once, as Keras does, if the logs lack it."""

    def __init__(self, monitor: str, who: str) -> None:
        """Takes the name in the logs, and the name of the callback that reads it."""
        self.monitor = checked_monitor(monitor)
        self._who = who
        self._warned = False

    def read(self, logs: dict[str, Any] | None) -> float | None:
        """Returns the quantity, or None if it is missing or NaN."""
        logs = logs or {}
        if self.monitor not in logs:
            if not self._warned:
                warnings.warn(
                    f"{self._who} is conditioned on metric `{self.monitor}` which is not "
                    f"available. Available metrics are: {','.join(logs)}.",
                    stacklevel=2,
                )
            self._warned = True
            return None
        value = number(logs[self.monitor])
        return None if math.isnan(value) else value


class RunningMean:
    """Takes apart Keras' logs of a batch, which are means since the epoch began."""

    def __init__(self) -> None:
        """Begins an epoch."""
        self._count = 0
        self._sum = 0.0

    def since_last(self, batches: int, mean: float) -> float:
        """Returns the mean over the batches since the last call.

        Args:
            batches: the number of batches since the epoch began, all of the same size.
            mean: the mean over all of them.
        """
        count, total = self._count, self._sum
        self._count, self._sum = batches, batches * mean
        return (self._sum - total) / (batches - count)

    def rounding(self) -> float:
        """Returns how far rounding may move two equal means apart.

        Keras sums in float32: each of the n additions of a window is wrong by up to a unit
        roundoff of the sum, and the mean at either end by one of its own. Over n, that is at most
        3 units of the sum for each of the two.
        """
        return 6 * 2.0**-24 * abs(self._sum)
