"""PyTorch: variables are written in place, and scalars on the CPU are read as numbers."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import keras
import torch

from nagd_keras.backends.backend import Backend
from nagd_keras.keras_private import call, raw_value

WIDE = {torch.float32, torch.float64}  # in which nothing is lost if a sum is made in them


class Torch(Backend):
    """What is PyTorch's own."""

    writes_in_place = True
    reads_numbers = True
    native_types = (torch.nn.Parameter,)

    def __init__(self) -> None:
        """Begins without constants."""
        self._constants: dict[Any, torch.Tensor] = {}

    def shared(self, native: Any) -> Any:
        """Returns a Keras variable that shares the memory of a native one, wherever that is."""
        with keras.device(str(native.device)):
            variable = keras.Variable(native, trainable=native.requires_grad)
        call(variable, "parameter")  # PyTorch's have no names.
        return variable

    def beside(self, variable: Any) -> AbstractContextManager[Any]:
        """A context in which variables are made on the device of another one."""
        scope: AbstractContextManager[Any] = keras.device(str(variable.value.device))
        return scope

    def read(self, scalars: Any) -> Any:
        """Returns numbers, or a tensor where a step is compiled or a device would be waited for."""
        known = self._known(scalars)
        return scalars.value.detach() if known is None else known.tolist()

    def scalar(self, value: Any) -> Any:
        """Returns a number, or a tensor where `read` returns one."""
        if not isinstance(value, (torch.Tensor, keras.Variable)):
            return value if self.in_place() else super().scalar(value)
        known = self._known(value)
        value = value.value if isinstance(value, keras.Variable) else value
        return value.detach() if known is None else known.item()

    def _known(self, value: Any) -> Any:
        """Returns the tensor of a value that can be read as numbers here, or None."""
        if not self.in_place() or torch.compiler.is_compiling():
            return None
        held = raw_value(value) if isinstance(value, keras.Variable) else value.detach()
        return held if held is not None and held.is_cpu else None

    def assign_add(self, variable: Any, value: Any) -> None:
        """Adds to a variable, in place."""
        if not self.in_place():
            super().assign_add(variable, value)
            return
        held = raw_value(variable).detach()
        held.add_(self._constant(value, held))

    def _constant(self, value: Any, like: torch.Tensor) -> torch.Tensor:
        """Returns a number, or an array of some, on a tensor's device; the same each time.

        To make a tensor takes longer than to add it, and its copy to a device would be waited for.
        """
        if torch.compiler.is_compiling():
            return torch.as_tensor(value, device=like.device)
        key = value if isinstance(value, int) else value.tobytes(), like.dtype, like.device
        if key not in self._constants:
            self._constants[key] = torch.as_tensor(value, dtype=like.dtype, device=like.device)
        return self._constants[key]

    def device_of(self, variable: Any) -> str:
        """Returns the name of the device that a variable is on."""
        return str(variable.value.device)

    def received(self, gradient: Any, shape: tuple[int, ...], rows: bool, lazy: bool) -> Any:
        """Returns a gradient as the update takes it: a dense tensor."""
        if not isinstance(gradient, torch.Tensor):
            return super().received(gradient, shape, rows, lazy)
        # The rows of an embedding with `sparse=True` cost less as a tensor than to look for those
        # that are there twice.
        return gradient if gradient.layout is torch.strided else gradient.to_dense()

    def are_finite(self, tensors: Sequence[Any]) -> Any:
        """Whether all are finite; by PyTorch's own operations, as Keras' take longer than sums."""
        if len({(x.dtype, x.device) for x in tensors}) > 1 or tensors[0].dtype not in WIDE:
            return super().are_finite(tensors)
        return torch.stack([x.sum() for x in tensors]).isfinite().all()

    def generators_kept(self) -> AbstractContextManager[Any]:
        """A context that gives PyTorch's random generators back as it found them."""
        devices = range(torch.cuda.device_count())
        kept: AbstractContextManager[Any] = torch.random.fork_rng(devices)
        return kept

    def generators(self) -> list[Any]:
        """Returns the states of PyTorch's generators: that of the CPU, and of each GPU."""
        return [each.numpy() for each in (torch.get_rng_state(), *torch.cuda.get_rng_state_all())]

    def set_generators(self, states: Sequence[Any]) -> None:
        """Sets PyTorch's generators."""
        cpu, *gpus = map(torch.from_numpy, states)
        torch.set_rng_state(cpu)
        if len(gpus) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(gpus)


BACKEND = Torch()
