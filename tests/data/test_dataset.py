"""Splits with the labels of another split."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from postnms.data.dataset import Category, Dataset, Record, Truth
from postnms.errors import UserError


def split(*labels_of_images):
    """Return a split of three classes, with the given labels in each image."""
    categories = (Category(3, "y"), Category(17, "x"), Category(90, "z"))
    records = []
    for number, labels in enumerate(labels_of_images):
        boxes = np.array([[0, 0, 5, 5]], np.float32).repeat(len(labels), 0)
        columns = (boxes, np.array(labels, np.int64), np.zeros(len(labels), np.bool_))
        records.append(Record(number, Path("none.png"), 10, 10, *columns))
    truth = Truth(categories, {"annotations": []}, "train.json", annotated=False)
    return Dataset(truth, tuple(records))


def test_another_split_takes_the_label_map_of_the_first():
    wider = (Category(1, "w"), Category(90, "z"), Category(17, "x"), Category(3, "y"))
    given = split([2, 0], [1], [])
    mapped = given.with_label_map(wider)
    assert mapped.categories == mapped.truth.categories == wider
    assert [record.labels.tolist() for record in mapped.records] == [[1, 3], [2], []]
    assert (mapped.source, mapped.annotated) == ("train.json", False)
    assert mapped.truth.content is given.truth.content
    assert [record.labels.tolist() for record in given.records] == [[2, 0], [1], []]


def test_names_decide_where_ids_differ():
    """Class x is 17 here and 2 there: annotations, categories and labels follow the name."""
    given = split([2, 0], [1])
    entries = [{"category_id": 17, "id": 1}, {"category_id": 90, "id": 2}]
    content = {
        "annotations": entries,
        "categories": [{"id": 17, "name": "x", "supercategory": "s"}],
    }
    given = Dataset(dataclasses.replace(given.truth, content=content), given.records)
    other = (Category(1, "z"), Category(2, "x"), Category(17, "y"))
    mapped = given.with_label_map(other)
    assert mapped.categories == other
    assert [record.labels.tolist() for record in mapped.records] == [[0, 2], [1]]
    assert [entry["category_id"] for entry in mapped.truth.annotations] == [2, 1]
    assert mapped.truth.content["categories"] == [{"id": 2, "name": "x", "supercategory": "s"}]
    assert entries[0]["category_id"] == 17


def test_a_name_of_two_classes_decides_nothing():
    twice = (Category(1, "x"), Category(2, "y"), Category(4, "z"), Category(5, "z"))
    with pytest.raises(UserError, match=r"got also 3 'y', 17 'x', 90 'z'"):
        split([0]).with_label_map(twice)


@pytest.mark.parametrize(
    "wrong", [(Category(3, "y"),), (Category(3, "y"), Category(17, "other"), Category(90, "z"))]
)
def test_categories_that_the_label_map_has_not_are_named(wrong):
    with pytest.raises(
        UserError, match=r"train\.json: categories: expected a subset of .*got also 17 'x'"
    ):
        split([0]).with_label_map(wrong)


def test_an_image_in_memory_needs_no_file():
    (record,) = split([0]).records
    with pytest.raises(UserError, match=r"none\.png: no such image"):
        record.load()
    pixels = np.random.default_rng(0).integers(0, 255, (10, 10, 3), np.uint8)
    columns = (record.boxes, record.labels, record.crowd)
    in_memory = Record(0, record.path, 10, 10, *columns, pixels=pixels)
    assert np.array_equal(np.asarray(in_memory.load()), pixels)
