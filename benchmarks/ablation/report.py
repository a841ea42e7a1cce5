"""The tables of an ablation, as Markdown."""

import math
import statistics
from pathlib import Path

from benchmarks.ablation.variants import FAMILIES, LONGER, RATES, WORKLOADS
from benchmarks.race import judging
from benchmarks.support.cells import Cells, replace

RACE = Path(judging.__file__).parent / "results.json"
MOST_SEEDS = 9


def key(family: str, variant: str, rate: float, seed: int, times: int) -> str:
    """Returns the name of a run's result."""
    longer = f", {times} times the updates" if times > 1 else ""
    return f"{family}, {variant}, {rate:g}, seed {seed}{longer}"


def ends(
    cells: Cells, family: str, variant: str, rate: float, times: int
) -> dict[str, list[float]]:
    """Returns where each seed's run ended, by workload; infinite where it diverged."""
    found: dict[str, list[float]] = {}
    for name, workload in WORKLOADS.items():
        for seed in range(1, MOST_SEEDS):
            run = cells.of(name, key(family, variant, rate, seed, times))
            if run:
                end = run[workload.judged][-1]
                found.setdefault(name, []).append(math.inf if end is None else end)
    return found


def best_of_the_race() -> dict[str, float]:
    """Returns the best median end, tuned for each workload, of all along the gradient."""
    cells = Cells(RACE)
    return {name: judging.best(judging.scores(cells, name, (1, 2, 3))[1]) for name in WORKLOADS}


def table(cells: Cells, family: str, rate: float, times: int) -> list[str]:
    """Returns the lines of a table: medians over seeds, by variant and workload."""
    best, rows = best_of_the_race(), []
    for variant in FAMILIES[family]:
        found = ends(cells, family, variant, rate, times)
        if not found:
            continue
        medians = {name: statistics.median(values) for name, values in found.items()}
        ratios = [medians[name] / best[name] for name in medians]
        mean = statistics.geometric_mean(ratios) if len(ratios) == len(WORKLOADS) else math.nan
        seeds = min(map(len, found.values()))
        numbers = [f"{medians[n]:.4g}" if n in medians else "" for n in WORKLOADS]
        whole = "" if math.isnan(mean) else f"{mean:.2f}"
        rows.append(f"| {variant} | {' | '.join(numbers)} | {whole} | {seeds} |")
    if not rows:
        return []
    longer = f", {times} times the updates" if times > 1 else ""
    return [
        f"`{family}`, learning rate {rate:g}{longer}:",
        "",
        f"| | {' | '.join(WORKLOADS)} | mean | seeds |",
        f"|---|{'---|' * (len(WORKLOADS) + 2)}",
        *rows,
        "",
    ]


def write(cells: Cells, path: Path) -> None:
    """Writes and prints the tables."""
    lines = [
        line
        for times in (1, LONGER)
        for family in FAMILIES
        for rate in sorted(RATES)
        for line in table(cells, family, rate, times)
    ]
    print("\n".join(lines))
    replace(path, "\n".join(lines))
