"""``postnms convert`` takes candidates, runs and results."""

import json

from postnms.runs.folder import RunFolder
from tests.viewers.test_rows import file_of_candidates
from tests.viewers.viewed import results, write_annotations


def test_candidates_have_clusters(postnms, tmp_path):
    write_annotations(tmp_path / "t.json")
    file, out = file_of_candidates(tmp_path), tmp_path / "out"
    words = ("convert", file, "--data", tmp_path / "t.json", "--out", out, "--format")
    status, shown, error = postnms(*words, "fiftyone", "--suppressor", "nms,none")
    assert status == 0, error
    assert shown.splitlines()[1].startswith("run_post_nms: 3 boxes, right ")
    names = ["candidates", "run_post_nms", "nms", "none"]
    about = json.loads((out / "convert.json").read_text())
    assert about["rows"] == names
    assert about["candidates"]["file"] == "c.safetensors"
    rows = {name: json.loads((out / f"{name}.json").read_text()) for name in names}
    assert [entry["cluster"] for entry in rows["candidates"]["annotations"]] == [1, 1, 2, 1, 2]
    # The same folder is written again, for another viewer and without weak boxes.
    status, shown, error = postnms(*words, "cvat", "--min-score", "0.65")
    assert status == 0, error
    assert "candidates: 3 boxes" in shown
    assert {path.name for path in out.glob("*.*")} == {
        "convert.json",
        "labels.json",
        "candidates.xml",
        "run_post_nms.xml",
    }


def test_a_file_of_candidates_may_have_any_name(postnms, tmp_path):
    write_annotations(tmp_path / "t.json")
    file = file_of_candidates(tmp_path).rename(tmp_path / "dump")
    words = ("convert", file, "--data", tmp_path / "t.json", "--format", "cvat")
    status, shown, error = postnms(*words, "--out", tmp_path / "out")
    assert (status, "candidates: 5 boxes" in shown) == (0, True), error


def test_a_run_gives_the_rows_of_its_evaluation(postnms, trained_run, tmp_path):
    out = tmp_path / "out"
    status, _, error = postnms("convert", trained_run, "--format", "supervision", "--out", out)
    assert status == 0, error
    for name in ("nms", "post_nms"):
        entries = json.loads(RunFolder(trained_run).results(name).read_text())
        assert len((out / f"{name}.csv").read_text().splitlines()) == 1 + len(entries)
    status, _, error = postnms(
        "convert", trained_run, "--split", "train", "--format", "cvat", "--out", tmp_path / "x"
    )
    assert (status, "no results on the split train; run postnms eval first" in error) == (2, True)


def test_results_of_any_detector_are_read(postnms, tmp_path):
    write_annotations(tmp_path / "t.json")
    (tmp_path / "results_mine.json").write_text(json.dumps(results()))
    words = ("convert", tmp_path / "results_mine.json", "--format", "cvat")
    status, shown, error = postnms(*words, "--data", tmp_path / "t.json", "--out", tmp_path / "o")
    assert status == 0, error
    assert "mine: 7 boxes, right 1, classification 1" in shown
    assert (tmp_path / "o" / "mine.xml").is_file()


def test_what_is_missing_is_named(postnms, tmp_path):
    (tmp_path / "r.json").write_text("[]")
    words = ("convert", tmp_path / "r.json", "--format", "cvat", "--out", tmp_path / "o")
    status, _, error = postnms(*words)
    assert (status, "r.json needs the annotations of its images" in error) == (2, True)
    status, _, error = postnms(*words, "--suppressor", "nms")
    assert "--suppressor: expected a file of candidates beside it" in error
    assert not (tmp_path / "o").exists()


def test_a_least_score_that_is_no_number_is_refused_before_anything_is_removed(postnms, tmp_path):
    write_annotations(tmp_path / "t.json")
    (tmp_path / "r.json").write_text(json.dumps(results()))
    words = ("convert", tmp_path / "r.json", "--data", tmp_path / "t.json", "--out", tmp_path / "o")
    assert postnms(*words, "--format", "cvat")[0] == 0
    for value in ("nan", "-inf"):
        status, _, error = postnms(*words, "--format", "cvat", f"--min-score={value}")
        assert (status, error.count("\n")) == (2, 1), error
        assert f"--min-score: expected a finite number, got {value}" in error
    assert (tmp_path / "o" / "r.xml").is_file()
