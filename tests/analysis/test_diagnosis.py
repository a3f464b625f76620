"""The errors of rows, the recall at which duplicates are counted, and the placement of clusters."""

import dataclasses

import pytest
import torch

from postnms.analysis.diagnosis import CLUSTER_IOU, analyse
from postnms.analysis.placement import cluster_ious
from postnms.analysis.study import open_study
from postnms.candidate_files.writer import CandidateWriter
from postnms.clustering import cluster
from postnms.data.targets import group_by_image, targets_of
from postnms.evaluation.calibration import measure_calibration
from postnms.evaluation.matching import match_results
from postnms.evaluation.thresholds import best_f1
from postnms.evaluation.tide import error_types
from postnms.structures import REFINED
from postnms.suppression import SUPPRESSORS, choose
from tests.support.studies import as_coco


def test_duplicates_are_counted_where_all_rows_come(study):
    analysis = analyse(study, [choose("none"), choose("nms")])
    least = min(row.max_recall for row in analysis.rows.values())
    assert analysis.recall <= least < analysis.recall + 0.05 + 1e-9
    for count in range(1, 4):  # reached exactly, or nearly so, by some
        few = f"nms:max_detections={count}"
        assert analyse(study, [choose(few)]).rows[few].duplicates is not None
    assert all(row.duplicates is not None for row in analysis.rows.values())
    assert analysis.after is None
    few = "nms:max_detections=1"
    assert analyse(study, [choose(few)], recall=1.0).rows[few].duplicates is None


def test_rows_of_suppressors_and_of_the_file_are_analysed_alike(study, tmp_path):
    path = tmp_path / "rows.safetensors"
    with CandidateWriter(path, study.truth.categories, study.data.name, {}) as writer:
        for ids, candidates in study.candidates.chunks():
            writer.add(candidates, ids, {"nms": SUPPRESSORS["nms"](candidates)})
    done = []
    rows = analyse(open_study(path, study.data), [choose("nms")], done=done.append).rows
    assert list(rows) == ["nms", "run nms"]
    assert rows["nms"] == rows["run nms"]
    assert done == [1, 1]
    ((_, whole),) = study.candidates.chunks(images=5)
    results = as_coco(SUPPRESSORS["nms"](whole))
    assert rows["nms"].errors.counts == error_types(study.truth, results).counts
    matching = match_results(study.truth, results)
    assert rows["nms"].best_f1 == best_f1(matching)
    assert rows["nms"].calibration == measure_calibration(matching)


def test_duplicates_in_an_image_are_those_of_the_error_types(study):
    """Without suppression most of the eight boxes about an object are duplicates."""
    row = analyse(study, [choose("none")]).rows["none"]
    counts = row.duplicate_counts
    assert counts.an_image == row.errors.counts["duplicate"] / 5 > 3
    ((_, whole),) = study.candidates.chunks(images=5)
    results = as_coco(SUPPRESSORS["none"](whole))
    shown = [entry for entry in results if entry["score"] >= row.best_f1.score]
    assert 0 < len(shown) < len(results)
    assert counts.detections == len(shown) / 5
    assert counts.shown == error_types(study.truth, shown).counts["duplicate"] / 5


def test_placement_is_that_of_the_clusters_before_and_after_the_stage(study, tmp_path, monkeypatch):
    """The refined boxes, here the candidates moved by a pixel, change the IoUs alone."""
    monkeypatch.setattr("postnms.analysis.diagnosis.IMAGES_AT_ONCE", 2)
    path = tmp_path / "refined.safetensors"
    ((ids, whole),) = study.candidates.chunks(images=5)
    refined = dataclasses.replace(whole, extra={REFINED: whole.boxes + 1})
    with CandidateWriter(path, study.truth.categories, study.data.name, {}) as writer:
        writer.add(refined, ids)
    analysis = analyse(open_study(path, study.data), [choose("nms")])
    clusters = cluster(whole, CLUSTER_IOU)
    targets = targets_of(study.truth, ids, group_by_image(study.truth))
    for found, boxes in ((analysis.before, None), (analysis.after, whole.boxes + 1)):
        wanted = cluster_ious(clusters, targets, boxes)
        for name in ("key", "best", "mean"):
            mine = getattr(found, name).sort().values
            torch.testing.assert_close(mine, getattr(wanted, name).sort().values)
    assert len(analysis.before.key) == len(analysis.after.key) > 3
    assert not torch.allclose(analysis.before.key, analysis.after.key)


def test_nothing_to_analyse_is_an_error(study):
    with pytest.raises(ValueError, match="choices: expected at least one suppressor"):
        analyse(study, [])
