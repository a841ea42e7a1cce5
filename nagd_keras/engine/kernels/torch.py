"""Nesterov's update in PyTorch: many variables at once, in few passes over memory.

PyTorch has no operation that makes the whole update in one pass. On the CPU two passes of its
fused SGD make it; elsewhere some more of the operations that take lists of tensors. On the CPU the
variables are updated in batches that fit its cache, so that only the first pass over each waits
for memory.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any, TypeAlias, TypeVar, cast

import keras
import torch

from nagd_keras.directions.direction import Direction
from nagd_keras.engine.groups import same_shapes
from nagd_keras.engine.kernels import formula
from nagd_keras.engine.kernels import torch_ways as ways
from nagd_keras.engine.kernels.torch_ways import Tensors
from nagd_keras.engine.step import Restart, Step
from nagd_keras.keras_private import raw_value
from nagd_keras.rules.nesterov import Coefficients
from nagd_keras.rules.restart import factors, weighted

Function = TypeVar("Function", bound=Callable[..., Any])
Triple: TypeAlias = tuple[torch.Tensor, ...]  # w, s and g of one variable

# Elements of a batch: in float32, with displacements and gradients, 12 MiB. In smaller batches the
# start of the threads costs more than the cache saves.
BATCH = 2**20
PIECE = 2**18  # of a piece of which a direction is computed, in arrays of its own


def _without_gradients(function: Function) -> Function:
    """As `torch.no_grad` does, which takes as long as a pass over a small network, if need be."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return function(*args, **kwargs)
        with torch.no_grad():
            return function(*args, **kwargs)

    return cast(Function, call)


def update(steps: Sequence[Step], lazy: bool = False, restart: Restart | None = None) -> Any:
    """Makes the update of each variable in place; see the formula's `update`."""
    scheme = None if restart is None else restart.scheme
    tensors = [(raw_value(w), raw_value(s), g, c, scale) for w, s, g, c, scale, _ in steps]
    products = update_tensors(tensors, scheme)
    if restart is None:
        return None
    restarts = restart.decide(products)
    keras.ops.cond(restarts, lambda: _begin_anew(steps, restart.others), lambda: None)
    return restarts


@torch.no_grad()
def _begin_anew(steps: Sequence[Step], others: Sequence[Any]) -> None:
    """Takes from variables the displacements that an update has just added, and makes all zero."""
    for step in steps:
        w, s = _tensor(step.variable), _tensor(step.displacement)
        dtype = torch.promote_types(torch.promote_types(w.dtype, s.dtype), torch.float32)
        w.copy_(w.to(dtype) - s.to(dtype))
        s.zero_()
    for s in others:
        _tensor(s).zero_()


def direct_for(direction: Direction, variables: Sequence[Any], dtype: str) -> Any:
    """Returns what makes directions of gradients; see the formula's `direct_for`."""
    return torch.no_grad()(formula.direct_for(direction, variables, dtype))


def move_for(direction: Direction, variables: Sequence[Any], dtype: str) -> Any:
    """Returns what makes the updates of variables; see the formula's `move_for`.

    Of an elementwise direction small variables are joined, and a large one is cut into pieces: each
    operation makes an array of its own, which in the cache costs little.
    """
    plain = torch.no_grad()(formula.move_for(direction, variables, dtype, update))
    if not direction.elementwise or not all(same_shapes(direction, v) for v in variables):
        return plain

    @torch.no_grad()
    def move(steps: Sequence[Step], slots: Sequence[Mapping[str, Any]], t: Any, lazy: bool) -> None:
        rows = [
            [_tensor(step.variable), _tensor(step.displacement), step.gradient.contiguous()]
            + [_tensor(slot) for slot in each.values()]
            for step, each in zip(steps, slots, strict=True)
        ]
        kind = rows[0][0].dtype
        if torch.compiler.is_compiling() or not all(_simple(x, kind) for row in rows for x in row):
            plain(steps, slots, t, lazy)
            return
        t, c = keras.ops.cast(t, dtype), steps[0].coefficients
        for ws, ss, gs, *kept in _columns(rows):
            before = [_joined(xs) for xs in kept]
            d, after = direction.direct(_joined(gs), dict(zip(slots[0], before, strict=True)), t)
            for name, xs in zip(slots[0], kept, strict=True):
                torch._foreach_copy_(xs, _parted(after[name], xs))
            found = zip(ws, ss, _parted(d, ws), strict=True)
            update_tensors([(w, s, part, c, None) for w, s, part in found])

    return move


def _columns(rows: list[Tensors]) -> Iterator[list[Tensors]]:
    """Yields the first tensors of all rows, the second ones and so on; of one row in pieces."""
    if len(rows) > 1:
        yield [list(xs) for xs in zip(*rows, strict=True)]
        return
    for pieces in zip(*(torch.split(x.view(-1), PIECE) for x in rows[0]), strict=True):
        yield [[piece] for piece in pieces]


def _joined(xs: Tensors) -> torch.Tensor:
    return xs[0] if len(xs) == 1 else torch.cat([x.view(-1) for x in xs])


def _parted(joined: torch.Tensor, like: Tensors) -> Tensors:
    if len(like) == 1:
        return [joined]
    parts = joined.split([x.numel() for x in like])
    return [part.view(x.shape) for part, x in zip(parts, like, strict=True)]


def _simple(x: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether a tensor can be cut into pieces, and is of a dtype."""
    return type(x) in ways.TYPES and x.dtype is dtype in ways.DTYPES and x.is_contiguous()


def sum_of_squares(x: torch.Tensor) -> torch.Tensor:
    """Returns the sum of the squares of a tensor's elements, without a tensor of the squares."""
    norm: torch.Tensor = torch.linalg.vector_norm(x)
    return norm * norm


def _tensor(variable: Any) -> torch.Tensor:
    tensor: torch.Tensor | None = raw_value(variable)
    return getattr(variable, "value", variable) if tensor is None else tensor


@_without_gradients
def update_tensors(
    steps: Sequence[tuple[torch.Tensor, torch.Tensor, torch.Tensor, Coefficients, Any]],
    scheme: str | None = None,
) -> list[torch.Tensor]:
    """Makes Nesterov's update of each (variable, displacement, gradient) in place.

    Tensors of 16 bits, or of several dtypes, are computed with in float32 at least, and rounded
    once. Gradients stay as they are.

    Returns:
        What a restart scheme asks for, of each batch of variables, whose displacements are in the
        cache then.
    """
    products: list[torch.Tensor] = []
    if torch.compiler.is_compiling():  # The compiler makes one pass of the formula by itself.
        for w, s, g, c, scale in steps:
            ways.formula([w], [s], [g], c)
            products += [_restart_product(scheme, [s], [g], c, scale)] if scheme else []
        return products
    # Few coefficients serve many variables. By their numbers, and by their identities before.
    numbers: dict[Coefficients, Coefficients] = {}
    known: dict[int, Coefficients] = {}
    groups: dict[Any, tuple[Coefficients, Any, list[Triple]]] = {}
    least = ways.least()
    for w, s, g, c, scale in steps:
        same = known.get(id(c))
        if same is None:
            same = Coefficients(*map(_number, c))
            same = known[id(c)] = numbers.setdefault(same, same)
        if scheme and g.data_ptr() == w.data_ptr():
            g = g.clone()  # The caller looks at it once more, after the update.
        way = ways.way_for(w, s, g, least)
        key = (way, w.dtype, None if w.is_cpu else w.device, id(same), id(scale))
        groups.setdefault(key, (same, scale, []))[-1].append((w, s, g))
    for (way, *_), (c, scale, group) in groups.items():
        for ws, ss, gs in _batches(group):
            way(ws, ss, gs, c)
            if scheme:
                products.append(_restart_product(scheme, ss, gs, c, scale))
    return products


def _restart_product(scheme: str, ss: Tensors, gs: Tensors, c: Coefficients, scale: Any) -> Any:
    """Returns a restart scheme's inner product, by displacements after their update."""
    # Those of many tensors cost less if they are put into one.
    joined = (torch.cat([x.reshape(-1) for x in xs]) if len(xs) > 1 else xs[0] for xs in (ss, gs))
    s, g = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in joined)
    (g,) = ways.bounded([g], c.bound)
    a, b = (x.reshape(-1) for x in factors(scheme, g, s))
    return weighted(scheme, torch.dot(a, b), scale)


def _number(scalar: Any) -> Any:
    """Returns a scalar as a Python number, but as it is where that would wait for a device."""
    return scalar.detach().item() if isinstance(scalar, torch.Tensor) and scalar.is_cpu else scalar


def _batches(triples: list[Triple]) -> Iterator[tuple[Tensors, Tensors, Tensors]]:
    """Yields lists of variables, displacements and gradients, on a CPU such as fit its cache."""
    if not triples[0][0].is_cpu:
        yield _lists(triples)
        return
    batch: list[Triple] = []
    room = BATCH
    for triple in triples:
        elements = triple[0].numel()
        if elements > BATCH and ways.contiguous(triple):
            for piece in zip(*(torch.split(x.view(-1), BATCH) for x in triple), strict=True):
                yield _lists([piece])
            continue
        batch.append(triple)
        room -= elements
        if room <= 0:
            yield _lists(batch)
            batch, room = [], BATCH
    if batch:
        yield _lists(batch)


def _lists(triples: list[Triple]) -> tuple[Tensors, Tensors, Tensors]:
    ws, ss, gs = zip(*triples, strict=True)
    return list(ws), list(ss), list(gs)
