"""PyTorch's random generators."""

from contextlib import AbstractContextManager
from typing import Any


def generators_kept() -> AbstractContextManager[Any]:
    """A context that gives PyTorch's random generators back as it found them."""
    # Not above: tests import every module.
    import torch

    kept: AbstractContextManager[Any] = torch.random.fork_rng(range(torch.cuda.device_count()))
    return kept
