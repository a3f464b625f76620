"""What the viewer shows of an image: by hand, on one image with one moved box."""

import pytest
import torch
from PIL import Image

from postnms.candidate_files.reader import open_candidates
from postnms.candidate_files.writer import CandidateWriter
from postnms.data.dataset import Category, Record, Truth
from postnms.report.clusters import look_up
from postnms.report.viewer import describe
from postnms.structures import (
    CLUSTER_OBJECTNESS,
    OBJECTNESS,
    REFINED,
    Candidates,
    Detections,
    as_detections,
    derive,
    take,
)
from postnms.suppression import SUPPRESSORS

CATEGORIES = (Category(7, "cat"), Category(9, "dog"))
BOXES = torch.tensor([[0.0, 0, 10, 10], [2, 0, 12, 10], [50, 50, 60, 60], [52, 50, 62, 60]])
SCORES = torch.tensor([0.9, 0.8, 0.7, 0.6])
MOVED = torch.tensor([[1.0, 0, 11, 10], [2, 0, 12, 10], [50, 50, 60, 60], [52, 50, 62, 60]])


@pytest.fixture
def truth():
    boxes = [(7, [1, 0, 10, 10], 0), (9, [80, 80, 10, 10], 0), (9, [49, 49, 14, 14], 1)]
    annotations = [
        {"id": i, "image_id": 5, "category_id": c, "bbox": box, "area": 100, "iscrowd": crowd}
        for i, (c, box, crowd) in enumerate(boxes)
    ]
    content = {
        "images": [{"id": 5, "file_name": "a.png"}, {"id": 6, "file_name": "b.png"}],
        "annotations": annotations,
        "categories": [{"id": c.id, "name": c.name} for c in CATEGORIES],
    }
    return Truth(CATEGORIES, content, "example")


@pytest.fixture
def file(tmp_path):
    """Candidates of images 6 (none) and 5 (two clusters), whose stage moves the first key."""
    extra = {
        REFINED: MOVED,
        OBJECTNESS: torch.tensor([0.5, 0.4, 0.3, 0.2]),
        CLUSTER_OBJECTNESS: torch.tensor([0.6, 0.4, 0.1, 0.2]),
    }
    labels, image = torch.tensor([0, 0, 1, 1]), torch.ones(4, dtype=torch.int64)
    candidates = Candidates(BOXES, SCORES, labels, image, torch.arange(4) + 20, 2, extra)
    keys = as_detections(take(candidates, torch.tensor([0, 2])))
    stage = derive(keys, boxes=MOVED[[0, 2]], scores=torch.tensor([0.85, 0.1]))
    rows = {"nms": _plain(keys), "post_nms": _plain(stage)}
    path = tmp_path / "c.safetensors"
    with CandidateWriter(path, CATEGORIES, None, {"nms_threshold": 0.5}) as writer:
        writer.add(candidates, [6, 5], rows)
    return open_candidates(path)


def _plain(row):
    return Detections(row.boxes, row.scores, row.labels, row.image, row.source, row.num_images)


def case_of(truth, file, rows=("nms", "post_nms"), records=None):
    clusters = look_up(file, [5], rows, SUPPRESSORS)
    (case,) = describe(truth, [5], clusters, records or {})
    return case


def test_kept_boxes_lead_to_their_clusters(truth, file):
    case = case_of(truth, file)
    assert case["rows"]["nms"] == [
        [0.0, 0.0, 10.0, 10.0, 0, 0.9, "right", pytest.approx(9 / 11, abs=1e-3), 0, 0, None],
        [50.0, 50.0, 60.0, 60.0, 1, 0.7, "ignored", 0.0, -1, 1, None],
    ]
    first, second = case["clusters"]
    assert first == {
        "key": [0.0, 0.0, 10.0, 10.0, 0.9],
        "representative": [0.0, 0.0, 12.0, 10.0],
        "count": 1,
        "members": [[2.0, 0.0, 12.0, 10.0, 0.8]],
        "refined": [1.0, 0.0, 11.0, 10.0],
        "s_obj": 0.5,
        "s_clu": 0.6,
    }
    assert second["members"] == [[52.0, 50.0, 62.0, 60.0, 0.6]]


def test_a_moved_box_keeps_the_box_that_it_was(truth, file):
    moved, still = case_of(truth, file)["rows"]["post_nms"]
    assert moved[:4] == [1.0, 0.0, 11.0, 10.0]
    assert moved[5:] == [0.85, "right", 1.0, 0, 0, [0.0, 0.0, 10.0, 10.0]]
    assert still[-1] is None


def test_rows_that_the_file_lacks_are_replayed(truth, file):
    boxes = case_of(truth, file, ("nms", "none"))["rows"]["none"]
    assert [box[6] for box in boxes] == ["right", "duplicate", "ignored", "ignored"]
    assert [box[9] for box in boxes] == [0, 0, 1, 1]


def test_objects_and_names_are_those_of_the_truth(truth, file):
    case = case_of(truth, file)
    assert case["name"] == "a.png"
    assert case["truth"][0] == [1, 0, 11, 10, 0, 0]
    assert [entry[4:] for entry in case["truth"]] == [[0, 0], [1, 0], [1, 1]]
    assert case["size"] == [91, 91]
    assert "not known" in case["problem"]


def test_a_missing_or_broken_image_is_shown_without_its_picture(truth, file, tmp_path):
    path = tmp_path / "<img>.png"
    nothing = torch.zeros(0)
    record = Record(
        5,
        path,
        100,
        120,
        nothing.view(0, 4).numpy(),
        nothing.long().numpy(),
        nothing.bool().numpy(),
    )
    case = case_of(truth, file, records={5: record})
    assert (case["picture"], case["size"]) == (None, [120, 100])
    assert case["problem"] == "The file <img>.png is missing."
    path.write_text("no picture")
    assert "<img>.png" in case_of(truth, file, records={5: record})["problem"]
    Image.new("RGB", (120, 100)).save(path)
    case = case_of(truth, file, records={5: record})
    assert (case["problem"], case["picture"][:15]) == ("", "data:image/jpeg")


def test_an_image_that_no_detector_has_seen_has_its_objects_alone(truth, file):
    (case,) = describe(truth, [5], {}, {})
    assert (case["rows"], case["clusters"], len(case["truth"])) == ({}, [], 3)


def test_images_without_candidates_are_empty(truth, file):
    (case,) = describe(truth, [6], look_up(file, [6], ("nms", "post_nms"), {}), {})
    assert case["rows"] == {"nms": [], "post_nms": []}
    assert look_up(file, [99], ("nms",), {}) == {}
