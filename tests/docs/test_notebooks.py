"""The notebooks were saved after a whole run, and show nothing of the machine. CI runs them."""

import ast
import json
import re
from pathlib import Path

import pytest

from tests.docs.test_readme import headings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "notebooks"
NOTEBOOKS = {path.name: json.loads(path.read_text("utf-8")) for path in FOLDER.glob("*.ipynb")}
pytestmark = pytest.mark.parametrize("name", NOTEBOOKS)


def cells(name, kind):
    return [cell for cell in NOTEBOOKS[name]["cells"] if cell["cell_type"] == kind]


def outputs(name):
    return [output for cell in cells(name, "code") for output in cell["outputs"]]


def text(lines):
    return "".join(lines)


def test_it_was_saved_after_a_whole_run(name):
    code = cells(name, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert {output["output_type"] for output in outputs(name)} == {"display_data", "stream"}


def test_it_has_pictures_with_labelled_axes(name):
    pictures = [each for each in outputs(name) if "image/png" in each.get("data", {})]
    assert len(pictures) >= (1 if name == "text.ipynb" else 5)
    drawn = [
        text(cell["source"]) for cell in cells(name, "code") if "plot(" in text(cell["source"])
    ]
    labelled = re.compile(r"xlabel|plot\(.*ax=axes|show\(")
    assert drawn
    assert all(labelled.search(source) for source in drawn)


def test_it_shows_no_warnings_and_nothing_of_the_machine(name):
    printed = [each for each in outputs(name) if each["output_type"] == "stream"]
    assert printed
    assert all(each["name"] == "stdout" for each in printed)
    said = "\n".join(text(each["text"]) for each in printed)
    assert not re.search(r"https?://|(?<!\w)/(home|opt|root|tmp|usr|work|Users)\b|[A-Z]:\\", said)
    assert not any("execution" in cell["metadata"] for cell in NOTEBOOKS[name]["cells"])
    assert set(NOTEBOOKS[name]["metadata"]["kernelspec"].values()) == {
        "Python 3",
        "python",
        "python3",
    }


def test_it_trains_in_the_recommended_way(name):
    source = "\n".join(text(cell["source"]) for cell in cells(name, "code"))
    ast.parse(source)
    assert 'NAGD(direction="orthogonal"), callbacks.OneCycle()' in source


def test_its_links_lead_somewhere(name):
    prose = "\n".join(text(cell["source"]) for cell in cells(name, "markdown"))
    assert prose.startswith("# ")
    targets = re.findall(r"\]\(([^)\s]+)\)", prose)
    assert targets
    for target in targets:
        path, _, anchor = target.partition("#")
        there = FOLDER / path
        assert there.exists(), target
        assert not anchor or anchor in headings(there.read_text("utf-8")), target
