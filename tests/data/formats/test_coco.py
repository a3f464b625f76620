"""Annotations in COCO's format: what is read, what is left out, and what is refused."""

import copy
import json
import re

import numpy as np
import pytest
from PIL import Image

from postnms.data.dataset import Category
from postnms.data.formats.coco import open_annotations, read_coco, read_truth
from postnms.errors import UserError
from postnms.files.json_files import JsonLimits

GOOD = {
    "images": [
        {"id": 70, "file_name": "b.png", "height": 20, "width": 30},
        {"id": 7, "file_name": "a.png", "height": 10, "width": 10},
        {"id": 8, "file_name": "empty.png", "height": 10, "width": 10},
    ],
    "annotations": [
        {"id": 5, "image_id": 70, "category_id": 90, "bbox": [1, 2, 3, 4]},
        {
            "id": 6,
            "image_id": 7,
            "category_id": 3,
            "bbox": [-2, 5, 100, 4.5],
            "area": 7,
            "iscrowd": 1,
        },
        {"id": 9, "image_id": 70, "category_id": 17, "bbox": [0, 0, 30, 20], "iscrowd": 0},
    ],
    "categories": [{"id": 90, "name": "z"}, {"id": 3, "name": "y"}, {"id": 17, "name": "x"}],
}


@pytest.fixture
def write(tmp_path):
    """Write an annotation file and an empty folder; return the arguments of ``read_coco``."""

    def call(content):
        folder = tmp_path / "images"
        folder.mkdir(exist_ok=True)
        path = tmp_path / "train.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path, folder

    return call


def changed(*path, to):
    """The good file with one field changed, or taken out if ``to`` is ``...``."""
    content = copy.deepcopy(GOOD)
    place = content
    for step in path[:-1]:
        place = place[step]
    if to is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return content


def test_ids_of_any_order_become_labels_in_order_of_the_ids(write):
    data = read_coco(*write(GOOD))
    assert data.categories == (Category(3, "y"), Category(17, "x"), Category(90, "z"))
    assert [record.id for record in data.records] == [70, 7, 8]
    first, second, empty = data.records
    assert first.labels.tolist() == [2, 1]
    assert first.boxes.tolist() == [[1, 2, 4, 6], [0, 0, 30, 20]]
    assert first.crowd.tolist() == [False, False]
    assert second.boxes.tolist() == [[0, 5, 10, 9.5]]
    assert second.crowd.tolist() == [True]
    assert empty.boxes.shape == (0, 4)
    assert first.boxes.dtype == np.float32


def test_a_test_split_has_no_annotations(write):
    data = read_coco(*write(changed("annotations", to=...)))
    assert not data.annotated
    assert data.truth.annotations == []
    assert len(data.records) == 3
    assert read_coco(*write(GOOD)).annotated


def test_the_truth_keeps_what_came_and_fills_in_what_may_be_missing(write):
    annotations = read_coco(*write(GOOD)).truth.annotations
    assert [entry["area"] for entry in annotations] == [12, 7, 600]
    assert [entry["iscrowd"] for entry in annotations] == [0, 1, 0]
    assert annotations[1]["bbox"] == [-2, 5, 100, 4.5]


def test_boxes_that_are_next_to_nothing_in_the_image_are_dropped_with_one_line(write, caplog):
    content = copy.deepcopy(GOOD)
    for number, box in enumerate(
        [[3, 3, 0, 5], [40, 0, 5, 5], [0, -9, 5, 9], [-0.3, 2, 0.1 + 0.2, 5]], 100
    ):
        content["annotations"].append({"id": number, "image_id": 70, "category_id": 3, "bbox": box})
    data = read_coco(*write(content))
    assert len(data.records[0].boxes) == 2
    assert len(data.truth.annotations) == 7
    assert [record.message for record in caplog.records] == [
        "train.json: 4 boxes with a side under 0.1 px in their image are not trained on"
    ]


BAD = [
    ('{"images": [', r"train\.json: malformed JSON"),
    ("[]", r"train\.json: expected an object, got list"),
    (changed("images", to=None), r"train\.json: images: expected a list, got NoneType"),
    (changed("images", to=...), r"train\.json: images: expected a list, got nothing"),
    (changed("annotations", to={}), r"train\.json: annotations: expected a list, got dict"),
    (changed("categories", to={}), r"train\.json: categories: expected a list, got dict"),
    (changed("categories", to=[]), r"categories: expected at least one, got none"),
    (changed("images", 1, "id", to=70),
     r"train\.json: images\[1\]\.id: 70 is already that of .*images\[0\]"),
    (changed("images", 1, "id", to=70.0),
     r"train\.json: images\[1\]\.id: 70 is already that of .*images\[0\]"),
    (changed("images", 1, "id", to=7.5),
     r"images\[1\]\.id: expected an integer or a string, got 7\.5"),
    (changed("images", 1, "id", to=None), r"images\[1\]\.id: expected an integer or .*got None"),
    (changed("images", 1, "id", to=True), r"images\[1\]\.id: expected an integer or .*got True"),
    (changed("images", 1, "id", to=float("inf")), r"images\[1\]\.id: .*got inf"),
    (changed("images", 1, "height", to=...),
     r"images\[1\]\.height: expected an integer from 1 to 2147483647, got None"),
    (changed("images", 1, "width", to=0), r"images\[1\]\.width: expected an integer .*got 0"),
    (changed("images", 1, "width", to=10.5), r"images\[1\]\.width: .*got 10\.5"),
    (changed("images", 1, "width", to=10**40), r"images\[1\]\.width: .*got 10000"),
    (changed("images", 0, "file_name", to=3), r"images\[0\]\.file_name: expected a string, got 3"),
    (changed("images", 0, to=3), r"images\[0\]: expected an object, got int"),
    (changed("annotations", 0, to=[]), r"annotations\[0\]: expected an object, got list"),
    (changed("annotations", 0, "id", to=[5]),
     r"annotations\[0\]\.id: expected an integer or a string, got \[5\]"),
    (changed("annotations", 1, "id", to=5),
     r"annotations\[1\]\.id: 5 is already that of .*annotations\[0\]"),
    (changed("annotations", 0, "category_id", to=4),
     r"annotations\[0\]\.category_id: expected one of \[3, 17, 90\]"),
    (changed("annotations", 2, "image_id", to=1),
     r"annotations\[2\]\.image_id: expected the id of an image, got 1"),
    (changed("annotations", 2, "image_id", to="70"),
     r"annotations\[2\]\.image_id: expected the id of an image, got '70'"),
    (changed("annotations", 2, "image_id", to=[70]), r"annotations\[2\]\.image_id: .*got \[70\]"),
    (changed("annotations", 0, "category_id", to="3"), r"category_id: .*got '3'"),
    (changed("annotations", 0, "category_id", to=3.5), r"category_id: .*got 3\.5"),
    (changed("annotations", 0, "category_id", to=True), r"category_id: .*got True"),
    (changed("annotations", 0, "bbox", to=[1, 2, 3]),
     r"annotations\[0\]\.bbox: expected \[x, y, .*got \[1, 2, 3\]"),
    (changed("annotations", 0, "bbox", to=[1, 2, -3, 4]), r"annotations\[0\]\.bbox: .*width >= 0"),
    (changed("annotations", 0, "bbox", to=[1, 2, 3, "4"]), r"annotations\[0\]\.bbox"),
    (changed("annotations", 0, "bbox", to=[1, float("nan"), 3, 4]),
     r"annotations\[0\]\.bbox: .*finite.*nan"),
    (changed("annotations", 0, "bbox", to=[1, 2, 3, 10**400]), r"annotations\[0\]\.bbox: .*finite"),
    (changed("annotations", 0, "bbox", to=[1e308, 2, 1e308, 4]),
     r"annotations\[0\]\.bbox: .*at most 1e\+15, got \[1e\+308, 2, 1e\+308, 4\]"),
    (changed("annotations", 0, "bbox", to=[-2e15, 2, 3, 4]), r"bbox: .*at most 1e\+15"),
    (changed("annotations", 0, "bbox", to=["x" * 10**6]), r"bbox: .*got \['xxx.{,80}$"),
    (changed("annotations", 0, "bbox", to=[True, 2, 3, 4]),
     r"annotations\[0\]\.bbox: .*got \[True, 2, 3, 4\]"),
    (changed("annotations", 0, "bbox", to=...), r"annotations\[0\]\.bbox: .*got None"),
    (changed("annotations", 0, "iscrowd", to=2),
     r"annotations\[0\]\.iscrowd: expected 0 or 1, got 2"),
    (changed("annotations", 0, "category_id", to=[3]), r"annotations\[0\]\.category_id"),
    (changed("annotations", 0, "iscrowd", to=0.5), r"iscrowd: expected 0 or 1, got 0\.5"),
    (changed("annotations", 0, "iscrowd", to="0"), r"iscrowd: expected 0 or 1, got '0'"),
    (changed("annotations", 0, "area", to="big"),
     r"annotations\[0\]\.area: expected a finite number >= 0, got 'big'"),
    (changed("annotations", 0, "area", to=-1), r"area: expected a finite number >= 0, got -1"),
    (changed("annotations", 0, "area", to=float("nan")), r"area: .*got nan"),
    (changed("annotations", 0, "area", to=10**400), r"area: .*got 1000"),
    (changed("annotations", 0, "area", to=True), r"area: .*got True"),
    (changed("categories", 1, "id", to=90), r"categories\[1\]\.id: 90 is already that of"),
    (changed("categories", 1, "name", to=...),
     r"categories\[1\]\.name: expected a string, got None"),
    (changed("categories", 1, "name", to="\ud800"),
     r"categories\[1\]\.name: expected a string, got '\\ud800'"),
    (changed("categories", 1, "id", to="3"), r"categories\[1\]\.id: expected an integer, got '3'"),
    (changed("categories", 1, to=None), r"categories\[1\]: expected an object, got NoneType"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), BAD)
def test_bad_annotations_name_file_and_field(write, content, message):
    with pytest.raises(UserError, match=message):
        read_coco(*write(content))


def test_the_truth_alone_needs_no_more_of_an_image_than_its_id(write):
    path, _ = write(GOOD | {"images": [{"id": 70}, {"id": 7}], "info": {"year": 2017}})
    truth = read_truth(path)
    assert truth.categories == (Category(3, "y"), Category(17, "x"), Category(90, "z"))
    assert truth.content["images"] == [{"id": 70}, {"id": 7}]
    assert truth.content["info"] == {"year": 2017}
    assert [(entry["area"], entry["iscrowd"]) for entry in truth.content["annotations"]] == [
        (12, 0),
        (7, 1),
        (600, 0),
    ]
    assert (truth.source, truth.annotated) == (str(path), True)
    path, _ = write(changed("annotations", to=...))
    assert (read_truth(path).annotated, read_truth(path).content["annotations"]) == (False, [])


@pytest.mark.parametrize(
    ("content", "message"), [bad for bad in BAD if not re.search("height|width:|file_name", bad[1])]
)
def test_the_truth_alone_is_checked_as_with_its_images(write, content, message):
    with pytest.raises(UserError, match=message):
        read_truth(write(content)[0])


def test_ids_are_integers_or_strings_that_are_equal_by_value_and_kind(write):
    content = copy.deepcopy(GOOD)
    for entry, number in zip(content["images"], ("7", 7, "b/c.jpg"), strict=True):
        entry["id"] = number
    for entry, number in zip(content["annotations"], ("b/c.jpg", 7, "7"), strict=True):
        entry["image_id"] = number
    data = read_coco(*write(content))
    assert [record.id for record in data.records] == ["7", 7, "b/c.jpg"]
    assert [record.labels.tolist() for record in data.records] == [[1], [0], [2]]
    assert [entry["image_id"] for entry in data.truth.annotations] == ["b/c.jpg", 7, "7"]


@pytest.mark.parametrize("number", [0, -(2**70), 2**53 + 1, 2**63, 10**300])
def test_integers_of_any_length_are_ids(write, number):
    content = copy.deepcopy(GOOD)
    content["images"][0]["id"] = content["categories"][0]["id"] = number
    for index in (0, 2):
        content["annotations"][index]["image_id"] = number
    content["annotations"][0] |= {"category_id": number, "id": number}
    data = read_coco(*write(content))
    assert [record.id for record in data.records] == [number, 7, 8]
    assert len(data.records[0].boxes) == 2
    assert number in [category.id for category in data.categories]


def as_floats(value):
    """Return JSON with every integer as a float, as some exporters write it."""
    if isinstance(value, dict):
        return {name: as_floats(part) for name, part in value.items()}
    if isinstance(value, list):
        return [as_floats(part) for part in value]
    return float(value) if type(value) is int else value


def test_whole_numbers_may_be_floats(write):
    path, folder = write(GOOD)
    data = read_coco(path, folder)
    path.write_text(json.dumps(as_floats(GOOD)))
    floats = read_coco(path, folder)
    assert '"id": 70.0' in path.read_text()
    for mine, theirs in zip(floats.records, data.records, strict=True):
        for name in ("id", "height", "width"):
            assert getattr(mine, name) == getattr(theirs, name)
            assert type(getattr(mine, name)) is int
        assert mine.boxes.tolist() == theirs.boxes.tolist()
    assert floats.categories == data.categories
    for entry in floats.truth.annotations:
        assert {type(entry[name]) for name in ("image_id", "category_id", "iscrowd")} == {int}


def test_null_counts_as_missing(write):
    nothing = dict.fromkeys(("id", "area", "iscrowd", "segmentation"))
    content = copy.deepcopy(GOOD) | {"info": None, "licenses": None}
    content["annotations"] = [{**entry, **nothing} for entry in content["annotations"]]
    truth = read_truth(write(content)[0])
    assert [entry["area"] for entry in truth.annotations] == [12, 450, 600]
    assert [entry["iscrowd"] for entry in truth.annotations] == [0, 0, 0]
    path, _ = write(changed("annotations", to=None))
    assert (read_truth(path).annotated, read_truth(path).annotations) == (False, [])


def test_annotations_need_no_ids_and_may_have_strings(write):
    content = copy.deepcopy(GOOD)
    del content["annotations"][0]["id"]
    content["annotations"][1]["id"] = "6"
    content["annotations"][2]["id"] = 6
    assert len(read_truth(write(content)[0]).annotations) == 3
    content["annotations"][2]["id"] = "6"
    with pytest.raises(UserError, match=r"annotations\[2\]\.id: '6' is already that of .*\[1\]"):
        read_truth(write(content)[0])


def test_a_file_that_is_too_large_is_refused_and_the_limit_can_be_raised(write):
    path, folder = write(GOOD)
    size = path.stat().st_size
    small = JsonLimits(file=size - 1)
    for read in (read_truth, open_annotations):
        with pytest.raises(UserError, match=f"expected at most {size - 1} bytes of JSON"):
            read(path, limits=small)
    with pytest.raises(UserError, match=r"JsonLimits\.file sets the limit"):
        read_coco(path, folder, small)
    assert len(read_coco(path, folder, JsonLimits(file=size)).records) == 3


def test_the_file_of_an_image_is_looked_for(write):
    content = copy.deepcopy(GOOD)
    content["images"][0]["file_name"] = "images\\my%20image.PNG"
    path, folder = write(content)
    (folder / "my image.png").touch()
    data = read_coco(path, folder)
    names = ["my image.png", "a.png", "empty.png"]
    assert [record.path for record in data.records] == [folder / name for name in names]
    assert data.truth.images[0]["file_name"] == "images\\my%20image.PNG"


def test_missing_files(write, tmp_path):
    path, folder = write(GOOD)
    with pytest.raises(UserError, match=r"none\.json: no such annotation file"):
        read_coco(tmp_path / "none.json", folder)
    with pytest.raises(UserError, match="nowhere: no such folder of images"):
        read_coco(path, tmp_path / "nowhere")


def test_images_are_read_when_asked_for_and_must_be_as_annotated(write, tmp_path):
    path, folder = write(GOOD)
    first, second, _ = read_coco(path, folder).records
    with pytest.raises(UserError, match=r"b\.png: no such image"):
        first.load()
    Image.new("RGB", (30, 20), "red").save(folder / "b.png")
    Image.new("RGB", (10, 11)).save(folder / "a.png")
    assert first.load().size == (30, 20)
    with pytest.raises(UserError, match=r"a\.png: expected 10 x 10 px as annotated, got 10 x 11"):
        second.load()


def test_a_folder_stands_for_the_annotations_of_its_validation_split(write, tmp_path):
    path, _ = write(GOOD)
    assert open_annotations(path) == read_truth(path)
    assert open_annotations(tmp_path, "train.json") == read_truth(path)
    assert open_annotations(path, "no effect.json") == read_truth(path)
    path.rename(tmp_path / "instances_val.json")
    assert open_annotations(tmp_path).source == str(tmp_path / "instances_val.json")
