"""Nesterov's update as operations of Keras: the way of a backend that fuses them, or of any."""

from collections.abc import Mapping, Sequence
from typing import Any

from keras import ops

from nagd_keras.backends.current import current
from nagd_keras.directions.direction import Direction
from nagd_keras.engine.step import Restart, Step
from nagd_keras.rules.nesterov import bounded, nesterov_update, next_displacement
from nagd_keras.rules.restart import factors, weighted
from nagd_keras.tensors import computed_in, tensor


def update(steps: Sequence[Step], lazy: bool = False, restart: Restart | None = None) -> Any:
    """Makes the update of each variable, and restarts if that is to be.

    Args:
        steps: the updates; gradients are tensors, or rows that are there once.
        lazy: whether rows that a gradient does not have stay, and so do their displacements.
        restart: how to decide about a restart, or None.

    Returns:
        Whether it restarted: a boolean tensor, or None if there was nothing to decide.
    """
    restarts = None
    if restart is not None:
        # What it is decided by costs a pass of its own; to undo would cost copies.
        restarts = restart.decide([_product(restart.scheme, step) for step in steps])
        for s in restart.others:
            current.assign(s, ops.where(restarts, ops.zeros_like(tensor(s)), tensor(s)))
    for w, s, g, c, *_ in steps:
        dtype = computed_in(w, s)
        c = c if restarts is None else c.restarted(restarts, dtype)
        w_now, s_now, g_now = (ops.cast(x, dtype) for x in (w, s, g))
        w_next, s_next = nesterov_update(w_now, s_now, g_now, c)
        current.assign(s, ops.cast(s_next, s.dtype))
        current.assign(w, ops.cast(w_next, w.dtype))
    return restarts


def _product(scheme: str, step: Step) -> Any:
    """Returns a restart scheme's inner product for a variable, before its update."""
    w, s, g, c, scale, slope = step
    s_now, g_now = (ops.cast(x, computed_in(w, s)) for x in (s, g))
    slope = bounded(g_now, c.bound) if slope is None else slope
    a, b = factors(scheme, slope, next_displacement(s_now, g_now, c))
    return weighted(scheme, ops.sum(a * b), scale)


def direct_for(direction: Direction, variables: Sequence[Any], dtype: str) -> Any:
    """Returns what makes directions of gradients, and keeps what the direction remembers.

    Args:
        direction: that of all of the variables.
        variables: of which each call has some.
        dtype: in which it is computed.

    Returns:
        A function of gradients, of the slots of each by their names, and of the number of this
        update. Where a gradient has some rows only, it does that to these.
    """

    def direct(gradients: Sequence[Any], slots: Sequence[Mapping[str, Any]], t: Any) -> list[Any]:
        pairs = list(zip(gradients, slots, strict=True))
        before = [
            {name: ops.cast(current.rows_of(slot, g), dtype) for name, slot in each.items()}
            for g, each in pairs
        ]
        values = [current.values(g) for g in gradients]
        found, after = direction.direct_all(values, before, ops.cast(t, dtype))
        for (g, each), new in zip(pairs, after, strict=True):
            for name, slot in each.items():
                current.assign_rows(slot, g, ops.cast(new[name], slot.dtype))
        return [current.with_values(g, d) for g, d in zip(gradients, found, strict=True)]

    return direct


def move_for(
    direction: Direction, variables: Sequence[Any], dtype: str, update: Any = update
) -> Any:
    """Returns what makes the updates of variables along their directions, where none restarts.

    Args:
        direction: see `direct_for`.
        variables: see `direct_for`.
        dtype: see `direct_for`.
        update: makes them once the directions are known.

    Returns:
        A function of steps, whose gradients are the clipped ones, and whose coefficients are the
        same; of the slots of each variable by their names, of the number of this update, and of
        `update`'s lazy.
    """
    direct = direct_for(direction, variables, dtype)

    def move(steps: Sequence[Step], slots: Sequence[Any], t: Any, lazy: bool) -> None:
        found = direct([step.gradient for step in steps], slots, t)
        pairs = zip(steps, found, strict=True)
        update([step._replace(gradient=d) for step, d in pairs], lazy)

    return move


def sum_of_squares(x: Any) -> Any:
    """Returns the sum of the squares of a tensor's elements."""
    return ops.sum(ops.square(x))
