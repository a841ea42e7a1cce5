"""PyTorch: variables are written in place, and scalars on the CPU are read as numbers."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import keras
import torch

from nagd_keras.backends.backend import Backend
from nagd_keras.keras_private import call


class Torch(Backend):
    """What is PyTorch's own."""

    writes_in_place = True
    native_types = (torch.nn.Parameter,)

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
        values = scalars.value.detach()
        return values.tolist() if self._is_known(values) else values

    def scalar(self, value: Any) -> Any:
        """Returns a number, or a tensor where `read` returns one."""
        value = value.value if isinstance(value, keras.Variable) else value
        if not isinstance(value, torch.Tensor):
            return value if self.in_place() else super().scalar(value)
        return value.detach().item() if self._is_known(value) else value.detach()

    def _is_known(self, tensor: torch.Tensor) -> bool:
        return tensor.is_cpu and self.in_place() and not torch.compiler.is_compiling()

    def assign_add(self, variable: Any, value: Any) -> None:
        """Adds to a variable, in place."""
        if self.in_place():
            held = variable.value.detach()
            held.add_(torch.as_tensor(value, device=held.device))
        else:
            super().assign_add(variable, value)

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
