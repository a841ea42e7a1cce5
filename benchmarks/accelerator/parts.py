"""The tables of one backend, in a process of its own: what matters most comes first."""

import argparse
import gc
import importlib
import json
import math
import time
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import keras
import numpy as np

from benchmarks.accelerator import bandwidth
from benchmarks.accelerator.bandwidth import COPY, NAGD, NARROW
from benchmarks.accelerator.budget import Clock
from benchmarks.accelerator.race import NO_TIME, Maker, burst, race
from benchmarks.support import child
from benchmarks.update.directions import ADAPTIVE, ORTHOGONAL, filled, transformer
from benchmarks.update.models import chosen
from nagd_keras import NAGD as Nagd
from nagd_keras import directions

DEVICE = "the device"
SECONDS, QUICK, QUICK_ROUNDS = 2.0, 0.1, 3  # for a table
# In this order; each may take so large a part of the time that it and those behind it have left.
PARTS = {"bandwidth": 3.0, "orthogonal": 5.0, "adaptive": 2.0, "decisions": 2.0, "small": 5.0}
POOL = 2**24 + 43
DECISIONS: dict[str, dict[str, Any]] = {
    NAGD: {},
    'NAGD, restart="gradient"': {"restart": "gradient"},
    "NAGD, skip_nonfinite=True": {"skip_nonfinite": True},
    "NAGD, both": {"restart": "gradient", "skip_nonfinite": True},
}
Shapes = Sequence[tuple[int, ...]]
Variables = list[Any]


class Sizes(NamedTuple):
    """Of a whole run, or of a quick one.

    Attributes:
        side: of the one large variable.
        matrices: how many, and their side.
        transformer: see `benchmarks.update.directions`.
        name: the transformer's.
    """

    side: int
    matrices: Sequence[tuple[int, int]]
    transformer: tuple[int, int, int, int]
    name: str


WHOLE = Sizes(10_000, ((4, 1024), (1, 4096)), (192, 3, 12, 197), "ViT-tiny")
SMALL = Sizes(1_000, ((4, 32), (1, 64)), (64, 4, 2, 100), "a small transformer")


class Part:
    """Measures on one backend, whose side is a module such as `benchmarks.accelerator.jax`."""

    def __init__(self, side: Any, report: child.Report, clock: Clock) -> None:
        """Takes the clock of this part."""
        self.side, self.report, self.clock = side, report, clock
        self.sizes = SMALL if report.quick else WHOLE
        self.elements = self.sizes.side**2
        self.large = f"one variable of {self.elements // 10**6} M"

    def bandwidth(self) -> None:
        """What an update of the large variable moves, and the memory that it takes."""
        self._memory()
        makers = {
            COPY: self._copy,
            NAGD: self._large(),
            NARROW: self._large(slot_dtype="bfloat16"),
            **self._peers("sgd", self._plain),
        }
        sizes = dict.fromkeys(makers, bandwidth.OF_GRADIENT) | {NARROW: bandwidth.OF_NARROW}
        self._race(self.large, makers, [*makers][3:], sizes)

    def decisions(self) -> None:
        """What is decided over all variables, as a ratio to an update without."""
        makers = {name: self._large(**settings) for name, settings in DECISIONS.items()}
        self._race(f"{self.large}, with decisions", makers, [NAGD])

    def orthogonal(self) -> None:
        """The direction for matrices against Muon, by how products are rounded."""
        models: dict[str, Callable[[], Variables]] = {
            f"{number} of {side:,} x {side:,}": lambda shape=(side, side), number=number: plain(
                [shape] * number
            )
            for number, side in self.sizes.matrices
        }
        models[f"{self.sizes.name}'s variables"] = self._transformer
        for model, make in models.items():
            peers = self._peers("muon", lambda make=make: as_matrices(make()))
            ours = {ORTHOGONAL: lambda make=make: self._step(make(), direction="orthogonal")}
            # The many products of a model are compiled for long: it has the first two only.
            for precision in self.side.PRECISIONS[: 2 if make == self._transformer else None]:
                with self.side.precision(precision):
                    self._race(f"{model}, {precision}", ours | peers, peers)

    def adaptive(self) -> None:
        """The direction with a mean of squares against Adam, which moves as much."""
        peers = self._peers("adam", self._plain)
        makers = {COPY: self._copy, ADAPTIVE: self._large(direction="adaptive"), **peers}
        sizes = dict.fromkeys(makers, bandwidth.OF_SECOND_SLOT)
        self._race(f"{self.large}, adaptive", makers, peers, sizes)
        peers = self._peers("adam", lambda: as_matrices(self._transformer()))
        ours = {ADAPTIVE: lambda: self._step(self._transformer(), direction="adaptive")}
        self._race(f"{self.sizes.name}'s variables, adaptive", ours | peers, peers)

    def small(self) -> None:
        """Many variables, of which handing them over costs more than the arithmetic."""
        models = {name: x for name, x in chosen(self.report.quick).items() if len(x) > 1}
        for model, shapes in sorted(models.items(), key=lambda item: len(item[1])):
            peers = self._peers("sgd", lambda shapes=shapes: values(plain(shapes)))
            ours = {NAGD: lambda shapes=shapes: self._step(plain(shapes))}
            self._race(model, ours | peers, peers)

    def _memory(self) -> None:
        table = f"memory of an update of {self.large}"
        if self.side.memory() is None:
            self.report.row(table, self.side.NAME, error="does not tell on this device")
            return
        for name, settings in DECISIONS.items():
            if not self.clock.left():
                self.report.row(table, name, error=NO_TIME)
                continue
            try:
                call = self._large(**settings)()
                self.side.wait(None)
                held = self.side.memory()[0]
                self.side.forget_peak()
                for _ in range(2):
                    burst(call, self.side.wait, 1)()
                # At most: the peak may be from before.
                more = self.side.memory()[1] - held
                numbers = {"held MB": round(held / 1e6), "more MB at most": round(more / 1e6)}
                self.report.row(table, name, **numbers)
            except Exception as error:
                self.report.failed(table, name, error)
            call = None
            gc.collect()

    def _race(
        self, table: str, makers: dict[str, Maker], to: Any, sizes: dict[str, int] | None = None
    ) -> None:
        def more(rows: Any) -> Any:
            return bandwidth.moved(rows, self.elements, sizes) if sizes else {}

        race(self.report, self.side.wait, self.clock, table, makers, list(to), more)
        gc.collect()  # before the next one needs the memory

    def _copy(self) -> Any:
        return self.side.copy(bandwidth.elements_copied(self.elements))

    def _large(self, **settings: Any) -> Maker:
        return lambda: self._step(plain(self._shapes), **settings)

    def _plain(self) -> list[Any]:
        return values(plain(self._shapes))

    @property
    def _shapes(self) -> Shapes:
        return [(self.sizes.side, self.sizes.side)]

    def _transformer(self) -> Variables:
        return filled(lambda: transformer(*self.sizes.transformer))

    def _step(self, variables: Variables, **settings: Any) -> Any:
        return self.side.step_of(variables, Nagd(**settings))

    def _peers(self, kind: str, weights: Callable[[], list[Any]]) -> dict[str, Maker]:
        return dict(self.side.peers(kind, weights))


@cache
def _pool() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(POOL, dtype="float32")


def noise(shape: Sequence[int]) -> np.ndarray:
    """Returns noise: on zeros a device may be faster. It is computed once, and repeated."""
    size = math.prod(shape)
    return (_pool()[:size] if size <= POOL else np.resize(_pool(), size)).reshape(shape)


def plain(shapes: Shapes) -> Variables:
    """Returns variables of noise that belong to no layer; those of two dimensions are matrices."""
    return [keras.Variable(noise(shape), name="kernel") for shape in shapes]


def values(variables: Variables) -> list[Any]:
    """Returns their values, as the backend's own tensors."""
    return [variable.value for variable in variables]


def as_matrices(variables: Variables) -> list[Any]:
    """Returns their values as Muon takes them: what it is to make orthogonal, and no more, is 2-D.

    All heads of an attention are one matrix there.
    """
    found = []
    for variable, (_, cut) in zip(
        variables, directions.Orthogonal().describe(variables), strict=True
    ):
        shape = (-1,) if cut == "adaptive" else two(tuple(variable.shape))
        found.append(keras.ops.reshape(variable.value, shape))
    return found


def two(shape: tuple[int, ...]) -> tuple[int, int]:
    """Returns the shape of one matrix, inputs by outputs, of a kernel that may have heads."""
    if len(shape) == 3 and shape[0] * shape[1] != shape[2]:  # into heads, (inputs, heads, size)
        return shape[0], shape[1] * shape[2]
    return math.prod(shape[:-1]), shape[-1]


def _measure(side: Any, report: child.Report, clock: Clock, parts: Sequence[str]) -> None:
    kind, name = side.device()
    described = f"{side.NAME} {name}"
    if kind == "cpu" and not report.quick:
        report.row(DEVICE, described, error="no accelerator; --quick takes the CPU, too")
        return
    report.row(DEVICE, described)
    if not find_spec(side.PEERS):
        report.row(DEVICE, side.PEERS, error="not installed: its rows are left out")
    for n, part in enumerate(parts):
        print(json.dumps({"begun": part}), flush=True)
        own = clock.first([PARTS[each] for each in parts[n:]])
        began = time.perf_counter()
        try:
            getattr(Part(side, report, own), part)()
        except Exception as error:  # The other parts go on.
            report.failed(part, "all of it", error)
        seconds = round(time.perf_counter() - began, 1)
        report.row("seconds of each part", part, seconds=seconds)


def main() -> None:
    """Measures as the command line says, on Keras' backend."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--until", type=float, required=True)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS])
    arguments = parser.parse_args()
    rounds = arguments.rounds or (QUICK_ROUNDS if arguments.quick else None)
    report = child.Report(QUICK if arguments.quick else SECONDS, rounds, arguments.quick)
    side = importlib.import_module(f"benchmarks.accelerator.{keras.backend.backend()}")
    _measure(side, report, Clock(arguments.until), arguments.parts)


if __name__ == "__main__":
    main()
