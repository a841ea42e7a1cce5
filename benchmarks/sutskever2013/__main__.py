"""Trains what is not trained yet: python -m benchmarks.sutskever2013 curves addition.

It can be stopped at any time, and started again. See docs/sutskever2013.md.
"""

import argparse
import itertools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.support.cells import Cells
from benchmarks.sutskever2013 import addition, curves, paper
from benchmarks.sutskever2013.columns import NESTEROV, NONE, Column
from benchmarks.sutskever2013.experiment import Cell, Experiment, forget, train
from benchmarks.sutskever2013.results import HERE, candidates, chosen

EXPERIMENTS = {"curves": curves.experiment, "addition": addition.experiment}
LABELS = {"curves": "squared error of an image", "addition": "squared error, of a constant's"}
SPREAD, SEEDS = 10_000, (1, 2, 3)  # updates and seeds of the runs that show the spread
# The quick run: columns with the learning rates of the long ones, in the order that is expected.
QUICK = [(Column(0.0, NONE), 0.05), (Column(0.9, NESTEROV), 0.01), (Column(0.99, NESTEROV), 0.01)]
QUICK_UPDATES = 2_000


def main() -> int:
    """Returns 1 if the quick run's columns are not in the order of the paper's."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sutskever2013", description=__doc__)
    parser.add_argument("experiments", nargs="*", choices=[*EXPERIMENTS, []], help="default: all")
    parser.add_argument("--quick", action="store_true", help="three columns, 2,000 updates each")
    parser.add_argument("--report", action="store_true", help="only report what is there")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="of the figures of a report")
    parser.add_argument("--results", type=Path, default=HERE, metavar="FILE")
    arguments = parser.parse_args()
    if arguments.quick:
        return quick()
    results = Cells(arguments.results)
    for name in arguments.experiments or EXPERIMENTS:
        experiment = EXPERIMENTS[name]()
        if arguments.report:
            report(results, name, experiment, arguments.output)
            continue
        while cell := next(missing(results, name, experiment), None):
            print(f"{name}: {cell.key()}", flush=True)
            results.add(name, cell.key(), train(experiment, cell, arguments.results.parent))
            forget(experiment, cell, arguments.results.parent)
    return 0


def report(results: Cells, name: str, experiment: Experiment, output: Path | None) -> None:
    """Prints the tables of an experiment, and draws its figure if there is a place for it."""
    print(paper.markdown(results, name, experiment, SPREAD, SEEDS), end="\n\n")
    if name == "curves":
        print(paper.directed(results, name, experiment, SPREAD, SEEDS), end="\n\n")
        print(paper.drop(results, name, experiment), end="\n\n")
        print(paper.claims_markdown(results, name, experiment), end="\n\n")
    if output:
        from benchmarks.sutskever2013 import figure

        target = output / f"sutskever2013_{name}.png"
        print(figure.draw(results, name, experiment, LABELS[name], target), end="\n\n")


def missing(results: Cells, name: str, experiment: Experiment) -> Iterator[Cell]:
    """Yields what is to be trained, each as soon as all is known that it depends on."""
    everyone = [*experiment.columns, *experiment.directed]
    for column, rate in itertools.product(everyone, experiment.rates):
        yield from absent(results, name, Cell(column, rate, experiment.short, 0))
    for column in experiment.columns:
        for rate in candidates(results, name, experiment, column):
            yield from absent(results, name, Cell(column, rate, experiment.updates, 0))
    for seed, column in itertools.product(SEEDS, everyone):
        rate = chosen(results, name, experiment, column)
        yield from absent(results, name, Cell(column, rate, SPREAD, seed))


def absent(results: Cells, name: str, cell: Cell) -> Iterator[Cell]:
    """Yields the cell if it was not trained."""
    if results.of(name, cell.key()) is None:
        yield cell


def quick() -> int:
    """Trains three columns of Curves for a short time."""
    errors = []
    with tempfile.TemporaryDirectory() as folder:
        for column, rate in QUICK:
            cell = Cell(column, rate, QUICK_UPDATES, 0)
            found = train(curves.experiment(), cell, Path(folder))
            errors.append(found["errors"][-1])
    ordered = all(more > less for more, less in itertools.pairwise(errors))
    names = [str(column) for column, _ in QUICK]
    said = ", ".join(f"{name} {x:.1f}" for name, x in zip(names, errors, strict=True))
    print(f"squared errors: {said}; {'as' if ordered else 'not'} in the paper's order")
    return 0 if ordered else 1


if __name__ == "__main__":
    sys.exit(main())
