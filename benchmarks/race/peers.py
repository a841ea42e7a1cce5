"""The Muons of Optax and PyTorch, as optimizers that `fit` takes."""

import math
from typing import Any

import keras

from benchmarks.race.contestants import Draw

RMS = 0.2  # of a matrix' step, in learning rates, as Keras' Muon has it
EPSILON = 1e-7  # Keras'


def is_matrix(variable: Any) -> bool:
    """Returns whether Keras' Muon makes a variable's step orthogonal; to others it is AdamW."""
    return len(variable.shape) == 2 and "embedding" not in variable.path.lower()


class Peer(keras.optimizers.Optimizer):
    """An optimizer of another package, with the settings of a trial."""

    def __init__(self, draw: Draw, updates: int) -> None:
        """Takes the settings, and the number of updates of the run."""
        super().__init__(1.0)
        self._draw, self._updates = draw, updates

    def build(self, variables: Any) -> None:
        """Makes the other optimizer and its state."""
        if not self.built:
            super().build(variables)
            self._make(variables)

    def _make(self, variables: Any) -> None:
        raise NotImplementedError


class OptaxMuon(Peer):
    """Optax' Muon, on JAX: what is no matrix goes along NAdam there."""

    def _make(self, variables: Any) -> None:
        import jax
        import optax

        draw, numbers = self._draw, optax.contrib.MuonDimensionNumbers()
        rate = optax.cosine_decay_schedule(draw.rate, self._updates) if draw.decays else draw.rate
        self._muon = optax.contrib.muon(
            rate,
            beta=1 - draw.rest,
            consistent_rms=RMS,
            eps=EPSILON,
            muon_weight_dimension_numbers={
                v.path: numbers if is_matrix(v) else None for v in variables
            },
        )
        leaves, self._tree = jax.tree.flatten(self._muon.init({v.path: v.value for v in variables}))
        self._leaves = [
            self.add_variable(leaf.shape, "zeros", str(leaf.dtype), name=f"leaf_{n}")
            for n, leaf in enumerate(leaves)
        ]
        for variable, leaf in zip(self._leaves, leaves, strict=True):
            variable.assign(leaf)

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Makes an update."""
        import jax

        variables = trainable_variables or self._trainable_variables
        values = {v.path: v.value for v in variables}
        gradients = {v.path: g for v, g in zip(variables, grads, strict=True)}
        state = jax.tree.unflatten(self._tree, [leaf.value for leaf in self._leaves])
        steps, state = self._muon.update(gradients, state, values)
        for variable, leaf in zip(self._leaves, jax.tree.leaves(state), strict=True):
            variable.assign(leaf)
        for variable in variables:
            variable.assign_add(steps[variable.path])
        self.iterations.assign_add(1)


class TorchMuon(Peer):
    """PyTorch's Muon: its iteration is of 16 bits."""

    def _make(self, variables: Any) -> None:
        import torch

        matrices = [v.value for v in variables if is_matrix(v)]
        others = [v.value for v in variables if not is_matrix(v)]
        momentum = 1 - self._draw.rest
        self._made = [
            torch.optim.Muon(
                matrices,
                weight_decay=0.0,
                momentum=momentum,
                adjust_lr_fn="match_rms_adamw",
            ),
            torch.optim.AdamW(others, eps=EPSILON, weight_decay=0.0),
        ]

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Makes an update."""
        variables = trainable_variables or self._trainable_variables
        done = int(self.iterations.value) / self._updates
        rate = self._draw.rate * ((1 + math.cos(math.pi * done)) / 2 if self._draw.decays else 1.0)
        for variable, gradient in zip(variables, grads, strict=True):
            variable.value.grad = gradient
        for made in self._made:
            for group in made.param_groups:
                group["lr"] = rate
            made.step()
        self.iterations.assign_add(1)


PEERS = {"jax": ("Optax' Muon", OptaxMuon), "torch": ("PyTorch's Muon", TorchMuon)}
