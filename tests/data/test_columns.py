"""Columns of images and objects are the dicts of COCO in another form."""

import copy
import dataclasses

import numpy as np
import pytest

from postnms.data.columns import Entries, ImageColumns, columns_of, object_columns
from postnms.data.dataset import Category, Truth
from postnms.data.ids import Ids, Texts

IMAGES = [
    {"id": 70, "file_name": "b.png", "height": 20, "width": 30},
    {"id": "7", "file_name": "a.png", "height": 10, "width": 12},
    {"id": 8, "file_name": "c.png", "height": 11, "width": 13},
]
ANNOTATIONS = [
    {"image_id": "7", "category_id": 5, "bbox": [1.5, 2, 3, 4], "area": 7.25, "iscrowd": 1},
    {"id": 9, "image_id": 70, "category_id": 3, "bbox": [0.1, 0, 3, 0], "area": 0, "iscrowd": 0},
    {"id": "x", "image_id": "7", "category_id": 3, "bbox": [-1, 2, 3, 4], "area": 2, "iscrowd": 0},
]
CATEGORIES = [{"id": 5, "name": "b"}, {"id": 3, "name": "a"}]


def lists():
    content = {"images": IMAGES, "annotations": ANNOTATIONS, "categories": CATEGORIES}
    return Truth((Category(3, "a"), Category(5, "b")), copy.deepcopy(content), "t.json")


def columnar():
    """The same truth as the readers give it."""
    ids = Ids.of(entry["id"] for entry in IMAGES)
    sizes = np.array([[20, 30], [10, 12], [11, 13]], np.int32)
    images = ImageColumns(ids, Texts.of(entry["file_name"] for entry in IMAGES), sizes)
    objects = object_columns(ANNOTATIONS, ids, [5, 3])
    content = {"images": Entries(images), "annotations": Entries(objects), "categories": CATEGORIES}
    return dataclasses.replace(lists(), content=content)


def test_the_dicts_come_back():
    truth = columnar()
    assert list(truth.images) == IMAGES
    assert list(truth.annotations) == ANNOTATIONS
    assert truth.annotations == ANNOTATIONS
    assert truth.annotations[-1] == ANNOTATIONS[-1]
    assert truth.annotations[::2] == ANNOTATIONS[::2]
    assert truth.annotations != ANNOTATIONS[:2]
    assert truth.annotations != [*ANNOTATIONS[:2], {**ANNOTATIONS[2], "area": 3}]
    assert truth == lists()
    with pytest.raises(IndexError):
        truth.annotations[3]
    kinds = [type(truth.annotations[0][name]) for name in ("image_id", "category_id", "iscrowd")]
    assert kinds == [str, int, int]


@pytest.mark.parametrize("make", [lists, columnar])
def test_the_objects_of_a_truth_are_columns(make):
    objects = make().objects
    assert objects.image.tolist() == [1, 0, 1]
    assert objects.category.tolist() == [0, 1, 1]
    assert objects.category_ids == (5, 3)
    assert list(objects.image_ids) == [70, "7", 8]
    assert objects.boxes.tolist() == [[1.5, 2, 3, 4], [0.1, 0, 3, 0], [-1, 2, 3, 4]]
    assert objects.area.tolist() == [7.25, 0, 2]
    assert objects.crowd.tolist() == [True, False, False]
    assert objects.boxes.dtype == np.float64


def test_columns_that_were_read_are_not_made_again():
    truth = columnar()
    assert truth.objects is columns_of(truth.annotations, type(truth.objects))


@pytest.mark.parametrize("make", [lists, columnar])
def test_a_part_has_the_objects_of_its_images(make):
    part = make().part(lambda entry: entry["id"] != 70)
    assert part.images == IMAGES[1:]
    assert part.annotations == [ANNOTATIONS[0], ANNOTATIONS[2]]
    assert part.objects.image.tolist() == [0, 0]
    assert list(part.objects.image_ids) == ["7", 8]


@pytest.mark.parametrize("make", [lists, columnar])
def test_other_ids_of_classes_move_the_objects(make):
    """Class b is 5 here and 1 there, and the file there lists no more classes."""
    truth = make().with_categories((Category(1, "b"), Category(2, "a"), Category(4, "c")))
    assert [entry["category_id"] for entry in truth.annotations] == [1, 2, 2]
    assert truth.content["categories"] == [{"id": 1, "name": "b"}, {"id": 2, "name": "a"}]
    assert (truth.objects.category_ids, truth.objects.category.tolist()) == ((1, 2), [0, 1, 1])


@pytest.mark.parametrize("make", [lists, columnar])
def test_positions_are_those_in_the_lists_as_they_are(make):
    truth = make()
    content = truth.content
    turned = dataclasses.replace(truth, content={**content, "categories": CATEGORIES[::-1]})
    assert turned.objects.category.tolist() == [1, 0, 0]
    turned = dataclasses.replace(truth, content={**content, "images": IMAGES[::-1]})
    assert turned.objects.image.tolist() == [1, 2, 1]
    images = Entries(columnar().images.columns.take(np.array([2, 1, 0])))
    turned = dataclasses.replace(truth, content={**content, "images": images})
    assert turned.objects.image.tolist() == [1, 2, 1]


@pytest.mark.parametrize("make", [lists, columnar])
@pytest.mark.parametrize(("name", "field"), [("images", "image_id"), ("categories", "category_id")])
def test_objects_of_what_is_not_listed_are_refused(make, name, field):
    truth = make()
    content = {**truth.content, name: list(truth.content[name])[1:]}
    with pytest.raises(ValueError, match=f"annotations: expected a listed {field}"):
        _ = dataclasses.replace(truth, content=content).objects
