"""What is reported of a training run that diverged."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_REPORTED = 20  # the last events


@dataclass(frozen=True)
class Divergence:
    """What a `DivergenceGuard` went back from, and to.

    Attributes:
        epoch: counted from 1, as Keras prints it.
        batch: the batches of the epoch that were done, this one included.
        seen: what was wrong, in words.
        value: the loss of the batch.
        limit: the largest loss that would have been good.
        restored: when the state that was restored was that of the training, in words.
        learning_rate: the learning rate from there on.
        is_of_rate: whether it cannot be put down to a spoiled batch.
    """

    epoch: int
    batch: int
    seen: str
    value: float
    limit: float
    restored: str
    learning_rate: float
    is_of_rate: bool = False

    def __str__(self) -> str:
        """Returns a line of a report."""
        return (
            f"epoch {self.epoch}, batch {self.batch}: {self.seen}; back to {self.restored}, "
            f"learning rate {self.learning_rate:.4g}"
        )


def report(
    events: Sequence[Divergence], max_rollbacks: int, left_out: int, advice: str = ""
) -> str:
    """Returns what there is to say of a run that was stopped at the last of the events."""
    last = events[-1]
    seen = "\n".join(f"  {event}" for event in events[-_REPORTED:])
    return (
        f"DivergenceGuard stopped training in epoch {last.epoch}, at a bad batch after "
        f"{max_rollbacks} rollbacks (max_rollbacks). The model has its last good state, that of "
        f"{last.restored}. What was seen last:\n{seen}\n"
        f"Batches that were put down to the data besides: {left_out}. Look at the data of these "
        "batches: NAGD(skip_nonfinite=True) and DivergenceGuard(patience=2) leave out spoiled "
        "ones. If they are sound, lower the learning rate or clip the gradients."
        f"{advice and f' {advice}.'}"
    )


def named(variables: Sequence[Any]) -> str:
    """Returns the paths of variables, or of the first of many."""
    paths = [variable.path for variable in variables]
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
