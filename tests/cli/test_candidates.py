"""``postnms dump`` and ``postnms import-candidates`` write files of candidates."""

import json

import pytest
import torch

from postnms.analysis.comparison import compare
from postnms.analysis.study import open_study
from postnms.candidate_files.reader import open_candidates
from postnms.clustering import cluster
from postnms.structures import BOX_FEATURES, CLUSTER_OBJECTNESS, OBJECTNESS, REFINED
from tests.support.builders import random_candidates
from tests.support.studies import as_coco, write_truth


def test_a_dump_gives_the_rows_of_the_run(any_run, postnms, tmp_path):
    """On candidates that the run's own detections are made of, greedy NMS gives its NMS row."""
    path = tmp_path / "c.safetensors"
    status, shown, error = postnms("dump", any_run, "--out", path)
    assert status == 0, error
    study = open_study(path)
    candidates = study.candidates
    assert f"{candidates.num_candidates} candidates of {len(candidates)} images" in shown
    assert postnms("eval", any_run)[0] == 0
    metrics = json.loads((any_run / "metrics.json").read_text())
    rows = {row.name: row for row in compare(study, [], bootstrap=0)}
    for row in candidates.rows:
        figures = {name: value for name, value in metrics[row].items() if value is not None}
        found = {name: rows[f"run {row}"].figures[name] for name in figures}
        assert found == pytest.approx(figures, abs=0.02)
    assert rows["nms"].figures["AP"] == pytest.approx(metrics["nms"]["AP"], abs=0.02)
    has_stage = "post_nms" in candidates.rows
    assert (
        (candidates.extra == (CLUSTER_OBJECTNESS, REFINED, OBJECTNESS))
        == has_stage
        == ("post_nms" in candidates.milliseconds)
    )
    assert candidates.provenance["recipe"]["name"] == "demo"
    if has_stage:
        assert_keys_are_moved_to_the_row_of_the_stage(candidates)
    assert len(candidates.provenance["weights_sha256"]) == 64


def assert_keys_are_moved_to_the_row_of_the_stage(candidates):
    ((_, whole),) = candidates.chunks(images=len(candidates))
    clusters, moved = cluster(whole), candidates.row("post_nms")
    keys = {
        (
            whole.image[key].item(),
            whole.labels[key].item(),
            whole.source[key].item(),
        ): whole.extra[REFINED][key]
        for key in clusters.keys.tolist()
    }
    found = zip(moved.image.tolist(), moved.labels.tolist(), moved.source.tolist(), strict=True)
    wanted = torch.stack([keys[row] for row in found])
    torch.testing.assert_close(moved.boxes, wanted, rtol=1e-4, atol=1e-2)
    assert not torch.allclose(whole.boxes, whole.extra[REFINED], atol=1e-2)


def test_a_lower_threshold_and_a_limit(trained_run, postnms, tmp_path):
    more, few = tmp_path / "more.safetensors", tmp_path / "few.safetensors"
    low = ("--score-threshold", 0.001)
    assert postnms("dump", trained_run, "--out", more, *low)[0] == 0
    assert postnms("dump", trained_run, "--out", few, *low, "--max-candidates", 7)[0] == 0
    more, few = open_candidates(more), open_candidates(few)
    assert few.offsets.diff().max() <= 7
    assert more.num_candidates > few.num_candidates
    for name in more.rows:  # They come from the run's own selection all the same.
        torch.testing.assert_close(more.row(name).boxes, few.row(name).boxes)


def test_features_of_the_box_head_are_written_on_request(trained_run, postnms, tmp_path):
    path = tmp_path / "c.safetensors"
    assert postnms("dump", trained_run, "--out", path, "--features")[0] == 0
    file = open_candidates(path)
    ((_, candidates),) = file.chunks(images=len(file))
    features = candidates.extra[BOX_FEATURES]
    assert features.shape == (file.num_candidates, 8)  # the width of the box head of this run
    assert file.num_candidates > 0
    # Candidates of one proposal have the same features. Others have others, unless two proposals
    # are one box, which gives the same candidates.
    proposals = torch.stack([candidates.image, candidates.source], dim=1)
    rows = torch.cat([proposals, features], dim=1).unique(dim=0)
    assert len(rows) == len(proposals.unique(dim=0))
    boxes = torch.cat([candidates.image[:, None], candidates.boxes], dim=1)
    first = candidates.labels == 0
    assert len(features[first].unique(dim=0)) == len(boxes[first].unique(dim=0))
    assert first.sum() == len(rows)


def test_results_of_another_detector_are_imported(postnms, tmp_path):
    write_truth(tmp_path / "instances_val.json", 4)
    results = as_coco(random_candidates(100, 4, extra=False))
    (tmp_path / "dets.json").write_text(json.dumps(results))
    file = tmp_path / "c.safetensors"
    status, shown, _ = postnms(
        "import-candidates", tmp_path / "dets.json", "--data", tmp_path, "--out", file
    )
    assert (status, shown.split(" in ")[0]) == (0, "100 candidates of 4 images")
    assert open_candidates(file).provenance["results"] == "dets.json"
    assert open_candidates(file).provenance["split"] == "val"


def test_results_for_an_annotation_file_are_of_no_split(postnms, tmp_path):
    write_truth(tmp_path / "instances_train.json", 2)
    (tmp_path / "dets.json").write_text("[]")
    file = tmp_path / "c.safetensors"
    data = ("--data", tmp_path / "instances_train.json")
    words = ("import-candidates", tmp_path / "dets.json", *data, "--out", file)
    assert postnms(*words)[0] == 0
    assert "split" not in open_candidates(file).provenance
    compared = ("compare", file, *data, "--out", tmp_path / "compared")
    for verb in (words, compared):
        status, _, error = postnms(*verb, "--split", "train")
        assert status == 2
        assert error.startswith("postnms: --split: expected a data folder beside it, got train of")


@pytest.mark.parametrize("verb", ["import-candidates", "dump"])
def test_what_is_no_file_of_candidates_is_not_replaced(postnms, trained_run, tmp_path, verb):
    taken = tmp_path / "t.json"
    write_truth(taken, 2)
    before = taken.read_text()
    words = {"import-candidates": (tmp_path / "d.json", "--data", taken), "dump": (trained_run,)}
    status, _, error = postnms(verb, *words[verb], "--out", taken)
    message = "t.json: is there and is no file of candidates; name another"
    assert (status, error.startswith("postnms: --out: "), message in error) == (2, True, True)
    assert taken.read_text() == before
