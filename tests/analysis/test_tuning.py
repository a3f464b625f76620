"""Weights of the scores of the stage, tried on the candidates of a file."""

import dataclasses
import json

import pytest
import torch

from postnms.analysis.comparison import compare
from postnms.analysis.study import Study
from postnms.analysis.tuning import count_tries, fusions, tune_fusion
from postnms.candidate_files.reader import open_candidates
from postnms.candidate_files.writer import CandidateWriter
from postnms.data.formats.coco import read_truth
from postnms.errors import UserError
from postnms.stage.fusion import Fusion
from postnms.structures import CLUSTER_OBJECTNESS, OBJECTNESS, REFINED
from postnms.suppression import choose
from tests.support.studies import around_objects, small_study, write_truth


@pytest.fixture
def judged(tmp_path):
    """A study of five images whose objectness is right, while the scores are random.

    The box of each candidate is moved onto the nearest object of its class, if there is one.
    """
    truth = write_truth(tmp_path / "instances_val.json", 5)
    path = tmp_path / "judged.safetensors"
    recipe = {"stage": {"fusion": [0.8, 0.1, 0.1], "fusion_mean": "arithmetic"}}
    about = {"recipe": recipe, "nms_threshold": 0.6}
    with CandidateWriter(path, truth.categories, "instances_val.json", about) as writer:
        candidates = around_objects(truth, (10, 11, 12, 13, 14))
        objects = [
            entry for i in range(5) for entry in truth.annotations if entry["image_id"] == 10 + i
        ]
        boxes = torch.tensor([entry["bbox"] for entry in objects]).repeat_interleave(8, dim=0)
        boxes[:, 2:] += boxes[:, :2]
        labels = torch.tensor([entry["category_id"] - 1 for entry in objects])
        right = (labels.repeat_interleave(8) == candidates.labels).float()
        extra = {REFINED: boxes, OBJECTNESS: right, CLUSTER_OBJECTNESS: 1 - right}
        writer.add(dataclasses.replace(candidates, extra=extra), [10, 11, 12, 13, 14])
    return Study(open_candidates(path), truth)


def test_weights_are_all_parts_of_the_sum_and_means_of_one_score_come_once():
    weights = [fusion.weights for fusion in fusions(2, of_clusters=True)]
    whole = [(1, 0, 0), (0.5, 0, 0.5), (0.5, 0.5, 0), (0, 0, 1), (0, 0.5, 0.5), (0, 1, 0)]
    halves = [parts for parts in whole if max(parts) < 1]
    assert weights == [*whole, *halves]
    assert fusions(1, of_clusters=False) == (Fusion((1, 0, 0)), Fusion((0, 0, 1)))
    means = [fusion.mean for fusion in fusions(2, of_clusters=False)]
    assert means == ["arithmetic"] * 3 + ["geometric"]


def test_scores_that_are_right_get_the_weight(judged):
    done = []
    paper, nms = tune_fusion(judged, [choose("nms")], steps=2, done=done.append)
    assert len(done) == count_tries([choose("nms")], 2) == 10 + 5
    assert (paper.row, nms.row) == ("post_nms", "post_nms+nms")
    assert paper.best.weights[2] >= 0.5
    assert nms.best.weights[2] >= 0.5
    assert nms.tried[0][1] == pytest.approx(100, abs=0.5)
    precisions = [precision for _, precision in paper.tried]
    assert precisions == sorted(precisions, reverse=True)
    assert precisions[-1] < paper.before < precisions[0]


def test_the_row_of_a_suppressor_is_that_of_the_comparison(judged):
    _, tuned = tune_fusion(judged, [choose("soft_nms_linear")], steps=4)
    known = dict(tuned.tried)
    half = Fusion((0.5, 0.0, 0.5))
    for fusion, precision in ((None, tuned.before), (half, known[half])):
        rows = compare(
            judged, [choose("soft_nms_linear")], boxes="refined", fusion=fusion, bootstrap=0
        )
        assert rows[1].name == "refined soft_nms_linear"
        assert rows[1].figures["AP"] == pytest.approx(precision)


def test_both_kinds_of_boxes_stand_in_one_table(judged):
    rows = compare(judged, [choose("nms"), choose("wbf")], boxes="both", bootstrap=20)
    names = [row.name for row in rows]
    assert names == ["nms", "wbf", "refined nms", "refined wbf", "oracle_box"]
    # The gain is over greedy NMS on the boxes of the detector.
    gains = [row.gain for row in rows]
    assert gains[2] == rows[2].figures["AP"] - rows[0].figures["AP"] > 0
    assert rows[2].low > 0


def test_what_no_stage_has_judged_is_refused(tmp_path, judged):
    study = small_study(tmp_path)
    with pytest.raises(UserError, match=r"c\.safetensors: .* no column 'refined_boxes'"):
        tune_fusion(study, [])
    with pytest.raises(UserError, match=r"c\.safetensors: provenance: expected the recipe"):
        compare(study, [choose("nms")], boxes="refined")
    with pytest.raises(UserError, match=r"c\.safetensors: .* no column 'refined_boxes'"):
        compare(study, [choose("nms")], boxes="refined", fusion=Fusion((1, 0, 0)))
    about = judged.candidates.provenance
    none = dataclasses.replace(judged.candidates, provenance={**about, "max_detections": 0})
    with pytest.raises(UserError, match=r"provenance\.max_detections: expected at least 1, got 0"):
        tune_fusion(dataclasses.replace(judged, candidates=none), [])
    recipe = {"stage": {"fusion": [1, 0], "fusion_mean": "arithmetic"}}
    odd = dataclasses.replace(judged.candidates, provenance={**about, "recipe": recipe})
    with pytest.raises(UserError, match=r"judged\.safetensors: recipe\.stage.*fusion"):
        tune_fusion(dataclasses.replace(judged, candidates=odd), [])
    broken = dataclasses.replace(judged.candidates, provenance={**about, "nms_threshold": "half"})
    with pytest.raises(
        UserError, match=r"judged\.safetensors: provenance\.nms_threshold: .* got str"
    ):
        tune_fusion(dataclasses.replace(judged, candidates=broken), [])
    with pytest.raises(ValueError, match=r"steps: expected at least 1, got 0"):
        tune_fusion(judged, [], steps=0)


def test_a_study_without_objects_has_no_best_weights(judged):
    path = judged.candidates.path.with_name("instances_val.json")
    empty = path.with_name("empty.json")
    empty.write_text(json.dumps(json.loads(path.read_text()) | {"annotations": []}))
    (paper,) = tune_fusion(Study(judged.candidates, read_truth(empty)), [], steps=1)
    assert paper.before is None
    assert [precision for _, precision in paper.tried] == [None] * 3
