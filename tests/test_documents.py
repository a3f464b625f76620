"""The documents say what is true: their examples run, their links lead somewhere, and their figures
are those of the records."""

import json
import re

import pytest
import torch
import yaml
from handbook.method_figure import draw
from handbook.notebook import cells_of, pages
from handbook.reference import verbs

from postnms.recipes import RECIPES, get_recipe, parse_changes
from tests.support.pages import (
    NOTEBOOKS,
    PAGES,
    README,
    ROOT,
    commands,
    examples,
    mentioned,
    notebook_commands,
    run_examples,
)

RECORDS = ROOT / "docs" / "results"
VERBS = dict(verbs())
"""The verbs of the command line by their words."""
README_COLUMNS = ("bloodcells", "finetune_bloodcells", "finetune_aquarium")
"""The experiments whose figures the table of the README has."""
OWN_TESTS = {
    README,
    *(ROOT / "docs" / f"{name}.md" for name in ("suppressors", "training", "predicting")),
    ROOT / "docs" / "your_detector.md",
    ROOT / "docs" / "tutorials" / "compare.md",
    ROOT / "docs" / "viewers.md",
}
"""Pages whose examples run in a test of their own, which looks at what they give. That of the last
one is `tests/viewers/test_page.py`."""


def test_the_examples_of_the_readme_give_what_they_say():
    names = run_examples(README)
    assert len(names["losses"]) == 6
    assert list(names["rows"]) == ["nms", "post_nms"]
    assert names["found"][0].image_size == (200, 260)
    assert "# [0, 2]: what NMS keeps; [0, 0, 1]: the key that owns each box" in README.read_text()
    assert names["keys"].tolist() == [0, 2]
    assert names["assignment"].tolist() == [0, 0, 1]


def test_the_suppressor_of_the_documents_keeps_the_first():
    names = run_examples(ROOT / "docs" / "suppressors.md")
    assert names["FirstOnly"]()(names["candidates"]).source.tolist() == [0]
    assert names["FirstOnly"](least_score=0.95)(names["candidates"]).source.tolist() == []


def test_the_detector_of_the_training_page_is_built():
    names = run_examples(ROOT / "docs" / "training.md")
    assert names["detector"].network.num_classes == len(names["classes"]) == 5


def test_the_model_of_the_predicting_page_predicts():
    names = run_examples(ROOT / "docs" / "predicting.md")
    assert [prediction.image_size for prediction in names["found"]] == [(80, 120), (80, 120)]
    assert list(names["table"].columns)[:3] == ["label", "name", "score"]


def test_the_example_detector_learns_with_the_stage_on_it():
    names = run_examples(ROOT / "docs" / "your_detector.md")
    losses, rows = names["losses"], names["rows"]
    terms = {"loss_classification", "loss_location", "loss_stage_cls", "loss_stage_loc"}
    assert set(losses) == terms
    new = names["attach"](names["TinyDetector"](num_classes=2))
    untrained = new(names["images"], names["targets"]).losses
    assert losses["loss_classification"] < 0.75 * untrained["loss_classification"]
    assert losses["loss_location"] < 0.75 * untrained["loss_location"]
    assert losses["loss_stage_cls"] > 0
    assert list(rows) == ["nms", "post_nms"]
    assert torch.isfinite(rows["nms"].boxes[0]).all()


def test_the_comparison_of_the_tutorial_has_figures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    figures = run_examples(ROOT / "docs" / "tutorials" / "compare.md")["figures"]
    assert list(figures) == ["nms", "soft_nms_linear", "wbf:iou=0.6"]
    assert all(30 < ap < 100 for ap in figures.values())


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if examples(page) and page not in OWN_TESTS],
    ids=lambda page: page.stem,
)
def test_the_examples_of_every_other_page_run(page, tmp_path, monkeypatch):
    """``torch.compile`` compiles nothing here: tests of the stage and of suppressors do."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    run_examples(page)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if commands(page)], ids=lambda page: page.stem
)
def test_command_lines_are_understood(page):
    """The parser takes every line as it is: verb, arguments, options and settings of a recipe."""
    check_lines(commands(page))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_have_code_that_can_run_and_no_outputs(path):
    """``make notebook`` runs them. Here they are only read."""
    content = json.loads(path.read_text())
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    for cell in content["cells"]:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
    check_lines(notebook_commands(path))
    codes = [text for kind, text in cells_of(path) if kind == "code" and not text.startswith("!")]
    assert all(compile(code, str(path), "exec") for code in codes)
    page = pages()[f"notebooks/{path.stem}.md"]
    assert page.startswith("# ")
    assert all(text in page for _, text in cells_of(path))


def check_lines(lines):
    for words in lines:
        name, *rest = words[1:]
        name = (name, rest.pop(0)) if (name,) not in VERBS else (name,)
        assert name in VERBS, words
        try:
            params = VERBS[name].make_context(name[-1], rest).params
            if params.get("recipe") in RECIPES:
                get_recipe(params["recipe"], parse_changes(params.get("changes") or []))
        except Exception as error:
            pytest.fail(f"{' '.join(words)}: {getattr(error, 'message', error)}")


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if mentioned(page) and page.parent != RECORDS],
    ids=lambda page: page.stem,
)
def test_verbs_and_options_in_sentences_exist(page):
    """Records are left out: they have the commands of their commits."""
    for words in mentioned(page):
        found = [name for name in VERBS if tuple(words[1 : 1 + len(name)]) == name]
        if not found:
            assert any(name[0] == words[1] for name in VERBS), words
            continue
        known = {option for parameter in VERBS[found[0]].params for option in parameter.opts}
        named = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert named - known <= {"--help"}, words


def test_the_figure_of_the_method_is_drawn(tmp_path):
    clusters = draw(tmp_path / "method.png")
    assert (len(clusters.assignment), len(clusters.keys)) == (30, 5)  # as the figure says
    drawn = (tmp_path / "method.png").read_bytes()
    assert drawn[:8] == (ROOT / "docs" / "explanation" / "method.png").read_bytes()[:8]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", prose):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page):
    """A path in backquotes that begins with a folder of the project is the path of a file."""
    paths = re.findall(r"`((?:src|tests|docs|benchmarks)/[\w/.]+\.\w+)`", page.read_text())
    for path in paths:
        assert "NAME" in path or (ROOT / path).exists(), path


def test_every_promise_of_durability_names_a_test_that_exists():
    page = (ROOT / "docs" / "durability.md").read_text()
    promises = [line for line in page.splitlines() if line.startswith("| ") and "`" in line]
    assert len(promises) > 10
    for line in promises:
        file = None
        for word in re.findall(r"`([\w/]+(?:\.py)?)`", line.split(" | ")[-1]):
            if word.endswith(".py"):
                file = ROOT / "tests" / word
                assert file.is_file(), word
            else:
                assert file is not None, line
                assert f"def {word}(" in file.read_text(), word
        assert file is not None, line


def test_the_results_table_of_the_readme_is_that_of_the_records():
    """A line for the bare detector, the best suppressor on its candidates, and the stage.

    Each has a cell for each experiment.
    """
    lines = README.read_text().splitlines()
    first = next(row for row, line in enumerate(lines) if line.startswith("| bare detector"))
    table = [line.strip("| ").split(" | ")[1:] for line in lines[first : first + 3]]
    assert [len(cells) for cells in table] == [3, 3, 3]
    for column, experiment in enumerate(README_COLUMNS):
        summary = json.loads((RECORDS / experiment / "summary.json").read_text())
        assert not summary["missing"]
        figures = {(one["arm"], one["asked"]): one["AP"] for one in summary["results"]}
        expected = [
            _with_interval(figures["bare", "nms"], "{}"),
            _with_interval(figures["bare", "best_heuristic"], "{}"),
            _with_interval(figures["stage", "post_nms+soft_nms_linear"], "**{}**"),
        ]
        assert [cells[column] for cells in table] == expected, experiment


def _with_interval(figures, form):
    mean = form.format(f"{figures['mean']:.1f}")
    return f"{mean} ({figures['low']:.1f} to {figures['high']:.1f})"


def test_the_citation_is_that_of_the_readme():
    """CITATION.cff and the BibTeX of the README name the same paper."""
    paper = yaml.safe_load((ROOT / "CITATION.cff").read_text())["preferred-citation"]
    authors = " and ".join(author["family-names"] for author in paper["authors"])
    assert f"title = {{{paper['title']}}}, author = {{{authors}}}" in README.read_text()


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) <= 120
