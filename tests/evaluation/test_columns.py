"""Detections as columns, beside the results that they stand for."""

import dataclasses

import numpy as np
import pytest
import torch

from postnms.data.dataset import Category
from postnms.evaluation.columns import columns_of, read_results
from postnms.evaluation.matching import images_over_limit, match_results
from postnms.evaluation.metrics import coco_metrics
from postnms.evaluation.results import to_results
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


def test_detections_in_an_image_that_the_truth_does_not_list_are_named(row):
    truth, detections, ids, classes = row
    fewer = as_truth({**truth.content, "images": truth.images[2:]})
    with pytest.raises(ValueError, match=r"detections: expected images of the truth, got 3$"):
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
