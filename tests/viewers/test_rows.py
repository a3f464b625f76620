"""What is said of each detection of a row, and the clusters of a file of candidates."""

import dataclasses
import json

import pytest
import torch

from postnms.analysis.study import open_study
from postnms.candidate_files.writer import CandidateWriter
from postnms.data.dataset import Category
from postnms.errors import UserError
from postnms.evaluation.tide import ERROR_TYPES, VERDICT_UNCOUNTED, error_types
from postnms.structures import Candidates, Detections
from postnms.suppression import choose
from postnms.viewers.from_candidates import rows_of_file
from postnms.viewers.from_results import row_of_results
from postnms.viewers.rows import check_names, view_row
from tests.support.studies import small_study
from tests.viewers.viewed import OBJECTS, RESULTS, results, write_annotations


def test_every_detection_has_its_verdict(tmp_path):
    row = view_row("nms", write_annotations(tmp_path / "t.json"), results())
    assert row.verdicts.tolist() == [verdict for *_, verdict in RESULTS]
    assert row.missed.tolist() == [missed for *_, missed in OBJECTS]
    assert (row.clusters, row.keys) == (None, None)


def test_verdicts_do_not_depend_on_the_order_of_results(tmp_path):
    truth = write_annotations(tmp_path / "t.json")
    row = view_row("nms", truth, results()[::-1])
    assert row.verdicts.tolist() == [verdict for *_, verdict in RESULTS][::-1]


def test_the_hundred_and_first_of_a_class_is_not_counted(tmp_path):
    truth = write_annotations(tmp_path / "t.json")
    first = results()[0]
    row = view_row("nms", truth, [{**first, "score": 1 - n / 1000} for n in range(102)])
    assert row.verdicts.tolist() == [
        "right",
        *["duplicate"] * 99,
        VERDICT_UNCOUNTED,
        VERDICT_UNCOUNTED,
    ]


def test_without_annotations_nothing_is_said(tmp_path):
    truth = dataclasses.replace(write_annotations(tmp_path / "t.json"), annotated=False)
    row = view_row("nms", truth, results())
    assert (row.verdicts, row.missed, len(row.columns)) == (None, None, 7)


def test_a_row_above_a_score_has_the_rest_of_its_columns(tmp_path):
    row = view_row("nms", write_annotations(tmp_path / "t.json"), results()).above(0.6)
    assert row.columns.scores.tolist() == [0.9, 0.8, 0.7, 0.6, 0.95]
    assert row.verdicts.tolist() == [v for *_, score, v in RESULTS if score >= 0.6]


def test_an_object_that_only_a_dropped_detection_has_found_is_missed(tmp_path):
    whole = view_row("nms", write_annotations(tmp_path / "t.json"), results()[::-1])
    assert whole.above(0.9).missed.tolist() == [False, True, False, True]
    # The first cat has no other detection than the one at 0.9. The crowd is no object.
    assert whole.above(0.91).above(0.92).missed.tolist() == [True, True, False, True]
    assert whole.missed.tolist() == [missed for *_, missed in OBJECTS]


def test_names_are_those_of_fields_and_told_apart(tmp_path):
    truth = write_annotations(tmp_path / "t.json")
    row = view_row("post_nms+wbf:iou=0.6", truth, [])
    assert row.name == "post_nms_wbf_iou_0_6"
    for rows in ([row, row], [dataclasses.replace(row, name="truth")]):
        with pytest.raises(UserError, match="names of their own"):
            check_names(rows)


def test_results_of_another_image_are_named(tmp_path):
    truth = write_annotations(tmp_path / "t.json")
    with pytest.raises(UserError, match="row nms: results: expected image ids of the truth, got 9"):
        view_row("nms", truth, [{**results()[0], "image_id": 9}])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": "1"}, r"r.json: \[1\].score: expected a finite number, got '1'"),
        ({"image_id": 9}, r"r.json: \[1\].image_id: expected the id of an image, got 9"),
        ({"category_id": 1.5}, r"r.json: \[1\].category_id: expected an id, got 1.5"),
        ({"bbox": [0, 0, -1, 1]}, r"r.json: \[1\].bbox: expected \[x, y"),
    ],
)
def test_an_entry_of_another_form_is_named(tmp_path, change, message):
    truth = write_annotations(tmp_path / "t.json")
    path = tmp_path / "r.json"
    path.write_text(json.dumps([results()[0], {**results()[1], **change}]))
    with pytest.raises(UserError, match=message):
        row_of_results("nms", truth, path)


def file_of_candidates(folder):
    """Two images. In the second one a dog and two clusters of cats; a row has a box of each."""
    path = folder / "c.safetensors"
    boxes = [(0, 0, 10, 10), (50, 50, 70, 70), (10, 10, 30, 30), (51, 50, 71, 70), (12, 10, 32, 30)]
    candidates = Candidates(
        boxes=torch.tensor(boxes, dtype=torch.float32),
        scores=torch.tensor([0.3, 0.9, 0.6, 0.8, 0.7]),
        labels=torch.tensor([0, 1, 1, 1, 1]),
        image=torch.tensor([0, 1, 1, 1, 1]),
        source=torch.tensor([4, 0, 1, 2, 3]),
        num_images=2,
    )
    row = Detections(
        boxes=torch.tensor([[11.0, 10, 31, 30], [49, 50, 69, 70], [0, 0, 5, 5]]),
        scores=torch.tensor([0.75, 0.5, 0.25]),
        labels=torch.tensor([1, 1, 1]),
        image=torch.tensor([1, 1, 1]),
        source=torch.tensor([3, 0, 9]),  # no candidate has the source 9
        num_images=2,
    )
    categories = (Category(2, "dog"), Category(5, 'cat & "co"'))
    with CandidateWriter(path, categories, "t.json", {}) as writer:
        writer.add(candidates, [3, 7], rows={"post_nms": row})
    return path


def test_candidates_and_rows_have_their_clusters(tmp_path):
    write_annotations(tmp_path / "t.json")
    study = open_study(file_of_candidates(tmp_path), tmp_path / "t.json")
    rows = rows_of_file(study.candidates, study.truth, [choose("nms")])
    assert [row.name for row in rows] == ["candidates", "run_post_nms", "nms"]
    every, run, nms = rows
    # By image; within the second one the best key is 1, the next one 2.
    assert every.columns.scores.tolist() == pytest.approx([0.3, 0.9, 0.6, 0.8, 0.7])
    assert every.clusters.tolist() == [1, 1, 2, 1, 2]
    assert every.keys.tolist() == [True, True, False, False, True]
    assert run.clusters.tolist() == [2, 1, 0]
    found = dict(zip(nms.columns.scores.round(2).tolist(), nms.clusters.tolist(), strict=True))
    assert found == {0.3: 1, 0.7: 2, 0.9: 1}
    assert (run.keys, nms.keys) == (None, None)


def test_clusters_of_a_file_of_several_chunks_are_those_of_its_keys(tmp_path):
    """Each row of plain NMS is the keys: cluster 1 to k of each image, by falling score."""
    study = small_study(tmp_path)
    every, nms = rows_of_file(study.candidates, study.truth, [choose("nms:max_detections=1000")])
    assert nms.clusters.min() == 1
    for image in range(5):
        there = nms.columns.image == image
        scores, numbers = nms.columns.scores[there], nms.clusters[there]
        assert numbers[(-scores).argsort(kind="stable")].tolist() == [*range(1, there.sum() + 1)]
        assert every.keys[every.columns.image == image].sum() == there.sum()
    errors = error_types(study.truth, nms.columns)
    counted = {kind: int((nms.verdicts == kind).sum()) for kind in ERROR_TYPES[:-1]}
    assert counted == {kind: errors.counts[kind] for kind in ERROR_TYPES[:-1]}
    assert sum(counted.values()) > 0
