"""JAX' side: its device, a copy there, steps that are not waited for, and Optax as the peer."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.accelerator.race import Call, Maker
from benchmarks.update.jax import optax_step
from benchmarks.update.jax import step_of as _step_of

NAME, PEERS = "JAX", "optax"
# What `jax.default_matmul_precision` takes; by itself JAX lets an accelerator round factors.
PRECISIONS = "float32", "bfloat16", "default"

step_of = partial(_step_of, waits=False)
wait = jax.block_until_ready


def device() -> tuple[str, str]:
    """Returns the device's kind, "cpu" for none, and its name."""
    first = jax.devices()[0]
    return first.platform, f"{jax.__version__}, {first.device_kind}"


def memory() -> tuple[int, int] | None:
    """Returns the bytes that are in use and that were so at most, where the device tells."""
    stats = jax.devices()[0].memory_stats() or {}
    found = stats.get("bytes_in_use"), stats.get("peak_bytes_in_use")
    return None if None in found else found


def forget_peak() -> None:
    """Leaves the peak as it is: JAX has no way to forget it."""


def precision(name: str) -> AbstractContextManager[Any]:
    """A context in which products of float32 matrices are computed so."""
    return jax.default_matmul_precision(None if name == "default" else name)


def copy(elements: int) -> Call:
    """Returns calls of a copy of so many float32."""
    source, made = jnp.ones(elements), jax.jit(jnp.copy)
    return lambda: made(source)


def peers(kind: str, weights: Callable[[], list[Any]]) -> Iterator[tuple[str, Maker]]:
    """Yields makers of the updates of arrays by Optax, if it is installed."""
    if not find_spec(PEERS):
        return
    import optax

    name, rule = {
        "sgd": ("Optax SGD", lambda: optax.sgd(0.01, momentum=0.9, nesterov=True)),
        "adam": ("Optax Adam", lambda: optax.adam(0.001)),
        "muon": ("Optax Muon", lambda: optax.contrib.muon(0.001)),
    }[kind]
    yield name, lambda: optax_step(weights(), rule(), waits=False)
