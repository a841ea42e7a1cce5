"""What an update along the directions costs, beside Adam and Muon, on Keras' backend."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import keras
import numpy as np
from keras import layers, optimizers

from benchmarks.support import child
from benchmarks.update.models import MODELS
from nagd_keras import NAGD

ADAM, MUON = "Keras Adam", "Keras Muon"
OPTAX_ADAM, OPTAX_MUON = "Optax Adam", "Optax Muon"
TORCH_ADAM, TORCH_MUON = "PyTorch Adam, fused", "PyTorch Muon and AdamW"
ADAPTIVE, ORTHOGONAL = "NAGD, adaptive", "NAGD, orthogonal"
KERAS: dict[str, Callable[[], Any]] = {
    ADAM: optimizers.Adam,
    MUON: lambda: optimizers.Muon(),  # which older versions of Keras lack
    ADAPTIVE: lambda: NAGD(direction="adaptive"),
    ORTHOGONAL: lambda: NAGD(direction="orthogonal"),
}
Variables = list[Any]


def dense(sizes: Sequence[int]) -> Variables:
    """Returns the variables of dense layers, one after the other."""
    found = []
    for before, size in itertools.pairwise(sizes):
        layer = layers.Dense(size)
        layer.build((None, before))
        found += layer.trainable_variables
    return found


def transformer(width: int, heads: int, blocks: int, table: int) -> Variables:
    """Returns the variables of a transformer's blocks, and of its table of words or places."""
    made: list[tuple[Any, tuple[Any, ...]]] = [(layers.Embedding(table, width), ((None,),))]
    inputs = (None, table, width)
    for _ in range(blocks):
        attention = layers.MultiHeadAttention(heads, width // heads)
        made += [(attention, (inputs, inputs))]
        made += [(layers.LayerNormalization(), (inputs,)) for _ in range(2)]
        made += [(layers.Dense(4 * width), (inputs,)), (layers.Dense(width), ((None, 4 * width),))]
    for layer, shapes in made:
        layer.build(*shapes)
    return [variable for layer, _ in made for variable in layer.trainable_variables]


def plain(shapes: Sequence[tuple[int, ...]]) -> Variables:
    """Returns variables of these shapes, which belong to no layer."""
    return [keras.Variable(np.zeros(shape, "float32"), name="kernel") for shape in shapes]


# With the race's deep autoencoder and its small transformer.
AUTOENCODER = 784, 200, 100, 50, 25, 6, 25, 50, 100, 200, 784
MATRICES: dict[str, Callable[[], Variables]] = {
    "the race's autoencoder": lambda: dense(AUTOENCODER),
    "the race's transformer": lambda: transformer(64, 4, 2, 100),
    "ViT-tiny": lambda: transformer(192, 3, 12, 197),
    "layers of 1,024 x 1,024": lambda: dense([1024] * 4),
}
OF_ADAM: dict[str, Callable[[], Variables]] = {
    name: lambda shapes=shapes: plain(shapes) for name, shapes in MODELS.items()
}


def filled(make: Callable[[], Variables]) -> Variables:
    """Returns new variables with values that are noise: of zeros there is nothing to compute."""
    variables, rng = make(), np.random.default_rng(0)
    for variable in variables:
        variable.assign(rng.normal(size=variable.shape).astype("float32"))
    return variables


def measure(report: child.Report) -> None:
    """Reports each model for its direction and its peers."""
    base, step, others = _of_backend()
    adams, muons = (ADAM, ADAPTIVE), (MUON, ORTHOGONAL, ADAM, ADAPTIVE)
    for models, names in ((OF_ADAM, adams), (MATRICES, muons)):
        for model, make in models.items():
            if report.quick and "small network" not in model and "transformer" not in model:
                continue
            peers = dict(others(make, muon=models is MATRICES))
            contestants = {name: step(filled(make), KERAS[name]()) for name in names}
            contestants |= {base: step(filled(make), None)} if base else {}
            to = [*names[::2], *peers]
            report.race(model, {**peers, **contestants}, to, base=base)


def _of_backend() -> tuple[str | None, Callable[..., Any], Callable[..., Iterator[Any]]]:
    """Returns the name of a step without an update, a maker of steps, and one of peers."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        from benchmarks.update.tensorflow_steps import BASE, training_step

        return BASE, training_step, lambda make, muon: iter(())
    if backend == "jax":
        from benchmarks.update.jax import step_of

        return None, step_of, _optax
    from benchmarks.update.torch import step_of

    return None, step_of, _torch


def _optax(make: Callable[[], Variables], muon: bool) -> Iterator[tuple[str, Any]]:
    if find_spec("optax"):
        import optax

        from benchmarks.update.jax import optax_step

        arrays = [v.value for v in filled(make)]
        yield OPTAX_ADAM, optax_step(arrays, optax.adam(0.001))
        if muon:
            yield OPTAX_MUON, optax_step(arrays, optax.contrib.muon(0.001))


def _torch(make: Callable[[], Variables], muon: bool) -> Iterator[tuple[str, Any]]:
    import torch

    def parameters() -> list[Any]:
        found = [torch.nn.Parameter(v.value.detach().clone()) for v in filled(make)]
        for each in found:
            each.grad = 1e-3 * each.detach()
        return found

    yield TORCH_ADAM, torch.optim.Adam(parameters(), fused=True).step
    if muon:
        matrices = [p for p in parameters() if p.ndim == 2]
        first = torch.optim.Muon(matrices)
        rest = torch.optim.AdamW([p for p in parameters() if p.ndim != 2], fused=True)
        yield TORCH_MUON, lambda: (first.step(), rest.step())


if __name__ == "__main__":
    child.run(measure)
