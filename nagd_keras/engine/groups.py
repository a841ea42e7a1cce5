"""Groups of variables whose directions one call computes.

Small variables are grouped, since a call for each would cost more than its arithmetic.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from nagd_keras.directions.direction import Direction

# The elements of a small variable at most, and of a group. For larger ones the arithmetic costs
# more than the calls, and joining them would cost memory.
SMALL, MOST = 2**16, 2**19
# The same for elementwise directions, which have less arithmetic.
LESS = 2**14, 2**18


class Group(NamedTuple):
    """Some variables of one direction.

    Attributes:
        direction: the direction of all of them.
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
        directions: the direction of each variable.
        variables: all that the optimizer is built for.
        dtypes: the dtype in which each is computed.
        devices: the device of each.
        kernels: the module that computes them.
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
