"""PyTorch's side: its device, a copy there, steps, and its own optimizers as the peers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import torch

from benchmarks.accelerator.race import Call, Maker
from benchmarks.update.torch import step_of

__all__ = ["copy", "device", "forget_peak", "memory", "peers", "precision", "step_of", "wait"]

NAME, PEERS = "PyTorch", "torch"
# What `torch.set_float32_matmul_precision` takes; PyTorch's Muon multiplies in bfloat16 always.
PRECISIONS = "highest", "high"


def _kind() -> str:
    return keras.ops.ones(()).device.type  # where Keras puts its variables


def device() -> tuple[str, str]:
    """Returns the device's kind, "cpu" for none, and its name."""
    kind = _kind()
    name = torch.cuda.get_device_name() if kind == "cuda" else kind
    return kind, f"{torch.__version__}, {name}"


def wait(result: Any) -> None:
    """Waits until the device has done all that it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    elif _kind() != "cpu":
        torch.accelerator.synchronize()


def memory() -> tuple[int, int] | None:
    """Returns the bytes that are in use and that were so at most, where the device tells."""
    if _kind() != "cuda":
        return None
    return torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()


def forget_peak() -> None:
    """Lets the peak begin anew."""
    if _kind() == "cuda":
        torch.cuda.reset_peak_memory_stats()


@contextmanager
def precision(name: str) -> Iterator[None]:
    """A context in which products of float32 matrices are computed so."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def copy(elements: int) -> Call:
    """Returns calls of a copy of so many float32."""
    source = keras.ops.ones(elements)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def peers(kind: str, weights: Callable[[], list[Any]]) -> Iterator[tuple[str, Maker]]:
    """Yields makers of the updates of tensors by PyTorch's own optimizers."""

    def made() -> list[Any]:
        found = [torch.nn.Parameter(w.detach().clone()) for w in weights()]
        for each in found:
            each.grad = 1e-3 * each.detach()
        return found

    optim = torch.optim
    momentum: dict[str, Any] = {"lr": 0.01, "momentum": 0.9, "nesterov": True}
    makers: dict[str, dict[str, Maker]] = {
        "sgd": {
            "PyTorch SGD, fused": lambda: optim.SGD(made(), **momentum, fused=True).step,
            "PyTorch SGD, foreach": lambda: optim.SGD(made(), **momentum, foreach=True).step,
        },
        "adam": {"PyTorch Adam, fused": lambda: optim.Adam(made(), fused=True).step},
        "muon": {"PyTorch Muon and AdamW": lambda: _muon(made())},
    }
    yield from makers[kind].items()


def _muon(parameters: list[Any]) -> Call:
    first = torch.optim.Muon([p for p in parameters if p.ndim == 2])
    rest = [p for p in parameters if p.ndim != 2]
    if not rest:
        return first.step
    second = torch.optim.AdamW(rest, fused=True)
    return lambda: (first.step(), second.step())
