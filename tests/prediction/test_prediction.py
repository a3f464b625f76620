"""A prediction in the forms of other tools: a hand-worked one, and one without detections."""

import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from postnms import Prediction

FOUND = Prediction(
    boxes=np.array([[10, 20, 50, 60], [0, 0, 100.12345, 50]], np.float32),
    scores=np.array([0.9, 0.25], np.float32),
    labels=np.array([1, 0]),
    names=["dog", "cat"],
    image_size=(100, 200),
    path=None,
    row="post_nms",
    category_ids=[7, 3],
    class_names=["cat", "dog"],
    source=np.zeros((100, 200, 3), np.uint8),
)
NOTHING = replace(
    FOUND,
    boxes=np.zeros((0, 4), np.float32),
    scores=np.zeros(0, np.float32),
    labels=np.zeros(0, np.int64),
    names=[],
)


def test_records_and_tables_have_the_names():
    first, second = FOUND.to_records()
    assert first == {
        "label": 1,
        "name": "dog",
        "score": float(f"{np.float32(0.9):.9g}"),
        "x1": 10.0,
        "y1": 20.0,
        "x2": 50.0,
        "y2": 60.0,
    }
    assert second["x2"] == 100.123
    table = FOUND.to_pandas()
    assert list(table.columns) == ["label", "name", "score", "x1", "y1", "x2", "y2"]
    assert table.name.tolist() == ["dog", "cat"]
    assert list(NOTHING.to_pandas().columns) == list(table.columns)
    assert (NOTHING.to_records(), len(NOTHING), len(FOUND)) == ([], 0, 2)


def test_coco_results_have_the_ids_of_the_categories():
    first, second = FOUND.to_coco("a.png")
    assert (first["image_id"], first["category_id"], first["bbox"]) == (
        "a.png",
        3,
        [10, 20, 40, 40],
    )
    assert second["category_id"] == 7
    assert second["bbox"] == [0, 0, 100.123, 50]
    assert np.float32(first["score"]) == np.float32(0.9)
    assert NOTHING.to_coco(1) == []


def test_torchvision_gets_tensors_and_its_numbering():
    found = FOUND.to_torchvision()
    assert found["labels"].tolist() == [1, 0]
    assert FOUND.to_torchvision(labels_from=1)["labels"].tolist() == [2, 1]
    assert (found["boxes"].dtype, found["labels"].dtype) == (torch.float32, torch.int64)
    found["boxes"].zero_()
    assert FOUND.boxes[0].tolist() == [10, 20, 50, 60]
    assert NOTHING.to_torchvision()["boxes"].shape == (0, 4)


def test_yolo_text_has_shares_of_the_image():
    first, second = FOUND.to_yolo().splitlines()
    assert first == f"1 0.150000 0.400000 0.200000 0.400000 {np.float32(0.9):.9g}"
    assert second.split()[:5] == ["0", "0.250309", "0.250000", "0.500617", "0.500000"]
    assert FOUND.to_yolo(scores=False).splitlines()[0] == "1 0.150000 0.400000 0.200000 0.400000"
    assert FOUND.to_yolo().endswith("\n")
    assert NOTHING.to_yolo() == ""


def test_supervision_gets_its_own_type(monkeypatch):
    class Detections:
        def __init__(self, **columns):
            self.__dict__.update(columns)

    stand_in = types.SimpleNamespace(Detections=Detections)
    monkeypatch.setitem(sys.modules, "supervision", stand_in)
    found = FOUND.to_supervision()
    assert isinstance(found, Detections)
    assert found.xyxy.tolist() == FOUND.boxes.tolist()
    assert (found.class_id.tolist(), found.data["class_name"].tolist()) == ([1, 0], ["dog", "cat"])
    assert found.confidence.dtype == np.float32
    nothing = NOTHING.to_supervision()
    assert (nothing.xyxy.shape, nothing.data["class_name"].dtype.kind) == ((0, 4), "U")


@pytest.mark.parametrize(
    ("package", "method"), [("supervision", "to_supervision"), ("pandas", "to_pandas")]
)
def test_a_missing_package_is_named(monkeypatch, package, method):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"{method} needs the package {package}: pip install"):
        getattr(FOUND, method)()


def test_a_picture_shows_what_scores_enough(tmp_path):
    factor = 5  # Small images are enlarged.
    drawn = FOUND.draw()
    assert drawn.size == (200 * factor, 100 * factor)
    assert drawn.getpixel((10 * factor, 40 * factor)) == (213, 94, 0)
    assert drawn.getpixel((1, 40 * factor)) == (0, 0, 0)
    assert FOUND.draw(min_score=0.2).getpixel((1, 40 * factor)) == (0, 114, 178)
    Image.new("RGB", (200, 100), "white").save(tmp_path / "a.png")
    of_file = replace(FOUND, path=tmp_path / "a.png", source=None).draw()
    assert of_file.getpixel((1, 40 * factor)) == (255, 255, 255)
