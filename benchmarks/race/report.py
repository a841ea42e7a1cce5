"""What the race says: a page of tables, and its figures."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import geometric_mean

from benchmarks.race.contestants import ALL
from benchmarks.race.judging import Table, scores
from benchmarks.race.plan import PILOTS, Plan, centre, last, shortened
from benchmarks.race.rulings import LONGER, SEEDS, Rulings, alone, at_rate, judged
from benchmarks.race.untuned import AS_IT_COMES, ONE_RATE
from benchmarks.race.workloads import WORKLOADS
from benchmarks.support.cells import Cells


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def bold(who: str) -> str:
    """Returns a name, bold if it is NAGD's."""
    return f"**{who}**" if who.startswith("NAGD") else who


def ranges() -> str:
    """Returns from where the trials are drawn, as Markdown."""
    rows = []
    for who, each in ALL.items():
        times = "" if each.factor == 1 else f"{each.factor:g} · "
        rest = f"{each.rest} {each.rests[0]:g} to {each.rests[1]:g}" if each.rest else ""
        rows.append([who, f"{times}{each.pilot}'s", rest, "half" if each.decays else "none"])
    return markdown(["", "learning rate around", "else", "cosine decay"], rows)


def sizes(cells: Cells, names: Iterable[str], plan: Plan) -> str:
    """Returns what is trained, and what the pilots found, as Markdown."""
    rows = []
    for name in names:
        workload = shortened(WORKLOADS[name], plan.part)
        found = [
            workload.title,
            str(workload.batch or "all"),
            f"{workload.updates:,}",
            workload.judged.replace("_", " "),
            *(f"{centre(cells, name, workload, who, plan):g}" for who in PILOTS),
        ]
        rows.append(found)
    pilots = [f"best rate of {who}" for who in PILOTS]
    return markdown(["", "batch", "updates", "judged by", *pilots], rows)


def page(table: Table) -> str:
    """Returns the tables of the tuned as Markdown."""
    found = []
    for name, (target, of) in table.items():
        workload, rows = WORKLOADS[name], []
        for who, score in sorted(of.items(), key=lambda item: item[1].end):
            reached = math.isfinite(score.to_target)
            row = [
                bold(who),
                f"{score.end:.4g} ({score.low:.4g} to {score.high:.4g})",
                "" if score.accuracy is None else f"{score.accuracy:.3f}",
                f"{score.to_target:,.0f}" if reached else "—",
                f"{score.seconds:.1f}" if reached else "—",
                f"{score.ms:.2f}",
                f"{score.bytes:.1f}",
            ]
            rows.append(row)
        judged = workload.judged.replace("_", " ")
        head = ["", "at the end", "accuracy", "updates to the target", "seconds", "ms", "bytes"]
        found.append(f"**{workload.title}**: {judged} of {target:.4g}\n\n{markdown(head, rows)}\n")
    return "\n".join(found)


def tuned(table: Table) -> dict[str, dict[str, float]]:
    """Returns the ratio of each tuned end to the best, by contestant and workload."""
    lowest = {
        name: min(score.end for score in found.values()) for name, (_, found) in table.items()
    }
    return {
        who: {name: f[who].end / lowest[name] for name, (_, f) in table.items() if who in f}
        for who in ALL
    }


def by_rate(rulings: Rulings) -> dict[str, dict[float, float]]:
    """Returns the mean ratio of each contestant to the best tuned, by learning rate."""
    return {
        who: {
            rate: geometric_mean(rulings.ratios([at_rate(who, rate, SEEDS[0])]))
            for rate in rulings.rates(who)[0]
        }
        for who in ONE_RATE
    }


def ruled(rulings: Rulings) -> dict[str, dict[str, dict[str, float]]]:
    """Returns the ratios of those with one rate, and as they come, by contestant and workload."""
    one = {}
    for who in ONE_RATE:
        rate = rulings.rates(who)[1]
        assert rate is not None
        one[f"{who}, {rate:g}"] = [at_rate(who, rate, seed) for seed in SEEDS]
    come = {who: [alone(who)] for who in AS_IT_COMES}
    return {
        what: _sorted({who: rulings.ratios(runs) for who, runs in found.items()}, rulings)
        for what, found in (("one rate", one), ("as it comes", come))
    }


def _sorted(found: Mapping[str, Sequence[float]], rulings: Rulings) -> dict[str, dict[str, float]]:
    """Returns rows with their means, the best first."""
    rows = {
        who: dict(zip(["mean", *rulings.workloads], [geometric_mean(each), *each], strict=True))
        for who, each in found.items()
    }
    return dict(sorted(rows.items(), key=lambda item: item[1]["mean"]))


def ratios(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Returns ratios as Markdown."""
    columns = list(next(iter(rows.values())))
    lines = [[bold(who), *(f"{row[c]:.3g}" for c in columns)] for who, row in rows.items()]
    return markdown(["", *columns], lines)


def longer(rulings: Rulings) -> str:
    """Returns the ends with more updates, and the mean ratio to the best of them, as Markdown."""
    ends: dict[str, dict[str, float]] = {}
    for each in rulings.longer():
        end = last(rulings.cells.of(each.name, each.run.key), each.workload.judged)
        ends.setdefault(each.run.who, {})[each.name] = end
    names = list(next(iter(ends.values())))
    lowest = {name: min(found[name] for found in ends.values()) for name in names}
    rows = {who: [f"{found[name]:.4g}" for name in names] for who, found in ends.items()}
    means = {
        w: geometric_mean(found[name] / lowest[name] for name in names) for w, found in ends.items()
    }
    order = sorted(rows, key=lambda who: means[who])
    return markdown(
        [f"{LONGER} times the updates", "mean", *names],
        [[bold(who), f"{means[who]:.2f}", *rows[who]] for who in order],
    )


def write(cells: Cells, names: list[str], plan: Plan, folder: Path) -> None:
    """Prints the tables of some workloads, and draws their figures."""
    from benchmarks.race import figures  # Not above: a race needs no matplotlib.

    table = {name: scores(cells, name, plan.seeds) for name in names}
    print(sizes(cells, names, plan), ranges(), page(table), sep="\n\n")
    folder.mkdir(parents=True, exist_ok=True)
    title = "Loss or error at the end, as a multiple of the best"
    print(figures.heat(tuned(table), title, folder / "race_tuned.png"))
    if plan.seeds != SEEDS or names != list(WORKLOADS):
        return  # The rulings are of all workloads.
    rulings = judged(cells, WORKLOADS)
    if next(rulings.missing(), None):
        print("The rulings are not reported, for runs are missing.")
        return
    found = ruled(rulings)
    print(*map(ratios, found.values()), longer(rulings), sep="\n\n")
    title = "Loss or error at the end, as a multiple of the best that was tuned"
    for what, rows in found.items():
        path = folder / f"race_{what.replace(' ', '_')}.png"
        print(figures.heat(rows, f"{title}; {what}", path))
    print(figures.curves(by_rate(rulings), folder / "race_rates.png"))
