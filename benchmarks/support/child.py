"""What a process that measures gets, and gives: a line of JSON for each row of the table.

Keras has one backend a process, and memory is a process' own; so each section is a module that
`update` runs as `python -m benchmarks.update.<module>`, with KERAS_BACKEND set.
"""

import argparse
import json
from collections.abc import Callable, Collection
from typing import Any

from benchmarks.support import timing

SECONDS = 4.0


class Report:
    """The rows of a section, printed as they come, and how long to measure for one table."""

    def __init__(self, seconds: float, rounds: int | None, quick: bool = False) -> None:
        self.seconds = seconds
        self.rounds = rounds
        self.quick = quick  # whether a part of the tables will do, to see that all runs

    def row(self, table: str, contestant: str, **numbers: Any) -> None:
        """Gives one row away."""
        print(json.dumps({"table": table, "contestant": contestant, **numbers}), flush=True)

    def race(
        self,
        table: str,
        contestants: dict[str, Callable[[], object]],
        to: Collection[str],
        *,
        share: float = 1.0,
        base: str | None = None,
        alone: Collection[str] = (),
        more: Callable[[dict[str, Any]], dict[str, dict[str, object]]] = lambda rows: {},
    ) -> None:
        """Times contestants in turn and gives their rows away.

        Args:
            table: what the rows have in common.
            contestants: see `timing.interleaved`.
            to: see `timing.compared`, as `base` and `alone`.
            share: of the seconds that a table has.
            base: see above.
            alone: see above.
            more: makes of all rows what else is to be said in some.
        """
        times = timing.interleaved(contestants, share * self.seconds, self.rounds)
        rows = timing.compared(times, list(to), base, alone)
        extra = more(rows)
        for name, row in rows.items():
            self.row(table, name, **row, **extra.get(name, {}))

    def failed(self, table: str, contestant: str, error: Exception) -> None:
        """Gives away that a contestant could not be made."""
        self.row(table, contestant, error=f"{type(error).__name__}: {error}"[:300])


def run(measure: Callable[[Report], None]) -> None:
    """Measures as the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--quick", action="store_true")
    measure(Report(**vars(parser.parse_args())))
