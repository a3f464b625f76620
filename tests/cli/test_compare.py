"""``postnms compare`` replays suppressors on a file of candidates."""

import csv
import json

import pytest

from postnms.analysis.oracle import ORACLE
from postnms.candidate_files.reader import open_candidates
from postnms.evaluation.metrics import coco_metrics
from postnms.suppression import SUPPRESSORS
from tests.support.builders import random_candidates
from tests.support.runs import tiny_run
from tests.support.studies import as_coco, picture_width, write_candidates, write_truth


@pytest.fixture
def imported(postnms, tmp_path):
    """Import results in COCO format with the annotations in ``tmp_path``; return the file."""

    def call(results, data):
        (tmp_path / "dets.json").write_text(json.dumps(results))
        file = tmp_path / "c.safetensors"
        words = ("import-candidates", tmp_path / "dets.json", "--data", data, "--out", file)
        assert postnms(*words)[0] == 0
        return file

    return call


def test_compare_shows_and_writes_a_row_for_each_suppressor(postnms, imported, tmp_path):
    truth = write_truth(tmp_path / "instances_val.json", 4)
    results = as_coco(random_candidates(100, 4, extra=False))
    file, out = imported(results, tmp_path), tmp_path / "out"
    status, shown, error = postnms(
        "compare", file, "--data", tmp_path, "--suppressor", "none,wbf:model_weights=[2]",
        "--sweep", "iou=0.4:0.5:0.1", "--bootstrap", 5, "--out", out,
    )  # fmt: skip
    assert status == 0, error
    assert "wbf:model_weights=[2]:iou_threshold=0.4" in shown
    with (out / "compare.csv").open() as text:
        rows = list(csv.DictReader(text))
    names = ["nms", "none", "wbf:model_weights=[2]", "wbf:model_weights=[2]:iou_threshold=0.4"]
    assert [row["suppressor"] for row in rows] == [
        *names,
        "wbf:model_weights=[2]:iou_threshold=0.5",
        ORACLE,
    ]
    alone = coco_metrics(truth, results)
    assert "note:" not in shown
    assert float(rows[1]["AP"]) == pytest.approx(alone["AP"], rel=1e-4)
    described = json.loads((out / "compare.json").read_text())
    assert described["candidates"]["results"] == "dets.json"
    assert described["rows"][3]["settings"]["iou_threshold"] == 0.4
    assert picture_width(out / "compare.png") > 1000


def test_annotations_that_have_changed_are_pointed_out(postnms, imported, tmp_path):
    annotations = tmp_path / "t.json"
    write_truth(annotations, 2)
    file = imported([], annotations)
    write_truth(annotations, 2, seed=1)
    words = ("--data", annotations, "--out", tmp_path, "--suppressor", "nms", "--bootstrap", 1)
    assert "note: " in postnms("compare", file, *words)[1]


def test_all_suppressors_that_a_file_has_the_columns_for(postnms, tmp_path):
    write_truth(tmp_path / "t.json", 2)
    write_candidates(tmp_path / "c.safetensors", random_candidates(60, 2), "t.json")
    words = ("--data", tmp_path / "t.json", "--out", tmp_path / "out")
    status, shown, _ = postnms("compare", tmp_path / "c.safetensors", *words)
    assert status == 0
    assert "left out" not in shown
    assert all(f"\n{name} " in shown for name in SUPPRESSORS)


def test_a_run_with_the_kl_loss_offers_variance_voting(postnms, tmp_path_factory, tmp_path):
    kl = ("stage=null", "detector.box_coding=edges", "detector.box_loss=kl")
    run = tiny_run(tmp_path_factory, *(word for change in kl for word in ("--set", change)))
    file = tmp_path / "c.safetensors"
    assert postnms("dump", run, "--out", file)[0] == 0
    assert open_candidates(file).extra == ("edge_log_variance",)
    status, shown, error = postnms("compare", file, "--out", tmp_path / "compared")
    assert status == 0, error
    assert "\nvariance_voting " in shown


BAD_CHOICES = [
    (("--suppressor", "nmss"), "postnms: suppressor: no 'nmss' (did you mean 'nms'?)"),
    (
        ("--suppressor", "nms:iou=2"),
        "postnms: nms.iou_threshold: input should be less than or equal to 1, got 2",
    ),
    (
        ("--suppressor", "adaptive_nms"),
        "postnms: AdaptiveNMS: needs the extra column 'density'",
    ),
    (
        ("--suppressor", "nms", "--sweep", "iou=0.3"),
        "postnms: --sweep: iou=0.3: expected FIELD=FIRST:LAST:STEP",
    ),
]


@pytest.mark.parametrize(("words", "message"), BAD_CHOICES)
def test_mistakes_in_the_choice_are_one_line_and_write_nothing(postnms, tmp_path, words, message):
    write_truth(tmp_path / "t.json", 2)
    write_candidates(tmp_path / "c.safetensors", random_candidates(60, 2, extra=False), "t.json")
    given = ("compare", tmp_path / "c.safetensors", "--data", tmp_path, "--out", tmp_path / "out")
    status, _, error = postnms(*given, *words)
    assert status == 2
    assert message in error
    assert not (tmp_path / "out").exists()


def test_candidates_that_are_missing_are_one_line(postnms, tmp_path):
    words = ("--data", tmp_path, "--out", tmp_path / "out")
    status, _, error = postnms("compare", tmp_path / "no.safetensors", *words)
    assert (status, "no.safetensors: no such file" in error) == (2, True)


def test_annotations_that_are_needed_are_asked_for_by_their_option(postnms, tmp_path):
    write_candidates(tmp_path / "c.safetensors", random_candidates(60, 2, extra=False))
    words = ("--out", tmp_path / "out")
    status, _, error = postnms("compare", tmp_path / "c.safetensors", *words)
    assert (status, error.startswith("postnms: --data: ")) == (2, True)
