"""The thresholds of a run are those of its last evaluation, if that was of its own settings."""

import json

import pytest

from postnms.errors import UserError
from postnms.evaluation.results import BestF1
from postnms.files.atomic import write_json
from postnms.recipes import get_recipe, override, parse_changes
from postnms.runs.folder import RunFolder
from postnms.runs.thresholds import read_best_f1

STORED = {"score": 0.4, "f1": 0.5, "precision": 0.6, "recall": 0.43}


@pytest.fixture
def folder(tmp_path):
    """A run of the demo recipe whose row nms alone has a threshold."""
    run = RunFolder(tmp_path)
    write_json(run.recipe, get_recipe("demo", {}).model_dump(mode="json"))
    metrics = {"nms": {"AP": 30.0}, "best_f1": {"nms": STORED, "post_nms": None}}
    write_json(run.metrics, metrics)
    return run


def evaluate_with(folder, *changes):
    """Write what ``postnms eval --set CHANGE`` writes of its settings."""
    recipe = override(get_recipe("demo", {}), parse_changes(changes))
    write_json(folder.evaluation, {"recipe": recipe.model_dump(mode="json")})


def test_thresholds_are_read_by_row(folder):
    assert read_best_f1(folder) == {"nms": BestF1(0.4, 0.5, 0.6, 0.43), "post_nms": None}


def test_a_run_without_figures_or_with_those_of_an_older_version_has_none(folder):
    write_json(folder.metrics, {"nms": {"AP": 30.0}})
    assert read_best_f1(folder) == {}
    folder.metrics.unlink()
    assert read_best_f1(folder) == {}


@pytest.mark.parametrize(
    ("changes", "is_own"),
    [
        ([], True),
        (["evaluation.bootstrap=10", "evaluation.batch_size=1"], True),
        (["stage.fusion=[1,0,0]"], False),
        (["detector.box_nms_thresh=0.4"], False),
    ],
)
def test_an_evaluation_with_other_settings_gives_the_run_no_thresholds(folder, changes, is_own):
    evaluate_with(folder, *changes)
    assert bool(read_best_f1(folder)) == is_own


@pytest.mark.parametrize(
    "stored",
    [
        7,
        [STORED],
        {"nms": 0.4},
        {"nms": {"score": 0.4}},
        {"nms": {**STORED, "more": 1}},
        {"nms": {**STORED, "score": "0.4"}},
        {"nms": {**STORED, "score": True}},
        {"nms": {**STORED, "score": float("nan")}},
    ],
)
def test_another_form_is_said_in_one_line(folder, stored):
    folder.metrics.write_text(json.dumps({"best_f1": stored}))
    with pytest.raises(UserError, match=r"metrics.json: best_f1: expected score, f1, precision"):
        read_best_f1(folder)


def test_damaged_files_are_named(folder):
    folder.metrics.write_text("[1, 2]")
    with pytest.raises(UserError, match=r"metrics.json: best_f1: expected"):
        read_best_f1(folder)
    folder.metrics.write_text("{")
    with pytest.raises(UserError, match=r"metrics.json: malformed JSON"):
        read_best_f1(folder)
    for content in ("[]", "{}", '{"recipe": 7}'):
        folder.evaluation.write_text(content)
        with pytest.raises(UserError, match=r"evaluation.json: recipe: expected an object"):
            read_best_f1(folder)
