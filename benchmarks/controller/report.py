"""What the runs say, as Markdown."""

from collections.abc import Iterable
from pathlib import Path
from statistics import geometric_mean

from benchmarks.controller import small
from benchmarks.controller.variants import (
    BEGUN_WITH,
    BY_KIND,
    LOOKED_AT,
    NO_SCHEDULE,
    ONE_FOR_ALL,
    Run,
)
from benchmarks.race import judging
from benchmarks.race.plan import last
from benchmarks.race.report import markdown
from benchmarks.race.rulings import SEEDS, at_rate
from benchmarks.race.workloads import WORKLOADS
from benchmarks.support.cells import Cells

RACE = Path(judging.__file__).parent / "results.json"
WHO = "NAGD, orthogonal"


def known(cells: Cells) -> list[str]:
    """Returns the workloads that were run."""
    return [name for name in WORKLOADS if cells.of(name, Run(name, "looked at", LOOKED_AT[0]).key)]


def without(race: Cells, name: str, rate: float) -> float:
    """Returns the end of the race's run without a rule, infinite if there is none."""
    return last(race.of(name, at_rate(WHO, rate, SEEDS[0]).key), WORKLOADS[name].judged)


def rule_of(cells: Cells, variant: str, rate: float, names: list[str]) -> dict[str, float] | None:
    """Returns the ends with a rule, or None where runs are missing."""
    runs = {name: cells.of(name, Run(name, variant, rate).key) for name in names}
    if not all(runs.values()):
        return None
    return {name: last(run, WORKLOADS[name].judged) for name, run in runs.items()}


def looked_at(cells: Cells, race: Cells) -> str:
    """Returns the signals at each learning rate, bold at that which ends best."""
    rows = []
    for name in known(cells):
        best = min(LOOKED_AT, key=lambda rate: without(race, name, rate))
        for what in ("overshoot", "agreement"):
            row = [WORKLOADS[name].title.split(",")[0], what]
            for rate in LOOKED_AT:
                found = cells.of(name, Run(name, "looked at", rate).key)
                said = "" if found is None else f"{found[what]:.2f}"
                row.append(f"**{said}**" if rate == best else said)
            rows.append(row)
    return markdown(["", "signal", *(f"{rate:g}" for rate in LOOKED_AT)], rows)


def ends(cells: Cells, race: Cells, variants: Iterable[str]) -> str:
    """Returns the ends with some rules, and the mean ratio to the best that was tuned."""
    names, rows = known(cells), []
    reference = {name: judging.best(judging.scores(race, name, SEEDS)[1]) for name in names}
    for variant in ("", *variants):
        for rate in BEGUN_WITH:
            found = (
                rule_of(cells, variant, rate, names)
                if variant
                else {name: without(race, name, rate) for name in names}
            )
            if found is None:
                continue
            ratio = geometric_mean(found[name] / reference[name] for name in names)
            rows.append(
                [
                    variant or "without a rule",
                    f"{rate:g}",
                    *(f"{end:.3g}" for end in found.values()),
                    f"{ratio:.2f}",
                ]
            )
    return markdown(["", "begun with", *names, "mean"], rows)


def write(cells: Cells, theory: list[list[str]]) -> None:
    """Prints the tables."""
    head = ["rule", "noise", "updates", "begun with 0.001", "0.05", "0.9"]
    print(markdown(head, theory))
    if known(cells):
        race = Cells(RACE)
        tables = [] if next(small.missing(cells), None) else [small.table(cells)]
        tables += [ends(cells, race, group) for group in (ONE_FOR_ALL, BY_KIND, NO_SCHEDULE)]
        print("", looked_at(cells, race), *tables, sep="\n\n")
