"""Runs what was not run yet, and reports: python -m benchmarks.guard.

It can be stopped at any time, and started again. See `rates.py`, and docs/robustness.md.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.guard import rates
from benchmarks.support.cells import Cells


def main() -> None:
    """Prints a table for each direction."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guard", description=__doc__)
    parser.add_argument("--direction", choices=rates.DIRECTIONS, action="append")
    parser.add_argument("--constant", action="store_true", help="without OneCycle")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="two tasks, one epoch; kept nowhere")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.json" if options.quick else rates.RESULTS
        tasks, epochs = (rates.QUICK, 1) if options.quick else (rates.TASKS, None)
        for direction in options.direction or rates.DIRECTIONS:
            plan = rates.Plan(direction, not options.constant, options.seed, epochs)
            rates.report(Cells(path), plan, tasks)


if __name__ == "__main__":
    main()
