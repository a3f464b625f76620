"""The record of a run: its figures, and where they come from."""

import json
from pathlib import Path

import pytest

from postnms.errors import UserError
from postnms.experiments.finished import read_finished
from postnms.experiments.records import about, record_of, training_seconds, without_places
from tests.support.experiments import HEURISTICS, finished_plan


@pytest.fixture
def done(tmp_path):
    narrow = ["stage.width=32", "stage.suppressor=null"]
    arms = {
        "bare": {"set": ["stage=null"]},
        "stage": {"set": narrow},
        "late": {"start_from": "stage", "freeze": "detector", "set": narrow},
    }
    fields = {"arms": arms, "seeds": [3], "heuristics": HEURISTICS, "differences": []}
    return finished_plan(tmp_path, **fields)[0]


def recorded(plan, arm):
    (run,) = plan.of_arm(arm)
    record = record_of(plan, read_finished(plan, run))
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    return run, record


def test_a_record_has_the_figures_and_where_they_come_from(done):
    run, record = recorded(done, "stage")
    metrics = json.loads(run.folder.metrics.read_text())
    assert record["rows"] == {row: metrics[row] for row in ("nms", "post_nms")}
    assert record["gains"] == metrics["gains"]
    assert record["classes"] == metrics["classes"]
    assert (record["experiment"], record["arm"], record["seed"]) == ("A stage", "stage", 3)
    assert (record["command"], record["commit"], record["data"]) == (
        "postnms x", "0123456789ab", "cells",
    )  # fmt: skip
    about = json.loads(run.folder.provenance.read_text())
    assert (record["machine"], record["libraries"]) == (about["machine"], about["libraries"])
    assert record["changes"] == {
        "training.iterations": 20,
        "stage.width": 32,
        "stage.suppressor": None,
        "seed": 3,
    }
    assert record["recipe"] == run.recipe.model_dump(mode="json")
    assert record["seconds"] == 10 * 2 + 10 * 4
    compared = json.loads((run.compared / "compare.json").read_text())["rows"]
    for row in compared[1:3]:
        kept = record["suppressors"][row["name"]]
        assert kept == {name: row[name] for name in ("figures", "milliseconds", "settings")}
    assert list(record["suppressors"]) == HEURISTICS["methods"]


def test_a_record_made_again_has_its_fields_in_the_same_order(done):
    _, record = recorded(done, "bare")
    gone = [path for path in record["changes"] if path.startswith("stage.")]
    assert len(gone) > 5
    assert gone == sorted(gone)


def test_a_record_names_no_folder_of_the_machine(done, tmp_path):
    run, record = recorded(done, "late")
    assert record["recipe"]["training"]["start_from"] == "mine/stage_3"
    assert record["changes"]["training.freeze"] == "detector"
    assert record["suppressors"] == {}
    assert str(tmp_path) not in json.dumps(record)
    assert run.recipe.training.start_from == str(tmp_path / "mine" / "stage_3")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "train --out /a/b/exp/stage_0 --data /a/data/cells",
            "train --out exp/stage_0 --data cells",
        ),
        ("--set 'x=[1/2]' runs/exp/stage_0 ~/mine ../up", None),
        ("'/my data'", None),
        ("https://host/a/b", None),
    ],
)
def test_absolute_paths_lose_their_folders(text, expected):
    assert without_places(text, Path("/a/b/exp")) == (expected or text)
    nested = without_places({"a": [text, 1, None]}, Path("/a/b/exp"))
    assert nested == {"a": [expected or text, 1, None]}


def test_a_run_that_was_resumed_or_measured_again_says_so(done):
    run, record = recorded(done, "stage")
    assert "resumed" not in record
    assert "evaluation" not in record
    facts = json.loads(run.folder.provenance.read_text())
    again = {**facts, "commit": "later", "precision": "bf16"}
    run.folder.provenance.write_text(json.dumps({**facts, "resumed": [again]}))
    run.folder.evaluation.write_text(
        json.dumps({**again, "recipe": run.recipe.model_dump(mode="json")})
    )
    _, record = recorded(done, "stage")
    assert [part["commit"] for part in record["resumed"]] == ["later"]
    assert [part["precision"] for part in record["resumed"]] == ["bf16"]
    assert "precision" not in record
    assert record["evaluation"]["commit"] == "later"
    del facts["libraries"]
    run.folder.provenance.write_text(json.dumps(facts))
    assert "libraries" not in recorded(done, "stage")[1]
    run.folder.provenance.write_text('{"commit": "x"}')
    with pytest.raises(UserError, match=r"provenance.json: expected command, .* got other facts"):
        about(run.folder.provenance)


def test_seconds_are_those_of_all_iterations(tmp_path):
    log = tmp_path / "log.jsonl"
    assert training_seconds(log) is None
    lines = [
        {"iteration": 4, "seconds_per_iteration": 0.5},
        {"iteration": 4, "nms/AP": 3.0},
        {"iteration": 6, "seconds_per_iteration": 2},
    ]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines) + '[1]\n{"iteration": 8, "se')
    assert training_seconds(log) == 4 * 0.5 + 2 * 2
