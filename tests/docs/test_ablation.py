"""The ablation's variants are what their names say, and its tables medians of their runs."""

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("the race runs on TensorFlow", allow_module_level=True)

from benchmarks.ablation import report
from benchmarks.ablation.variants import ADAPTIVE, ORTHOGONAL, RATES, WORKLOADS
from benchmarks.race.contestants import Draw
from benchmarks.support.cells import Cells


def test_a_variant_trains_with_its_settings():
    variant = ORTHOGONAL["b .9, momentum .8"]
    optimizer = variant.contestant().make(Draw(0.01, 0.0, True), 100)
    assert optimizer.direction.beta == 0.9
    assert float(optimizer.momentum) == pytest.approx(0.8)


def test_the_first_variants_are_the_defaults():
    for name, family in (("orthogonal", ORTHOGONAL), ("adaptive", ADAPTIVE)):
        variant = next(iter(family.values()))
        assert variant.direction.get_config() == type(variant.direction)().get_config(), name
        assert variant.momentum == variant.direction.momentum


@pytest.mark.skipif(not report.RACE.exists(), reason="a source distribution has no results")
def test_a_row_has_medians_and_the_mean_of_the_ratios(tmp_path):
    cells, best = Cells(tmp_path / "results.json"), report.best_of_the_race()
    name = next(iter(ADAPTIVE))
    for workload, each in WORKLOADS.items():
        for seed, factor in ((1, 2.0), (2, 3.0), (3, float("inf"))):
            key = report.key("adaptive", name, RATES[0], seed, 1)
            cells.add(workload, key, {each.judged: [9.0, factor * best[workload]]})
    (row,) = [x for x in report.table(cells, "adaptive", RATES[0], 1) if x.startswith(f"| {name}")]
    assert row.endswith("| 3.00 | 3 |")
