"""Suppressors side by side on the same candidates."""

import json

import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from postnms.analysis.comparison import compare, count_rows, suppressors_for
from postnms.analysis.diagnosis import analyse
from postnms.analysis.oracle import ORACLE
from postnms.analysis.study import Study, open_study
from postnms.candidate_files.reader import open_candidates
from postnms.candidate_files.truth import open_truth
from postnms.candidate_files.writer import CandidateWriter
from postnms.structures import Candidates, as_detections
from postnms.suppression import SUPPRESSORS, Choice, choose
from tests.support.builders import random_candidates
from tests.support.studies import as_coco, write_candidates, write_truth


def test_rows_are_evaluated_as_coco_does(study):
    done = []
    rows = compare(study, [choose("wbf")], bootstrap=50, done=done.append)
    assert [row.name for row in rows] == ["nms", "wbf", ORACLE]
    assert count_rows(study.candidates, [choose("wbf")]) == len(done) == 3
    nms, wbf, oracle = rows
    ((_, whole),) = study.candidates.chunks(images=5)
    results = as_coco(SUPPRESSORS["wbf"](whole))
    reference = COCO()
    reference.dataset = {**study.truth.content, "info": {}}
    reference.createIndex()
    evaluator = COCOeval(reference, reference.loadRes(results), "bbox")
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    assert wbf.figures["AP"] == pytest.approx(100 * evaluator.stats[0], abs=1e-3)
    assert wbf.gain == wbf.figures["AP"] - nms.figures["AP"]
    assert wbf.low <= wbf.high
    assert (nms.gain, nms.low, nms.high) == (0, 0, 0)
    assert oracle.figures["AP"] > nms.figures["AP"]
    assert oracle.milliseconds is None


def test_rows_say_what_they_are_of(study):
    rows = compare(study, [choose("wbf"), choose("wbf:iou=0.4")], bootstrap=0)
    assert [row.name for row in rows] == ["nms", "wbf", "wbf:iou=0.4", ORACLE]
    assert [row.family for row in rows] == ["nms", "wbf", "wbf", ORACLE]
    assert [row.is_variant for row in rows] == [False, False, True, False]
    assert rows[2].settings == SUPPRESSORS["wbf"].model_dump(mode="json") | {"iou_threshold": 0.4}
    assert rows[3].settings == {"iou_threshold": 0.5, "max_detections": 100}
    assert all(row.milliseconds > 0 for row in rows[:3])
    assert {(row.low, row.high) for row in rows} == {(None, None)}


def test_rows_of_the_file_come_before_the_oracle(study, tmp_path):
    path = tmp_path / "rows.safetensors"
    with CandidateWriter(path, study.truth.categories, study.data.name, {}) as writer:
        for ids, candidates in study.candidates.chunks():
            rows = {"post_nms": as_detections(candidates), "nms": SUPPRESSORS["nms"](candidates)}
            writer.add(candidates, ids, rows, {"post_nms": 10.0})
    with_rows = open_study(path, study.data)
    rows = compare(with_rows, [choose("none")], bootstrap=0)
    assert [row.name for row in rows] == ["nms", "none", "run nms", "run post_nms", ORACLE]
    assert count_rows(with_rows.candidates, [choose("none")]) == 5
    assert rows[2].figures == rows[0].figures
    assert rows[2].milliseconds is None
    assert rows[3].figures["AP"] == pytest.approx(rows[1].figures["AP"])
    assert rows[3].milliseconds == 2  # of five images
    assert rows[3].settings == {}


def test_empty_candidates_give_a_table_of_zeros(tmp_path):
    truth = write_truth(tmp_path / "t.json", 2)
    none = torch.zeros(0, dtype=torch.int64)
    with CandidateWriter(tmp_path / "c.safetensors", truth.categories, "t.json", {}) as writer:
        writer.add(Candidates(torch.zeros(0, 4), torch.zeros(0), none, none, none, 2), [10, 11])
    study = Study(open_candidates(tmp_path / "c.safetensors"), truth)
    rows = compare(study, [choose("wbf"), choose("confluence")], bootstrap=3)
    assert [row.figures["AP"] for row in rows] == [0, 0, 0, 0]
    assert analyse(study, [choose("nms")]).rows["nms"].errors.counts["missed"] == 6


def test_fewer_classes_and_images_in_another_order(study, tmp_path):
    file = study.candidates
    content = json.loads((tmp_path / "instances_val.json").read_text())
    content["images"].reverse()
    content["annotations"] = [entry for entry in content["annotations"] if entry["category_id"] < 3]
    (tmp_path / "reversed.json").write_text(json.dumps(content))
    content["categories"] = content["categories"][:2]
    content["images"].reverse()
    (tmp_path / "fewer.json").write_text(json.dumps(content))
    truths = [open_truth(file, tmp_path / name) for name in ("fewer.json", "reversed.json")]
    choices = [choose("soft_nms_linear")]
    fewer, back = (compare(Study(file, truth), choices, bootstrap=9) for truth in truths)
    for row, other in zip(fewer, back, strict=True):
        assert row.figures == other.figures
        assert (row.low, row.high) == (other.low, other.high)
    assert fewer[1].low < fewer[1].high


def test_the_baseline_keeps_its_defaults(study):
    other = Choice("nms", "nms", {}, SUPPRESSORS["wbf"])
    with pytest.raises(ValueError, match="'nms' is the baseline with its default settings"):
        compare(study, [other])


def test_suppressors_that_a_file_is_sufficient_for(tmp_path):
    def names(candidates):
        write_candidates(tmp_path / "c.safetensors", candidates)
        choices = suppressors_for(open_candidates(tmp_path / "c.safetensors"))
        assert all(choice.suppressor == SUPPRESSORS[choice.name] for choice in choices)
        return [choice.name for choice in choices]

    assert names(random_candidates(60)) == list(SUPPRESSORS)
    bare = names(random_candidates(60, extra=False))
    assert SUPPRESSORS.keys() - bare == {"adaptive_nms", "iou_guided_nms", "variance_voting"}
    plain = random_candidates(60)
    logits = Candidates(
        plain.boxes, 4 * plain.scores - 2, plain.labels, plain.image, plain.source, 2, plain.extra
    )
    needing = {name for name, rule in SUPPRESSORS.items() if rule.needs_probabilities}
    assert SUPPRESSORS.keys() - names(logits) == needing
