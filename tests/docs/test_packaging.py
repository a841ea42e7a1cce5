"""The package as it is installed."""

import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import nagd_keras

ROOT = Path(__file__).parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = SETTINGS["project"]

# Hides a package from a fresh interpreter, as if it were not installed.
WITHOUT = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {hidden!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hide())
import nagd_keras
"""


def import_without(hidden, **environment):
    return subprocess.run(
        [sys.executable, "-c", WITHOUT.format(hidden=hidden)],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_a_missing_backend_names_the_extra(backend):
    result = import_without(backend, KERAS_BACKEND=backend)
    assert result.returncode != 0
    assert "ImportError: nagd_keras trains through Keras 3" in result.stderr
    assert f"python -m pip install 'nagd-keras[{backend}]'" in result.stderr
    assert backend in PROJECT["optional-dependencies"]


def test_another_missing_package_is_named_as_it_is():
    result = import_without("numpy")
    assert result.returncode != 0
    assert "No module named 'numpy'" in result.stderr
    assert "nagd_keras trains through" not in result.stderr


def test_metadata():
    assert metadata.version("nagd-keras") == nagd_keras.__version__
    assert PROJECT["name"] == "nagd-keras"
    assert {"tensorflow", "jax", "torch", "examples", "test", "dev"} <= set(
        PROJECT["optional-dependencies"]
    )
    assert (Path(nagd_keras.__file__).parent / "py.typed").exists()
    assert (ROOT / "LICENSE").read_text().lstrip().startswith("Apache License")
    assert re.search(
        rf"^## {re.escape(nagd_keras.__version__)}", (ROOT / "CHANGELOG.md").read_text(), re.M
    )


def test_saved_models_are_in_the_source_distribution_only():
    """The build leaves out what .gitignore names, such as what the examples write there."""
    targets = SETTINGS["tool"]["hatch"]["build"]["targets"]
    assert {"saved_models", "tests"} <= set(targets["sdist"]["include"])
    assert targets["wheel"]["packages"] == ["nagd_keras"]


def test_the_source_distribution_has_the_documents_and_no_results():
    sdist = SETTINGS["tool"]["hatch"]["build"]["targets"]["sdist"]
    assert all((ROOT / name).exists() for name in sdist["include"])
    assert sdist["exclude"] == ["benchmarks/**/*.json"]


def test_what_a_package_index_shows_needs_no_file_of_the_repository():
    shown = (ROOT / "README.md").read_text(encoding="utf-8")
    hook = SETTINGS["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    for each in hook["substitutions"]:
        shown = re.sub(each["pattern"], each["replacement"], shown)
    assert "](" in shown
    assert all(link.startswith("https://") for link in re.findall(r"\]\(([^)]*)\)", shown))


def test_the_citation_is_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {nagd_keras.__version__}\n" in citation
    assert f"\nlicense: {PROJECT['license']}\n" in citation
