"""What the race says: a page of tables, and its figures."""

import math
from pathlib import Path

from benchmarks.race.contestants import ALL, OURS
from benchmarks.race.judging import Table, scores
from benchmarks.race.plan import PILOTS, Plan, centre, shortened
from benchmarks.race.workloads import WORKLOADS
from benchmarks.support.cells import Cells


def ranges() -> str:
    """Returns from where the trials are drawn, as Markdown."""
    lines = ["| | learning rate around | else | cosine decay |", "|---|---|---|---|"]
    for who, each in ALL.items():
        times = "" if each.factor == 1 else f"{each.factor:g} · "
        rest = f"{each.rest} {each.rests[0]:g} to {each.rests[1]:g}" if each.rest else ""
        decays = "half" if each.decays else "none"
        lines.append(f"| {who} | {times}{each.pilot}'s | {rest} | {decays} |")
    return "\n".join(lines)


def sizes(cells: Cells, plan: Plan) -> str:
    """Returns what is trained, and what the pilots found, as Markdown."""
    best = [f"best rate of {who}" for who in PILOTS]
    lines = [f"| | batch | updates | judged by | {' | '.join(best)} |", "|---|---|---|---|---|---|"]
    for name, whole in WORKLOADS.items():
        workload = shortened(whole, plan.part)
        found = [
            workload.title,
            str(workload.batch or "all"),
            f"{workload.updates:,}",
            workload.judged.replace("_", " "),
            *(f"{centre(cells, name, workload, who, plan):g}" for who in PILOTS),
        ]
        lines.append(f"| {' | '.join(found)} |")
    return "\n".join(lines)


def page(table: Table) -> str:
    """Returns the tables as Markdown."""
    lines = []
    for name, (target, found) in table.items():
        workload = WORKLOADS[name]
        lines += [
            f"**{workload.title}**: {workload.judged.replace('_', ' ')} of {target:.4g}",
            "",
            "| | at the end | accuracy | updates to the target | seconds | ms |",
            "|---|---|---|---|---|---|",
        ]
        for who, score in sorted(found.items(), key=lambda item: item[1].end):
            reached = math.isfinite(score.to_target)
            cells = [
                f"**{who}**" if who in OURS else who,
                f"{score.end:.4g} ({score.low:.4g} to {score.high:.4g})",
                "" if score.accuracy is None else f"{score.accuracy:.3f}",
                f"{score.to_target:,.0f}" if reached else "—",
                f"{score.seconds:.1f}" if reached else "—",
                f"{score.ms:.2f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def write(cells: Cells, names: list[str], plan: Plan, folder: Path) -> None:
    """Prints the tables of some workloads, and draws their figures."""
    from benchmarks.race import figures  # Not above: a race needs no matplotlib.

    table = {name: scores(cells, name, plan.seeds) for name in names}
    print(sizes(cells, plan), ranges(), page(table), sep="\n\n")
    folder.mkdir(parents=True, exist_ok=True)
    for path in figures.draw(table, folder):
        print(path)
