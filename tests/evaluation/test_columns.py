"""Detections as columns, beside the results that they stand for."""

import dataclasses

import numpy as np
import pytest
import torch

from postnms.data.columns import Entries
from postnms.data.dataset import Category
from postnms.evaluation.columns import (
    ResultColumns,
    columns_of,
    concatenate_columns,
    read_results,
    to_columns,
)
from postnms.evaluation.curves import curves
from postnms.evaluation.matching import images_over_limit, match_results
from postnms.evaluation.metrics import coco_metrics, evaluate_rows
from postnms.evaluation.results import to_results
from postnms.evaluation.tide import error_types
from postnms.structures import Detections
from tests.support.coco import as_truth, scene


@pytest.fixture
def row():
    """Return a truth, random detections, and the ids of their images and classes.

    The ids are in other orders than those of the truth, which does not list the class 77.
    """
    truth, _ = scene(2)
    random = np.random.default_rng(0)
    targets = torch.tensor(np.array([entry["bbox"] for entry in truth.annotations], np.float32))
    boxes = targets.repeat(3, 1)
    boxes[:, 2:] += boxes[:, :2]
    boxes += torch.from_numpy(random.uniform(-2, 2, boxes.shape)).float()
    count = len(boxes)
    ids = [entry["id"] for entry in truth.images][::-1]
    image = torch.tensor([ids.index(entry["image_id"]) for entry in truth.annotations]).repeat(3)
    classes = [Category(number, "") for number in (9, 77, 5, 1)]
    label_of = {category.id: label for label, category in enumerate(classes)}
    label = torch.tensor([label_of[entry["category_id"]] for entry in truth.annotations]).repeat(3)
    label[::7] = 1
    # Neighbouring float32 numbers, whose order must not be lost, and ties.
    steps = torch.from_numpy(random.integers(0, 40, count)).float()
    scores = 0.7 + steps * 2**-24
    source = torch.arange(count)
    return truth, Detections(boxes, scores, label, image, source, len(ids)), ids, classes


def test_the_columns_are_those_of_the_results(row):
    truth, detections, ids, classes = row
    ones = torch.ones(len(ids), 2)
    results = to_results(detections, ids, ones, [category.id for category in classes])
    found, wanted = columns_of(truth, detections, ids, classes), read_results(truth, results)
    assert 0 < len(found.scores) < len(results)
    for name in ("image", "label", "boxes"):
        assert getattr(found, name).tolist() == getattr(wanted, name).tolist()
    # Scores are not rounded, which changes neither their order nor their ties.
    assert found.scores == pytest.approx(wanted.scores, rel=1e-8)
    orders = [np.unique(scores, return_inverse=True)[1] for scores in (found.scores, wanted.scores)]
    assert orders[0].tolist() == orders[1].tolist()
    assert len(np.unique(found.scores)) > 20
    assert coco_metrics(truth, found) == coco_metrics(truth, results)


def test_the_figures_of_columns_are_those_of_the_dicts(row):
    """Images and classes are in other orders than in the truth, which lacks one of the classes."""
    truth, detections, ids, classes = row
    given = ids, torch.ones(len(ids), 2), [category.id for category in classes]
    results, columns = to_results(detections, *given), to_columns(detections, *given)
    assert list(Entries(columns)) == results
    worse = results[::2]
    expected = evaluate_rows(truth, {"nms": results, "post_nms": worse}, bootstrap=20)
    found = evaluate_rows(truth, {"nms": columns, "post_nms": worse}, bootstrap=20)
    assert found == expected
    assert 0 < expected.rows["nms"]["AP"] < 100
    assert error_types(truth, columns) == error_types(truth, results)
    assert curves(truth, columns).to_json() == curves(truth, results).to_json()


def test_parts_follow_each_other_with_the_ids_of_their_images():
    parts = [
        ResultColumns(ids, [4, 6], np.array(image), np.array(image), boxes, np.array(scores))
        for ids, image, boxes, scores in (
            ([7, "b"], [1, 0], np.array([[1.0, 2, 3, 4], [5, 6, 7, 8]]), [0.5, 0.25]),
            ([], np.empty(0, np.int64), np.empty((0, 4)), np.empty(0)),
            ([1], [0], np.array([[9.0, 9, 9, 9]]), [0.75]),
        )
    ]
    assert list(Entries(concatenate_columns(parts, [4, 6]))) == [
        {"image_id": "b", "category_id": 6, "bbox": [1.0, 2.0, 3.0, 4.0], "score": 0.5},
        {"image_id": 7, "category_id": 4, "bbox": [5.0, 6.0, 7.0, 8.0], "score": 0.25},
        {"image_id": 1, "category_id": 4, "bbox": [9.0, 9.0, 9.0, 9.0], "score": 0.75},
    ]


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        ("image", [0, 2], r"image: expected positions from 0 to 1, got 2"),
        ("label", [-1, 0], r"label: expected positions from 0 to 0, got -1"),
        ("label", [0], r"label: expected the shape \(2,\), got \(1,\)"),
        ("boxes", np.ones((2, 5)), r"boxes: expected the shape \(2, 4\), got \(2, 5\)"),
        ("boxes", np.array([[0, 0, 1, 1], [0, 0, -1, 1.0]]), r"sides >= 0, got \[0.0, 0.0, -1"),
        ("boxes", np.array([[0, 0, 1, 1], [np.nan, 0, 1, 1]]), r"boxes of finite numbers"),
        ("scores", [np.inf, 0], r"expected finite scores, got inf"),
    ],
)
def test_a_wrong_column_is_named(name, column, message):
    columns = {"image": [0, 1], "label": [0, 0], "boxes": np.ones((2, 4)), "scores": [0.5, 1.0]}
    columns[name] = column
    with pytest.raises(ValueError, match=f"^results: .*{message}"):
        ResultColumns([5, 6], [1], **{key: np.array(value) for key, value in columns.items()})


def test_detections_in_an_image_that_the_truth_does_not_list_are_named(row):
    truth, detections, ids, classes = row
    fewer = as_truth({**truth.content, "images": truth.images[2:]})
    with pytest.raises(ValueError, match=r"results: expected image ids of the truth, got 3$"):
        columns_of(fewer, detections, [*ids[:-1], 3], classes)
    # Detections of a class that the truth does not list are left out before that.
    others = dataclasses.replace(detections, labels=torch.ones_like(detections.labels))
    assert len(columns_of(fewer, others, ids, classes).scores) == 0


def test_images_with_results_that_do_not_count():
    truth, results = scene(1)
    first, second = results[0], {**results[0], "category_id": 9}
    many = [*results, *[first] * 101, *[second] * 101]
    assert images_over_limit(results) == 0
    for row in (many, read_results(truth, many)):
        assert images_over_limit(row) == 1
    hundred = [second] * 100
    assert images_over_limit(hundred) == images_over_limit(read_results(truth, hundred)) == 0
    assert len(match_results(truth, [second] * 101).results.scores) == 100
