"""Which tests are left to `-m long`, besides those that are marked: cases of large families.

Of what is marked `keep`, the default run takes as many cases, evenly spread, and so covers every
feature in a few minutes.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import pytest

# What takes minutes, and of which the default run has a short form.
EXHAUSTIVE = (
    "tests/callbacks/test_divergence_guard_together.py::test_spoiled_batches_hardly_matter",
    "tests/docs/",
    "tests/engine/test_distributed.py",
    "tests/engine/test_multi_worker_tensorflow.py::test_other_numbers_of_workers",
    "tests/engine/test_multi_worker_tensorflow.py::test_the_restarts_are_counted",
    "tests/state/test_resume_steps.py",
)
# What CI runs all the same, with all its cases.
SHORT = (
    "tests/docs/test_controller.py::",
    "tests/docs/test_readme.py::",
    "tests/engine/test_distributed.py::test_data_of_unknown_length",
    "tests/engine/test_distributed.py::test_refused",
)
# Of a family of long cases, CI runs one of so many.
OF = 15


def mark(items: Iterable[Any]) -> None:
    """Marks the cases that do not stay, and those of them that CI leaves out."""
    families: dict[str, list[Any]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("keep"):
            families[item.nodeid.partition("[")[0]].append(item)
    for cases in families.values():
        (kept,) = cases[0].get_closest_marker("keep").args
        stay = {i * len(cases) // kept for i in range(kept)}
        for i, item in enumerate(cases):
            if i not in stay:
                item.add_marker(pytest.mark.long)
    numbers: Counter[str] = Counter()
    for item in items:
        if item.get_closest_marker("long"):
            family = item.nodeid.partition("[")[0]
            is_left_out = numbers[family] % OF > 0 or item.nodeid.startswith(EXHAUSTIVE)
            if is_left_out and not item.nodeid.startswith(SHORT):
                item.add_marker(pytest.mark.exhaustive)
            numbers[family] += 1
