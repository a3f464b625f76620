"""The numbers of a data set, on a small one that is counted by hand."""

import json

import pytest
from PIL import Image

from postnms.data.formats.coco import read_coco
from postnms.data.summary import shared_images, summarise

BOXES = [
    (1, 1, [0, 0, 10, 10], 0),  # small
    (1, 1, [0, 0, 10, 10], 0),  # the same box again
    (1, 2, [0, 0, 10, 10], 0),  # of another class
    (1, 2, [5, 5, 60, 60], 1),  # medium, a crowd region
    (2, 1, [0, 0, 100, 100], 0),  # large
    (2, 1, [150, 0, 100, 10], 0),  # small, and over the border by 50 pixels
    (2, 1, [99, 0, 102, 10], 0),  # small, and over the border by one pixel: rounding
    (2, 1, [300, 0, 10, 10], 0),  # beside the image, so it is dropped
]


@pytest.fixture
def dataset(tmp_path):
    sizes = {1: (100, 200), 2: (150, 200), 3: (400, 300)}
    for number, (height, width) in sizes.items():
        Image.new("RGB", (width, height), (number, 0, 0)).save(tmp_path / f"{number}.png")
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": h, "width": w}
            for i, (h, w) in sizes.items()
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate("abc", 1)],
        "annotations": [
            {"id": i, "image_id": image, "category_id": label, "bbox": box, "iscrowd": crowd}
            for i, (image, label, box, crowd) in enumerate(BOXES, 1)
        ],
    }
    content["images"].append({"id": 4, "file_name": "1.png", "height": 100, "width": 200})
    (tmp_path / "t.json").write_text(json.dumps(content))
    return read_coco(tmp_path / "t.json", tmp_path)


def test_everything_is_counted(dataset):
    facts = summarise(dataset)
    assert (facts.images, facts.objects, facts.crowd, facts.dropped) == (4, 8, 1, 1)
    assert (facts.outside, facts.empty_images) == (2, 2)
    assert facts.objects_of == {"a": 6, "b": 2, "c": 0}
    assert facts.empty_classes == ("c",)
    assert facts.sides == ((100, 200), (125, 200), (400, 300))
    assert facts.sizes == {"small": 6, "medium": 1, "large": 1}
    assert (facts.same_files, facts.same_boxes) == (1, 1)
    assert facts.problems == ()


def test_classes_of_one_name_are_counted_together(dataset, tmp_path):
    content = json.loads((tmp_path / "t.json").read_text())
    content["categories"][1]["name"] = "a"
    (tmp_path / "t.json").write_text(json.dumps(content))
    facts = summarise(read_coco(tmp_path / "t.json", tmp_path))
    assert (facts.objects_of, facts.same_names) == ({"a": 8, "c": 0}, 1)
    assert summarise(dataset).same_names == 0


def test_what_is_no_file_is_no_shared_image(dataset, tmp_path):
    content = json.loads((tmp_path / "t.json").read_text())
    content["images"][0]["file_name"] = ""
    (tmp_path / "t.json").write_text(json.dumps(content))
    dataset = read_coco(tmp_path / "t.json", tmp_path)
    assert shared_images(dataset, dataset) == ["2.png", "3.png", "1.png"]
    assert summarise(dataset).problems[0].kind == "unreadable"


def test_images_of_both_splits_are_found_by_their_content(dataset, tmp_path):
    assert shared_images(dataset, dataset) == ["1.png", "2.png", "3.png", "1.png"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "copy.png").write_bytes((tmp_path / "2.png").read_bytes())
    changed = bytearray((tmp_path / "3.png").read_bytes())
    changed[-1] ^= 1
    (other / "new.png").write_bytes(changed)
    records = (("copy.png", 150, 200), ("new.png", 400, 300), ("missing.png", 1, 1))
    content = {
        "images": [
            {"id": i, "file_name": name, "height": h, "width": w}
            for i, (name, h, w) in enumerate(records, 1)
        ],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [],
    }
    (other / "t.json").write_text(json.dumps(content))
    assert shared_images(dataset, read_coco(other / "t.json", other)) == ["copy.png"]


def test_a_split_without_images_has_no_sizes(tmp_path):
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "t.json").write_text(json.dumps(content))
    facts = summarise(read_coco(tmp_path / "t.json", tmp_path))
    assert (facts.images, facts.objects, facts.sides) == (0, 0, ((0, 0), (0, 0), (0, 0)))
