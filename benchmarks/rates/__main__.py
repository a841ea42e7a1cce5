"""Runs what was not run yet, and reports: python -m benchmarks.rates.

It can be stopped at any time, and started again. See docs/defaults.md and docs/robustness.md.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.defaults.__main__ import HERE as DEFAULTS
from benchmarks.defaults.contestants import DIRECTIONS
from benchmarks.defaults.tasks import TASKS
from benchmarks.rates.report import guarded, ungiven
from benchmarks.rates.search import RESULTS, Plan
from benchmarks.support.cells import Cells

QUICK = "digits_few", "diabetes"


def main() -> None:
    """Prints tables for each direction."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rates", description=__doc__)
    parser.add_argument("--direction", choices=DIRECTIONS, action="append", help="default: all")
    parser.add_argument("--guard", action="store_true", help="rates that are too high")
    parser.add_argument("--constant", action="store_true", help="without OneCycle; with --guard")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="two tasks, one epoch; kept nowhere")
    options = parser.parse_args()
    if options.constant and not options.guard:
        parser.error("--constant needs --guard: all runs without a given rate have OneCycle")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.json" if options.quick else RESULTS
        tasks, epochs = (QUICK, 1) if options.quick else (TASKS, None)
        # Quick runs are not to be compared with whole ones.
        cells, defaults = Cells(path), Cells(path if options.quick else DEFAULTS)
        for direction in options.direction or DIRECTIONS:
            plan = Plan(direction, not options.constant, options.seed, epochs)
            if options.guard:
                said = guarded(cells, plan, tasks)
            else:
                said = ungiven(cells, defaults, plan, tasks)
            how = "constant" if options.constant else "one cycle"
            print("", f"{direction}, {how}, seed {options.seed}", "", *said, sep="\n")


if __name__ == "__main__":
    main()
