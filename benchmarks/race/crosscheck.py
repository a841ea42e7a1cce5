"""Whether the race is the same on other backends: python -m benchmarks.race.crosscheck.

On the backend that Keras is set to, JAX or PyTorch, Keras' Muon, the backend's own and NAGD train
two workloads. On JAX, Adam's kind trains those with embeddings. Each has the setting that was the
best of its trials in the race. Runs that were made are kept. It needs the version of Python that
the race ran on.
"""

import argparse
import itertools
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import keras

from benchmarks.race.contestants import ALL, Contestant, Draw
from benchmarks.race.peers import PEERS
from benchmarks.race.plan import last
from benchmarks.race.report import markdown
from benchmarks.race.rulings import SEEDS
from benchmarks.race.workloads import WORKLOADS
from benchmarks.support.cells import Cells

HERE = Path(__file__).parent / "crosscheck.json"
RACE = Path(__file__).parent / "results.json"
MUONS = "curves", "text"
EMBEDDINGS = "recommender", "text", "table"
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
PYTHON = "{}.{}".format(*sys.version_info)
SQUARES = "Adam", "AdamW", "Nadam", "NAGD, adaptive"
MUON, OURS = "Muon", "NAGD, orthogonal"


class Row(NamedTuple):
    """What is compared.

    Attributes:
        who: in the table.
        setting_of: the contestant of the race whose best setting it has.
        contestant: what makes it.
        names: the workloads.
    """

    who: str
    setting_of: str
    contestant: Contestant
    names: tuple[str, ...] = MUONS


def rows(backend: str) -> list[Row]:
    """Returns those of a backend."""
    found = [Row("Keras' Muon", MUON, ALL[MUON]), Row("NAGD", OURS, ALL[OURS])]
    if backend in PEERS:
        who, make = PEERS[backend]
        found.insert(1, Row(who, MUON, Contestant(make)))
    if backend != "torch":
        found += [Row(who, who, ALL[who], EMBEDDINGS) for who in SQUARES]
    return found


def setting(race: Cells, name: str, who: str) -> Draw:
    """Returns the best of a contestant's trials."""
    return Draw(**(race.of(name, f"{who}, seed {SEEDS[0]}") or {})["settings"])


def ends(cells: Cells, race: Cells, name: str, backend: str, row: Row) -> list[float]:
    """Returns where the runs of each seed ended that are there."""
    judged = WORKLOADS[name].judged
    if backend == "tensorflow":
        found = [race.of(name, f"{row.setting_of}, seed {seed}") for seed in SEEDS]
    else:
        found = [cells.of(name, f"{backend}, {row.who}, seed {seed}") for seed in SEEDS]
    return [last(run, judged) for run in found if run]


def raced_on(race: Cells) -> str:
    """Returns the version of Python that the race ran on."""
    run = race.of("text", f"{MUON}, seed {SEEDS[0]}") or {}
    return run["where"]["Python"].rpartition(".")[0]


def table(cells: Cells, race: Cells, names: tuple[str, ...]) -> str:
    """Returns the medians, with the least and the largest, of some workloads as Markdown."""
    lines = [
        [title, row.who, *(said(ends(cells, race, name, backend, row)) for name in names)]
        for backend, title in BACKENDS.items()
        for row in rows(backend)
        if row.names == names
    ]
    return markdown(["", "", *names], lines)


def said(found: list[float]) -> str:
    """Returns the median, the least and the largest; nothing of nothing."""
    if not found:
        return ""
    return f"{statistics.median(found):.4g} ({min(found):.4g} to {max(found):.4g})"


def todo(cells: Cells, backend: str) -> Iterator[tuple[str, Row, int]]:
    """Yields what was not run on a backend."""
    for row in rows(backend):
        for name, seed in itertools.product(row.names, SEEDS):
            if cells.of(name, f"{backend}, {row.who}, seed {seed}") is None:
                yield name, row, seed


def main() -> int:
    """Runs and reports; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.race.crosscheck")
    parser.add_argument("--results", type=Path, default=HERE, metavar="FILE")
    parser.add_argument("--report", action="store_true", help="only report what is there")
    arguments = parser.parse_args()
    cells, race, backend = Cells(arguments.results), Cells(RACE), keras.backend.backend()
    if not arguments.report:
        if backend not in PEERS:
            parser.error("set KERAS_BACKEND to jax or torch: TensorFlow has no Muon of its own")
        if (version := raced_on(race)) != PYTHON:
            # The text is that of Python's own library.
            parser.error(f"the race ran on Python {version}, this is {PYTHON}: their texts differ")
        from benchmarks.race.trial import train

        problems = {name: WORKLOADS[name].make() for name in {*MUONS, *EMBEDDINGS}}
        for name, row, seed in todo(cells, backend):
            draw = setting(race, name, row.setting_of)
            found, _ = train(WORKLOADS[name], problems[name], row.contestant, draw, seed)
            cells.add(name, f"{backend}, {row.who}, seed {seed}", found)
            end = last(found, WORKLOADS[name].judged)
            print(f"{name}: {backend}, {row.who}, seed {seed}: {end:.4g}", flush=True)
    print(table(cells, race, MUONS), table(cells, race, EMBEDDINGS), sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
