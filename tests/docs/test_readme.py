"""The README's code runs as it stands, and its claims about files hold."""

import re
from pathlib import Path

import keras
import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="one block is TensorFlow's")
def test_the_code_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert len(BLOCKS) >= 8
    names, ages, batches = {}, [], []
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), names)
        optimizer = getattr(names["model"], "optimizer", None)
        ages.append(int(getattr(optimizer, "age", 0)))
        batches.append(int(getattr(optimizer, "iterations", 0)))
    assert 10 * 8 in ages  # epochs of 256 / 32 batches, over a save
    assert 5 * 6 in batches  # three quarters of the samples
    assert 5 * 6 + 20 * 8 in batches  # over files of all kinds
    assert batches[-1] == 2 * 5 * 8  # with two optimizers
    assert "learning_rate,loss" in Path("log.csv").read_text()


def test_the_commands_are_there():
    for extra, command in [("examples", "python examples/digits.py"), ("test", "python -m pytest")]:
        assert f"\npython -m pip install -e '.[{extra}]' && {command}\n" in README


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if target.startswith("#"):
            assert f"\n## {target[1:].replace('-', ' ').capitalize()}\n" in README, target
        elif not target.startswith("https://"):
            assert (ROOT / target).exists(), target


def test_the_tables_on_scaling_are_what_the_formulas_say():
    from benchmarks.distributed.scaling import markdown

    document = (ROOT / "docs" / "scaling.md").read_text()
    tables = markdown().split("\n\n")
    assert len(tables) == 2
    for table in tables:
        assert table.strip() in document
