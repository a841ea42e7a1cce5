"""Runs that are killed, files that are damaged, disks that are full."""

import itertools
import json
import multiprocessing
import random
import signal
import time

import pytest

from nagd_keras import saving
from tests.support import killed_run

pytestmark = pytest.mark.long  # see pyproject.toml

KILLS = 20


@pytest.fixture(scope="module")
def processes():
    """Starts processes that have imported what takes long already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["tensorflow", "keras", "nagd_keras", "tests.support.saving_cases"]
    )
    return context


def ended(process) -> None:
    process.start()
    process.join()
    assert process.exitcode == 0


def test_a_run_that_is_killed_resumes(processes, tmp_path):
    """At 20 random moments; what is left is whole each time, and the end is the same to the bit."""
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    for folder in (undisturbed, disturbed):
        folder.mkdir()
    ended(processes.Process(target=killed_run.train, args=(str(undisturbed),)))
    started, finished = ((undisturbed / name).stat().st_mtime for name in ("started", "end.json"))
    seconds = (finished - started) / killed_run.EPOCHS  # of an epoch
    moments = random.Random(0)
    epochs = [0]  # that were whole after each kill
    ready = disturbed / "ready"
    for _ in range(KILLS):
        process = processes.Process(target=killed_run.train, args=(str(disturbed),))
        process.start()
        while process.is_alive() and not ready.exists():
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 3 * seconds))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        ready.unlink()
        backups = sorted((disturbed / "backup").glob("epoch-*"))
        for path in backups:
            saving.check(path)
        epochs.append(int(backups[-1].name.removeprefix("epoch-")[:6]))
    assert all(early < late for early, late in itertools.pairwise(epochs)), "no progress"
    ended(processes.Process(target=killed_run.train, args=(str(disturbed),)))
    wanted, found = (json.loads((f / "end.json").read_text()) for f in (undisturbed, disturbed))
    assert found == wanted
    assert not (disturbed / "backup").exists()
