"""What a release needs: one version, a changelog that has it, and the files of the platform."""

import ast
import re
import tomllib

import pytest
import yaml

from tests.support.pages import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TEMPLATES = [
    path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"
]


def test_the_changelog_begins_with_this_version():
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert re.fullmatch(
        rf"{re.escape(PROJECT['version'])} \((unreleased|\d{{4}}-\d{{2}}-\d{{2}})\)", headings[0]
    )


def test_every_kind_of_change_is_there_once():
    """A version has one list of what was added, one of what was changed, and so on."""
    for version in (ROOT / "CHANGELOG.md").read_text().split("\n## ")[1:]:
        kinds = re.findall(r"^### (.*)$", version, re.MULTILINE)
        assert len(kinds) == len(set(kinds)), kinds


def test_the_version_is_written_once():
    """The package reads it from its metadata, and other files do not repeat it."""
    for name in ("CITATION.cff", "README.md", "mkdocs.yml", "src/postnms/__init__.py"):
        assert PROJECT["version"] not in (ROOT / name).read_text(), name
    body = ast.parse((ROOT / "src/postnms/__init__.py").read_text()).body
    assert ast.unparse(body[-1]) == "__version__ = version('postnms')"


def test_continuous_integration_runs_every_version_of_python_that_is_named():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    job = workflow["jobs"]["ci"]
    named = [entry.rpartition(" :: ")[2] for entry in PROJECT["classifiers"]]
    assert job["strategy"]["matrix"]["python"] == [v for v in named if re.fullmatch(r"3\.\d+", v)]
    assert PROJECT["requires-python"] == f">={job['strategy']['matrix']['python'][0]}"
    steps = [step for step in job["steps"] if "run" in step]
    assert [step["run"] for step in steps] == [".ci/run"]
    assert (ROOT / ".ci/run").stat().st_mode & 0o111
    assert set(workflow[True]) == {"push", "pull_request"}  # YAML 1.1 reads "on" as true


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_a_form_for_issues_is_whole(path):
    form = yaml.safe_load(path.read_text())
    assert {"name", "description", "body"} <= set(form) <= {"name", "description", "labels", "body"}
    fields = form["body"]
    assert len({field["id"] for field in fields}) == len(fields)
    for field in fields:
        assert field["type"] in ("textarea", "input", "dropdown", "checkboxes")
        assert field["attributes"]["label"]
    assert any(field.get("validations", {}).get("required") for field in fields)
