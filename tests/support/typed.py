"""What type checkers see of the package: mypy checks this file, and nothing runs it.

An error that is expected and does not come is one too, since mypy warns of an unused `ignore`.
"""

from typing import Any, assert_type

from nagd_keras import NAGD, callbacks, convert, directions, schedules
from nagd_keras.scalar import Scalar


def choices(model: Any) -> None:
    """One of a few words is told from any other."""
    NAGD(direction="adaptive", restart="gradient", sparse_updates="lazy", slot_dtype="bfloat16")
    NAGD(direction=directions.Orthogonal(iteration="muon"))
    NAGD(direction="adaptiv")  # type: ignore[arg-type]
    NAGD(restart="gradiant")  # type: ignore[arg-type]
    NAGD(sparse_updates="sparse")  # type: ignore[arg-type]
    NAGD(slot_dtype="float8")  # type: ignore[arg-type]
    NAGD(nesterov=True)  # type: ignore[call-arg]
    directions.Orthogonal(iteration="newton")  # type: ignore[arg-type]
    schedules.OneCycle(0.1, 1.0, 0.0, 100, anneal="cos")  # type: ignore[arg-type]
    callbacks.OneCycle(anneal="cos")  # type: ignore[arg-type]
    callbacks.AdaptiveRestart(mode="minimum")  # type: ignore[arg-type]
    convert.adopt(model, "adaptiv")  # type: ignore[arg-type]


def properties(optimizer: NAGD) -> None:
    """They have types of their own, so that an editor knows what they can do."""
    assert_type(optimizer.learning_rate, Scalar | Any)
    assert_type(optimizer.momentum, Scalar | Any)
    assert_type(optimizer.weight_decay, Scalar | Any)
    assert_type(optimizer.age, Scalar)
    assert_type(optimizer.restarts, Scalar)
    assert_type(optimizer.skipped_updates, Scalar)
    assert_type(optimizer.learning_rate_scale, Scalar | None)
    assert_type(float(optimizer.momentum), float)
    assert_type(int(optimizer.age), int)
    optimizer.momentum.numbr()  # type: ignore[union-attr]
    optimizer.age.numbr()  # type: ignore[attr-defined]
    assert_type(optimizer.age * 2, Any)
    if optimizer.age >= 10:
        optimizer.momentum = 0.95
    optimizer.momentum.assign(0.9)
    optimizer.momentum = "0.9"  # type: ignore[assignment]
    optimizer.learning_rate = schedules.OneCycle(0.1, 1.0, 0.0, 100)
