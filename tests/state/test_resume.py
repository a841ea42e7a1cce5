"""A run that is interrupted and resumed in new processes ends as if nothing had happened."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import resume_runs

pytestmark = pytest.mark.long  # see pyproject.toml

EVERY = 2  # epochs


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """What each case logged over all its processes, and its variables at the end."""
    folder = tmp_path_factory.mktemp("resumed")
    stops = [*range(EVERY, resume_runs.EPOCHS, EVERY), resume_runs.EPOCHS]
    parts = []
    for stop in stops:
        process = subprocess.run(
            [sys.executable, "-m", "tests.support.resume_runs", str(folder), str(stop)],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode == 0, process.stderr
        parts.append(json.loads((folder / f"{stop}.json").read_text()))
    return parts


@pytest.mark.parametrize("name", resume_runs.names())
def test_resumed_is_uninterrupted(resumed, name):
    wanted = resume_runs.run(name, interrupt_at=None)
    logs = [part[name]["logs"] for part in resumed]
    assert [sorted(map(int, part)) for part in logs[:2]] == [[0, 1], [2, 3]]
    assert {epoch: log for part in logs for epoch, log in part.items()} == wanted["logs"]
    assert resumed[-1][name]["variables"] == wanted["variables"]


def test_the_runs_are_worth_comparing():
    """Restarts happen, and the stop condition is met after the second interruption."""
    logs = {name: resume_runs.run(name, None)["logs"] for name in ("restart on epochs", "stop")}
    restarts = [log["restarts"] for log in logs["restart on epochs"].values()]
    assert restarts[-1] > 0
    assert len(logs["stop"]) == 5
