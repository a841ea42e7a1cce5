"""The pages' code runs as it stands, and what they say about files holds."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from textwrap import dedent

import keras
import pytest

import nagd_keras
from nagd_keras.directions.named import NAMED

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
READMES = ROOT / "README.md", ROOT / "README.zh.md"
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (*READMES, ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md")))
}
BLOCK = re.compile(r"^( *)```python\n(.*?)^ *```", re.M | re.S)
BLOCKS = {
    name: blocks
    for name, text in PAGES.items()
    if (blocks := [dedent(code) for _, code in BLOCK.findall(text)])
}
# The updates of the model's optimizer somewhere on a page, which it has only if all of it ran.
AGES = {
    "README.md": [30 * 8],
    "README.zh.md": [30 * 8],
    "docs/index.md": [32 * 8],  # over a save
    "docs/saving.md": [10 * 8, 20 * 8],  # over files of all kinds
    "docs/convert.md": [2 * 5 * 8],  # with two optimizers
}
# They take longest, and the second has the code of the README.
LONG = "docs/recipes.md", "README.zh.md"


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="some blocks are TensorFlow's")
@pytest.mark.parametrize(
    "page", [pytest.param(p, marks=pytest.mark.long) if p in LONG else p for p in BLOCKS]
)
def test_the_code_runs(page, tmp_path, monkeypatch, capsys):
    """Block after block, which share their names."""
    monkeypatch.chdir(tmp_path)
    names, ages = {"__name__": "page"}, []
    for number, block in enumerate(BLOCKS[page], 1):
        exec(compile(block, f"{page}, block {number}", "exec"), names)
        optimizer = getattr(names.get("model"), "optimizer", None)
        ages.append(int(getattr(optimizer, "age", 0)))
    assert set(AGES.get(page, ())) <= set(ages)
    if page == "docs/callbacks.md":
        assert "learning_rate,loss" in Path("log.csv").read_text()


def test_no_page_is_forgotten():
    assert set(AGES) <= set(BLOCKS)
    assert len(BLOCKS) >= 15


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
def test_a_readme_is_short_and_has_the_commands(readme):
    text = readme.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    for extra, command in [("examples", "python examples/digits.py"), ("test", "python -m pytest")]:
        assert f"\npython -m pip install -e '.[{extra}]' && {command}\n" in text


@pytest.mark.parametrize("name", NAMED)
def test_the_settings_of_a_direction_are_those_of_the_code(name):
    """Its own learning rate and momentum, wherever they stand, and the defaults on its page."""
    kind = NAMED[name]
    own = [f"{kind.learning_rate:g}", f"{kind.momentum:g}"]
    (row,) = re.findall(rf'^\| \[`"{name}"`\].*', PAGES["README.md"], re.M)
    assert f" {', '.join(own)} |" in row
    (row,) = re.findall(rf'^\| \[`"{name}"`\].*', PAGES["README.zh.md"], re.M)
    assert f" {'、'.join(own)} |" in row
    assert f'\n| `"{name}"` | {" | ".join(own)} |' in PAGES["docs/directions.md"]
    page = PAGES[f"docs/{name}.md"]
    assert f"\n| own learning rate, momentum | {', '.join(own)} |" in page
    defaults = {"learning_rate": kind.learning_rate, "momentum": kind.momentum}
    for _, setting, given in re.findall(r"^\| \$.*`(\w+)\((\w+)=([^)]*)\)`", page, re.M):
        default = {**kind().get_config(), **defaults}[setting]
        assert eval(given) == default or given == "False", setting


def headings(text):
    """The anchors that GitHub and the site make of headings."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    found = set()
    for heading in re.findall(r"^#+ +(.+)$", text, re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        found.add(re.sub(r"[^\w\- ]", "", plain).strip().lower().replace(" ", "-"))
    return found


def documented(text, name):
    """Whether a page of the reference has an object: one of what it shows."""
    shown = re.findall(r"^::: (\S+)$", text, re.M)
    found = nagd_keras
    for part in name.split(".")[1:]:
        found = getattr(found, part)
    return any(name.startswith(each) for each in shown)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", PAGES[page], flags=re.S)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"^\[.+\]: (\S+)", text, re.M)
    for target in targets:
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        other = (ROOT / page).parent / path if path else ROOT / page
        # A source distribution has no results.
        assert other.exists() or (other.name == "results.json" and other.parent.exists()), target
        if anchor:
            there = other.read_text(encoding="utf-8")
            known = documented(there, anchor) if "." in anchor else anchor in headings(there)
            assert known, target


def test_every_page_is_in_the_navigation():
    (nav,) = re.findall(r"^nav:\n(.*?)^\S", (ROOT / "mkdocs.yml").read_text(), re.M | re.S)
    listed = re.findall(r": (\S+\.md)$", nav, re.M)
    assert len(set(listed)) == len(listed)
    pages = [*DOCS.rglob("*.md"), *(path.with_suffix(".md") for path in DOCS.rglob("*.ipynb"))]
    assert set(listed) == {path.relative_to(DOCS).as_posix() for path in pages}


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_there(page):
    for module in re.findall(r"python -m (benchmarks\.\w+)", PAGES[page]):
        assert (ROOT / module.replace(".", "/") / "__main__.py").exists(), module
    for file in re.findall(r"python (examples/\w+\.py)", PAGES[page]):
        assert (ROOT / file).exists(), file


@pytest.mark.skipif(shutil.which("git") is None, reason="git applies them")
def test_the_changes_that_contributing_shows_apply():
    changes = re.findall(r"```diff\n(.*?)```", PAGES["CONTRIBUTING.md"], re.S)
    assert len(changes) >= 5
    for change in changes:
        result = subprocess.run(
            ["git", "apply", "--check", "-"],
            input=change,
            cwd=ROOT,
            env={**os.environ, "GIT_CEILING_DIRECTORIES": str(ROOT.parent)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, f"{result.stderr}{change}"


def test_the_tables_on_scaling_are_what_the_formulas_say():
    from benchmarks.distributed.scaling import markdown

    tables = markdown().split("\n\n")
    assert len(tables) == 2
    for table in tables:
        assert table.strip() in PAGES["docs/scaling.md"]
