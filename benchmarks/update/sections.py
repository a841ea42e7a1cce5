"""The parts of the whole, in their order: which module measures each, and what it needs."""

from typing import NamedTuple


class Section(NamedTuple):
    """One part.

    Attributes:
        module: of this package; it is run in a process of its own.
        backend: Keras' backend there, which must be installed.
        title: what stands above its tables.
        seconds: how long to measure for a table.
        quick: whether it is part of a quick run.
    """

    module: str
    backend: str
    title: str
    seconds: float = 4.0
    quick: bool = True


SECTIONS = {
    "tensorflow": Section("tensorflow", "tensorflow", "TensorFlow: what an update adds to a step"),
    "settings": Section(
        "tensorflow_settings", "tensorflow", "TensorFlow: what an update adds, by setting", 1.2
    ),
    "decisions": Section(
        "decisions", "tensorflow", "TensorFlow: what an update adds, by what it decides", 2.0
    ),
    "decisions_jax": Section(
        "decisions", "jax", "JAX: calls of an update, by what it decides", 2.0, quick=False
    ),
    "decisions_torch": Section(
        "decisions", "torch", "PyTorch: calls of an update, by what it decides", 2.0, quick=False
    ),
    "directions": Section(
        "directions", "tensorflow", "TensorFlow: what an update adds, by direction", 6.0
    ),
    "directions_jax": Section(
        "directions", "jax", "JAX: calls of an update, by direction", 6.0, quick=False
    ),
    "directions_torch": Section(
        "directions", "torch", "PyTorch: calls of an update, by direction", 6.0, quick=False
    ),
    "embedding": Section("embedding", "tensorflow", "TensorFlow: whole steps with an embedding"),
    "memory": Section("memory", "tensorflow", "TensorFlow: peak memory", quick=False),
    "first_step": Section("first_step", "tensorflow", "TensorFlow: the first step", quick=False),
    "jax": Section("jax", "jax", "JAX: calls of an update"),
    "torch": Section("torch", "torch", "PyTorch: calls of an update"),
}
