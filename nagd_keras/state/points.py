"""Which of Nesterov's two points the model's variables hold, and the way from one to the other."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import keras

from nagd_keras.backends.current import current
from nagd_keras.rules.nesterov import iterate, look_ahead
from nagd_keras.tensors import tensor, wide_dtype


class Points:
    """Swaps variables between the look-ahead point, where they train, and the iterate.

    theta = w - s is rounded, so theta + s is not always w again. While the variables hold the
    iterate, this object therefore remembers the look-ahead point, and the optimizer's state saves
    it, so that training goes on from the same bits. The memory counts only as long as it explains
    what the variables hold. If they were set to something else meanwhile, that is the new iterate.

    If a swap is interrupted between two variables, the next swap completes or undoes it:
    `at_iterate` becomes True before the first variable moves, and False after the last one is back.

    Attributes:
        at_iterate: whether the variables hold the iterate.
    """

    def __init__(self) -> None:
        """Begins at the look-ahead point."""
        self.at_iterate = False
        self._remembered: dict[int, Any] | None = None  # by the variables' places
        self._ways: dict[Any, Any] = {}

    def to_iterate(self, variables: Sequence[Any], displacements: Sequence[Any]) -> None:
        """Makes the variables hold the iterate, if they do not."""
        if self.at_iterate:
            return
        moving = _moving(variables, displacements)
        ws, thetas = self._at_once(_leave, moving, variables, displacements)()
        self._remembered = dict(zip(moving, ws, strict=True))
        self.at_iterate = True
        for i, theta in zip(moving, thetas, strict=True):
            variables[i].assign(theta)

    def to_look_ahead(self, variables: Sequence[Any], displacements: Sequence[Any]) -> None:
        """Makes the variables hold the look-ahead point, if they do not."""
        if not self.at_iterate:
            return
        remembered = self._remembered
        # Those that moved, though they may be frozen by now.
        moved = _moving(variables, displacements) if remembered is None else list(remembered)
        ws = None if remembered is None else [*remembered.values()]
        found = self._at_once(_come_back, moved, variables, displacements)(ws)
        self._remembered = values = dict(zip(moved, found, strict=True))
        for i, value in values.items():
            variables[i].assign(value)
        self.forget()

    def _at_once(
        self, way: Any, moving: list[int], variables: Sequence[Any], displacements: Sequence[Any]
    ) -> Any:
        """Returns a way of some variables, as a function that is made once."""
        pairs = [(variables[i], displacements[i]) for i in moving]
        if not current.in_place():  # In a scope without state the function would keep its values.
            return partial(way, pairs)
        key = way, *(id(x) for pair in pairs for x in pair)
        if key not in self._ways:
            self._ways[key] = current.at_once(partial(way, pairs))
        return self._ways[key]

    def forget(self) -> None:
        """Accepts what the variables hold as the look-ahead point."""
        self.at_iterate, self._remembered = False, None

    def remembered(self) -> dict[int, Any]:
        """Returns the look-ahead point, by the places of the variables that have left it."""
        return dict(self._remembered or {}) if self.at_iterate else {}

    def remember(self, at_iterate: bool, point: Mapping[int, Any]) -> None:
        """Takes over what was saved."""
        self.at_iterate = at_iterate
        self._remembered = {i: keras.ops.convert_to_tensor(w) for i, w in point.items()} or None


def _moving(variables: Sequence[Any], displacements: Sequence[Any]) -> list[int]:
    """Returns the places of the variables that train.

    Variables without a displacement take no update. Variables that were frozen after some training
    have an old one, but the trained function has them where they are.
    """
    pairs = zip(variables, displacements, strict=True)
    return [i for i, (w, s) in enumerate(pairs) if s is not None and w.trainable]


def _leave(pairs: Sequence[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
    """Returns what variables hold, in memory of its own, and their iterates."""
    return [keras.ops.copy(tensor(w)) for w, _ in pairs], [_moved(iterate, *p) for p in pairs]


def _come_back(pairs: Sequence[tuple[Any, Any]], remembered: list[Any] | None) -> list[Any]:
    """Returns the look-ahead points of variables, the remembered ones where these explain them."""
    found = [_moved(look_ahead, *pair) for pair in pairs]
    if remembered is None:
        return found
    triples = zip(remembered, found, pairs, strict=True)
    return [keras.ops.where(_explains(w, *pair), w, x) for w, x, pair in triples]


def _moved(rule: Any, x: Any, s: Any) -> Any:
    """Returns rule(x, s), computed in no less than float32 and rounded once to the dtype of x."""
    wide = wide_dtype(x)
    return keras.ops.cast(rule(keras.ops.cast(x, wide), keras.ops.cast(s, wide)), x.dtype)


def _explains(w: Any, variable: Any, s: Any) -> Any:
    """Where a variable holds the iterate of a look-ahead point w, or w itself already."""
    x = tensor(variable)
    return keras.ops.logical_or(keras.ops.equal(_moved(iterate, w, s), x), keras.ops.equal(w, x))
