"""Variables whose directions are computed at once: small ones, of which each call costs more."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from nagd_keras.directions.direction import Direction

# Elements of a variable that is small, and of a group. Of larger ones the arithmetic costs more
# than the calls, and to join them would cost memory.
SMALL, MOST = 2**16, 2**19
# The same of an elementwise direction, of which there is less arithmetic.
LESS = 2**14, 2**18


class Group(NamedTuple):
    """Some variables of one direction.

    Attributes:
        direction: theirs.
        direct: what makes their directions; see the formula's `direct_for`.
        move: what makes their updates; see the formula's `move_for`.
    """

    direction: Direction
    direct: Callable[..., list[Any]]
    move: Callable[..., None]


def grouped(
    directions: Sequence[Direction],
    variables: Sequence[Any],
    dtypes: Sequence[str],
    devices: Sequence[str],
    kernels: Any,
) -> list[Group]:
    """Returns the group of each variable.

    Args:
        directions: of each variable.
        variables: all that the optimizer is built for.
        dtypes: in which each is computed.
        devices: where each is.
        kernels: the module of those that compute them.
    """
    sizes = [math.prod(variable.shape) for variable in variables]
    alike: dict[Any, list[list[int]]] = {}
    for n, (direction, *kind) in enumerate(zip(directions, dtypes, devices, strict=True)):
        small, most = LESS if direction.elementwise else (SMALL, MOST)
        parts = alike.setdefault((id(direction), *kind, n if sizes[n] > small else -1), [[]])
        if parts[-1] and sum(sizes[i] for i in parts[-1]) + sizes[n] > most:
            parts.append([])
        parts[-1].append(n)
    found: dict[int, Group] = {}
    for members in (part for parts in alike.values() for part in parts):
        direction = directions[members[0]]
        own = direction, [variables[i] for i in members], dtypes[members[0]]
        group = Group(direction, kernels.direct_for(*own), kernels.move_for(*own))
        found |= dict.fromkeys(members, group)
    return [found[n] for n in range(len(variables))]


def same_shapes(direction: Direction, variable: Any) -> bool:
    """Whether a direction's slots of a variable all have its shape."""
    shape = tuple(variable.shape)
    return all(direction.slot_shape(name, shape) == shape for name in direction.slots)
