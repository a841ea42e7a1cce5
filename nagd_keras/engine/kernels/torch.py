"""Nesterov's update in PyTorch: many variables at once, in few passes over memory.

PyTorch has no operation that makes the whole update in one pass. On the CPU two passes of its
fused SGD make it; elsewhere some more of the operations that take lists of tensors. On the CPU the
variables are updated in batches that fit its cache, so that only the first pass over each waits
for memory.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

import keras
import torch

from nagd_keras.directions.direction import Direction
from nagd_keras.engine.groups import same_shapes
from nagd_keras.engine.kernels import formula
from nagd_keras.engine.step import Restart, Step
from nagd_keras.keras_private import raw_value
from nagd_keras.rules.nesterov import Coefficients, nesterov_update
from nagd_keras.rules.restart import factors, weighted

Tensors: TypeAlias = list[torch.Tensor]
Triple: TypeAlias = tuple[torch.Tensor, ...]  # w, s and g of one variable

# Elements of a batch: in float32, with displacements and gradients, 12 MiB. In smaller batches the
# start of the threads costs more than the cache saves.
BATCH = 2**20
# From this number of elements on, a tensor gains from the fused SGD. That starts all threads for
# each tensor, however small; the operations for lists do not.
LARGE = 2**12
PIECE = 2**18  # of a piece of which a direction is computed, in arrays of its own
DTYPES = torch.float32, torch.float64
TYPES = torch.nn.Parameter, torch.Tensor


def update(steps: Sequence[Step], lazy: bool = False, restart: Restart | None = None) -> Any:
    """Makes the update of each variable in place; see the formula's `update`."""
    scheme = None if restart is None else restart.scheme
    tensors = [(_tensor(w), _tensor(s), g, c, scale) for w, s, g, c, scale, _ in steps]
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

    On a CPU, piece by piece for a large variable of an elementwise direction: each operation makes
    an array of its own, which in the cache costs little.
    """
    plain = torch.no_grad()(formula.move_for(direction, variables, dtype, update))
    if len(variables) > 1 or not (direction.elementwise and same_shapes(direction, variables[0])):
        return plain

    @torch.no_grad()
    def move(steps: Sequence[Step], slots: Sequence[Mapping[str, Any]], t: Any, lazy: bool) -> None:
        (step,) = steps
        arrays = [_tensor(x) for x in (step.variable, step.displacement, *slots[0].values())]
        arrays.append(step.gradient)
        if torch.compiler.is_compiling() or not all(_simple(x, arrays[0].dtype) for x in arrays):
            plain(steps, slots, t, lazy)
            return
        t = keras.ops.cast(t, dtype)
        for w, s, *kept, g in zip(*(torch.split(x.view(-1), PIECE) for x in arrays), strict=True):
            d, after = direction.direct(g, dict(zip(slots[0], kept, strict=True)), t)
            if kept:
                torch._foreach_copy_(kept, [after[name] for name in slots[0]])
            update_tensors([(w, s, d, step.coefficients, None)])

    return move


def _simple(x: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether a tensor can be cut into pieces, and is of a dtype."""
    return type(x) in TYPES and x.dtype is dtype in DTYPES and x.is_contiguous()


def sum_of_squares(x: torch.Tensor) -> torch.Tensor:
    """Returns the sum of the squares of a tensor's elements, without a tensor of the squares."""
    norm: torch.Tensor = torch.linalg.vector_norm(x)
    return norm * norm


def _tensor(variable: Any) -> torch.Tensor:
    tensor: torch.Tensor | None = raw_value(variable)
    return getattr(variable, "value", variable) if tensor is None else tensor


@torch.no_grad()
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
            _formula([w], [s], [g], c)
            products += [_restart_product(scheme, [s], [g], c, scale)] if scheme else []
        return products
    # Few coefficients serve many variables. By their numbers, and by their identities before.
    numbers: dict[Coefficients, Coefficients] = {}
    known: dict[int, Coefficients] = {}
    groups: dict[Any, tuple[Coefficients, Any, list[Triple]]] = {}
    for w, s, g, c, scale in steps:
        same = known.get(id(c))
        if same is None:
            same = Coefficients(*map(_number, c))
            same = known[id(c)] = numbers.setdefault(same, same)
        if scheme and g.data_ptr() == w.data_ptr():
            g = g.clone()  # The caller looks at it once more, after the update.
        way = _way_for(w, s, g)
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
    (g,) = _bounded([g], c.bound)
    a, b = (x.reshape(-1) for x in factors(scheme, g, s))
    return weighted(scheme, torch.dot(a, b), scale)


def _number(scalar: Any) -> Any:
    """Returns a scalar as a Python number, but as it is where that would wait for a device."""
    return scalar.detach().item() if isinstance(scalar, torch.Tensor) and scalar.is_cpu else scalar


def _way_for(w: torch.Tensor, s: torch.Tensor, g: torch.Tensor) -> Callable[..., None]:
    """Returns the fastest of the ways below that these tensors can go."""
    # Other types, such as tensors that are spread over devices, know the plain operations best.
    if not (w.dtype is s.dtype is g.dtype and w.dtype in DTYPES and type(w) in TYPES):
        return _formula
    if g.data_ptr() == w.data_ptr() and w.numel():  # A gradient that the first pass would change.
        return _formula
    # The fused SGD takes tensors for contiguous without a look.
    if w.numel() >= LARGE and w.is_cpu and _contiguous((w, s, g)) and _has_fused():
        return _fused
    return _foreach


def _contiguous(tensors: Iterable[torch.Tensor]) -> bool:
    return all(x.is_contiguous() for x in tensors)


def _batches(triples: list[Triple]) -> Iterator[tuple[Tensors, Tensors, Tensors]]:
    """Yields lists of variables, displacements and gradients, on a CPU such as fit its cache."""
    if not triples[0][0].is_cpu:
        yield _lists(triples)
        return
    batch: list[Triple] = []
    room = BATCH
    for triple in triples:
        elements = triple[0].numel()
        if elements > BATCH and _contiguous(triple):
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


def _formula(ws: Tensors, ss: Tensors, gs: Tensors, c: Coefficients) -> None:
    """Any tensors: the formula as it stands."""
    unbounded = c._replace(bound=None)
    for w, s, g in zip(ws, ss, gs, strict=True):
        dtype = torch.promote_types(w.dtype, torch.promote_types(s.dtype, g.dtype))
        dtype = torch.promote_types(dtype, torch.float32)
        # Bounded here, as Keras would round a number to its default dtype, and only when it is
        # wide, as PyTorch would round the bound to 16 bits.
        (wide,) = _bounded([g.to(dtype)], c.bound)
        w_next, s_next = nesterov_update(w.to(dtype), s.to(dtype), wide, unbounded)
        s.copy_(s_next)
        w.copy_(w_next)


def _foreach(ws: Tensors, ss: Tensors, gs: Tensors, c: Coefficients) -> None:
    """Tensors of one dtype on one device: the operations for lists."""
    gs = _bounded(gs, c.bound)
    if any(isinstance(x, torch.Tensor) for x in c):
        _foreach_by_tensors(ws, ss, gs, c)
        return
    if c.decay is not None:
        torch._foreach_add_(ws, ws, alpha=-c.decay)
    # On the CPU a number would be made a tensor again for each of the list.
    m = torch.tensor(c.momentum, dtype=ss[0].dtype) if ss[0].is_cpu else c.momentum
    torch._foreach_mul_(ss, m)
    torch._foreach_add_(ss, gs, alpha=-c.carried)
    torch._foreach_add_(ws, gs, alpha=-c.step)
    torch._foreach_add_(ws, ss)


def _foreach_by_tensors(ws: Tensors, ss: Tensors, gs: Tensors, c: Coefficients) -> None:
    """With coefficients on the device, which as factors, not as `alpha`, are not waited for."""
    dtype = ws[0].dtype
    c = Coefficients(*(x.to(dtype) if isinstance(x, torch.Tensor) else x for x in c))
    if c.decay is not None:
        torch._foreach_sub_(ws, torch._foreach_mul(ws, c.decay))
    torch._foreach_mul_(ss, c.momentum)
    torch._foreach_sub_(ss, torch._foreach_mul(gs, c.carried))
    torch._foreach_sub_(ws, torch._foreach_mul(gs, c.step))
    torch._foreach_add_(ws, ss)


def _fused(ws: Tensors, ss: Tensors, gs: Tensors, c: Coefficients) -> None:
    """Contiguous tensors of one dtype on the CPU: two passes of the fused SGD.

    Of a parameter p and its buffer b, with the dampening d, it makes

        b <- m b + (1 - d) g
        p <- p - lr b

    With b = s, d = 1 + m eps and lr = -1 these are s_{t+1} and w + s_{t+1}. Before that, a pass
    without a buffer makes w <- w - eps (g + lambda w).
    """
    dampening = 1 + c.carried
    # 1 - d lacks the last digits of m eps: none that float32 has, unless it is tiny.
    lost = abs(1 - dampening + c.carried)
    # Without momentum there would be no buffer.
    if c.momentum == 0 or lost > torch.finfo(ws[0].dtype).eps / 8 * c.carried:
        _foreach(ws, ss, gs, c)
        return
    gs = _bounded(gs, c.bound)
    decay = c.decay or 0.0
    if decay > c.step:  # Of a gradient that was scaled down, lambda may be out of range here.
        torch._foreach_add_(ws, ws, alpha=-decay)
        decay = 0.0
    _sgd(ws, gs, [], lr=c.step, weight_decay=decay and decay / c.step)
    _sgd(ws, gs, ss, lr=-1.0, momentum=c.momentum, dampening=dampening)


def _bounded(gs: Tensors, bound: Any) -> Tensors:
    return gs if bound is None else [g.clamp(-bound, bound) for g in gs]


def _sgd(ps: Tensors, gs: Tensors, bs: Tensors, **settings: float) -> None:
    # `torch.optim.sgd.sgd` is public and comes to the same, but sorts the lists at each call: for a
    # large variable, in batches, nearly a tenth of the time.
    settings = {"momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0, **settings}
    torch._fused_sgd_(ps, gs, bs, **settings, nesterov=False, maximize=False, is_first_step=False)


@cache
def _has_fused() -> bool:
    """Whether the operation, a private one, is there for the CPU and does what `_fused` says."""
    w, s, g = (torch.full((2,), x, dtype=torch.float32, device="cpu") for x in (3.0, 2.0, 1.0))
    try:
        _fused([w], [s], [g], Coefficients(momentum=0.5, step=0.5, carried=0.25, decay=0.25))
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False
    return bool(w.tolist() == [2.5, 2.5] and s.tolist() == [0.75, 0.75])
