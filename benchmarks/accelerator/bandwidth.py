"""What an update moves through a device's memory, as a share of what a copy there moves."""

from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.support import limit

COPY, NAGD = "copy, device to device", "NAGD"
NARROW = 'NAGD, slot_dtype="bfloat16"'
WANTED = 0.85  # of the copy's bandwidth, for NAGD along the gradient

# Bytes of an element, in float32 where nothing else is said; all are read but the gradient's are
# written, too.
OF_COPY = 2 * 4
OF_GRADIENT = limit.BYTES  # w, s and g
OF_NARROW = 2 * 4 + 4 + 2 * 2  # w, g, and s in 16 bits
OF_SECOND_SLOT = 7 * 4  # w, s, the mean of squares, and g; of Adam likewise


def elements_copied(elements: int) -> int:
    """Returns how many elements a copy has that moves as much as an update of so many."""
    return elements * OF_GRADIENT // OF_COPY


def moved(
    rows: Mapping[str, Mapping[str, Any]], elements: int, sizes: Mapping[str, int]
) -> dict[str, dict[str, float]]:
    """Returns, by contestant, the gigabytes a second that it moves, and its share of the copy's.

    Args:
        rows: with the milliseconds of each; without a copy there are no shares.
        elements: of the variable.
        sizes: the bytes of an element, by contestant. The copy moves what `elements_copied` says.
    """
    whole = {name: elements * size for name, size in sizes.items()}
    whole[COPY] = elements_copied(elements) * OF_COPY
    rates = {
        name: whole[name] / float(row["ms"]) / 1e6
        for name, row in rows.items()
        if name in whole and row.get("ms")
    }
    found: dict[str, dict[str, float]] = {n: {"GB/s": round(x, 1)} for n, x in rates.items()}
    if COPY in rates:
        for name, rate in rates.items():
            found[name]["of the copy"] = round(rate / rates[COPY], 3)
    return found


def verdicts(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Returns a sentence for each backend whose rows have NAGD's share of the copy's bandwidth."""
    return [
        f"{row['section']}: {row['contestant']}, {row['table']}, moves {100 * share:.0f}% of what "
        f"a copy does; wanted: {100 * WANTED:.0f}%{'' if share >= WANTED else ', missed'}"
        for row in rows
        if row["contestant"] == NAGD and (share := row.get("of the copy")) is not None
    ]
