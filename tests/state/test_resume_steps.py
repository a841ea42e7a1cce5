"""A run that is saved after any step and continued in a new process ends with the same bits."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.saving_cases import CASES, RESTART, STEPS, state

pytestmark = pytest.mark.long  # see pyproject.toml

FIRST = 1  # Before the first step there is no state to lose.


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The states at the end, by case, and the folder with what was saved after each step."""
    folder, ends = tmp_path_factory.mktemp("steps"), []
    for number, case in enumerate(CASES):
        model = case.start()
        for i in range(1, STEPS + 1):
            case.step(model, i)
            if i < STEPS:
                model.save(folder / f"{number}-{i}.keras")
        ends.append(state(model))
    return ends, folder


@pytest.fixture(scope="module")
def resumed(uninterrupted):
    """The states at the end of the runs that were continued, by case and step."""
    _, folder = uninterrupted
    process = subprocess.run(
        [sys.executable, "-m", "tests.support.resume_steps", str(folder)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return json.loads((folder / "states.json").read_text())


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case.name for case in CASES])
def test_resumed_is_uninterrupted(uninterrupted, resumed, number):
    wanted = uninterrupted[0][number]
    for step in range(FIRST, STEPS):
        assert resumed[f"{number}-{step}"] == wanted, f"saved after step {step}"


def test_the_steps_are_worth_saving_after():
    """Before, at and after a restart, the end of a window, and an overwrite by the averages."""
    keys = ("gradient_accumulation_steps", "ema_overwrite_frequency")
    periods = {case.settings[key] for case in CASES for key in keys if key in case.settings}
    for event in (RESTART, *periods):
        assert FIRST < event < STEPS - 1
