"""Nesterov's update of lists of tensors in PyTorch, in each way that there is.

A way takes variables, displacements and gradients, and coefficients that are the same for all.
"""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, TypeAlias

import torch

from nagd_keras.rules.nesterov import Coefficients, nesterov_update

Tensors: TypeAlias = list[torch.Tensor]
Way: TypeAlias = Callable[[Tensors, Tensors, Tensors, Coefficients], None]

# From this number of elements on, a tensor gains from the fused SGD. That starts all threads for
# each tensor, however small; the operations for lists do not. Of one thread it is always the best.
LARGE = 2**13
DTYPES = torch.float32, torch.float64
TYPES = torch.nn.Parameter, torch.Tensor


def least() -> int:
    """Returns the number of elements from which on a tensor goes by the fused SGD."""
    return LARGE if torch.get_num_threads() > 1 else 1


def way_for(w: torch.Tensor, s: torch.Tensor, g: torch.Tensor, least: int) -> Way:
    """Returns the fastest of the ways below that these tensors can go."""
    dtype = w.dtype
    # Other types, such as tensors that are spread over devices, know the plain operations best.
    if not (s.dtype is dtype is g.dtype and dtype in DTYPES and type(w) in TYPES):
        return formula
    elements = w.numel()
    if g.data_ptr() == w.data_ptr() and elements:  # A gradient that the first pass would change.
        return formula
    # The fused SGD takes tensors for contiguous without a look.
    if elements >= least and w.is_cpu and contiguous((w, s, g)) and has_fused():
        return fused
    return foreach


def contiguous(tensors: Iterable[torch.Tensor]) -> bool:
    """Whether all tensors lie in memory without gaps."""
    return all(x.is_contiguous() for x in tensors)


def formula(ws: Tensors, ss: Tensors, gs: Tensors, c: Coefficients) -> None:
    """Any tensors: the formula as it stands."""
    unbounded = c._replace(bound=None)
    for w, s, g in zip(ws, ss, gs, strict=True):
        dtype = torch.promote_types(w.dtype, torch.promote_types(s.dtype, g.dtype))
        dtype = torch.promote_types(dtype, torch.float32)
        # Bounded here, as Keras would round a number to its default dtype, and only when it is
        # wide, as PyTorch would round the bound to 16 bits.
        (wide,) = bounded([g.to(dtype)], c.bound)
        w_next, s_next = nesterov_update(w.to(dtype), s.to(dtype), wide, unbounded)
        s.copy_(s_next)
        w.copy_(w_next)


def foreach(ws: Tensors, ss: Tensors, gs: Tensors, c: Coefficients) -> None:
    """Tensors of one dtype on one device: the operations for lists."""
    gs = bounded(gs, c.bound)
    if any(isinstance(x, torch.Tensor) for x in c):
        _foreach_by_tensors(ws, ss, gs, c)
        return
    if c.decay is not None:
        torch._foreach_add_(ws, ws, alpha=-c.decay)
    # On the CPU a number would be made a tensor again for each of the list.
    m = torch.scalar_tensor(c.momentum, dtype=ss[0].dtype) if ss[0].is_cpu else c.momentum
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


def fused(ws: Tensors, ss: Tensors, gs: Tensors, c: Coefficients) -> None:
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
        foreach(ws, ss, gs, c)
        return
    gs = bounded(gs, c.bound)
    decay = c.decay or 0.0
    if decay > c.step:  # Of a gradient that was scaled down, lambda may be out of range here.
        torch._foreach_add_(ws, ws, alpha=-decay)
        decay = 0.0
    _sgd(ws, gs, [], lr=c.step, weight_decay=decay and decay / c.step)
    _sgd(ws, gs, ss, lr=-1.0, momentum=c.momentum, dampening=dampening)


def bounded(gs: Tensors, bound: Any) -> Tensors:
    """Returns gradients with their elements clipped to [-bound, bound]; as they are for None."""
    return gs if bound is None else [g.clamp(-bound, bound) for g in gs]


def _sgd(ps: Tensors, gs: Tensors, bs: Tensors, **settings: float) -> None:
    # `torch.optim.sgd.sgd` is public and comes to the same, but sorts the lists at each call: for a
    # large variable, in batches, nearly a tenth of the time.
    settings = {"momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0, **settings}
    torch._fused_sgd_(ps, gs, bs, **settings, nesterov=False, maximize=False, is_first_step=False)


@cache
def has_fused() -> bool:
    """Whether the operation, a private one, is there for the CPU and does what `fused` says."""
    w, s, g = (torch.full((2,), x, dtype=torch.float32, device="cpu") for x in (3.0, 2.0, 1.0))
    try:
        fused([w], [s], [g], Coefficients(momentum=0.5, step=0.5, carried=0.25, decay=0.25))
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False
    return bool(w.tolist() == [2.5, 2.5] and s.tolist() == [0.75, 0.75])
