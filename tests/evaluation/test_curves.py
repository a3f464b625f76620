"""Curves of results, by hand and against pycocotools."""

import json

import numpy as np
import pytest

from postnms.evaluation.average_precision import RECALLS
from postnms.evaluation.curves import SCORES, SHOWN_IOUS, curves
from postnms.evaluation.matching import IOU_THRESHOLDS
from postnms.evaluation.results import BestF1
from tests.support.coco import as_truth, pycocotools_metrics, pycocotools_precision, scene


def one_image(boxes, scored):
    """Return a truth of one image and class, and results: (left edge, score) of 10 x 10 boxes."""
    content = {
        "images": [{"id": 1, "height": 100, "width": 100}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [
            {
                "id": i + 1,
                "image_id": 1,
                "category_id": 1,
                "bbox": [x, 0, 10, 10],
                "area": 100,
                "iscrowd": 0,
            }
            for i, x in enumerate(boxes)
        ],
    }
    results = [
        {"image_id": 1, "category_id": 1, "bbox": [x, 0, 10, 10], "score": score}
        for x, score in scored
    ]
    return as_truth(content), results


def test_a_table_by_hand():
    """Two objects at 0 and 50. The boxes: right (0.9), wrong (0.6), and off (0.3).

    The last one is 2 pixels off its object. Its IoU is 8 / 12: right at 0.5 and wrong at 0.75.
    """
    truth, results = one_image([0, 50], [(0, 0.9), (80, 0.6), (52, 0.3)])
    found = curves(truth, results)
    at_half, at_three_quarters = found.precision
    # Recall 0.5 has precision 1; beyond it the best is 2 / 3 at IoU 0.5, and nothing at 0.75.
    assert at_half.tolist() == pytest.approx([1.0] * 51 + [2 / 3] * 50)
    assert at_three_quarters.tolist() == pytest.approx([1.0] * 51 + [0.0] * 50)
    assert SCORES[[29, 30, 31, 60, 61, 90, 91]].tolist() == [0.29, 0.3, 0.31, 0.6, 0.61, 0.9, 0.91]
    # TP, FP, FN: (2, 1, 0), then (1, 1, 1) without the third box, (1, 0, 1), and (0, 0, 2).
    expected = [0.8, 0.8, 0.5, 0.5, 2 / 3, 2 / 3, 0.0]
    assert found.f1[[29, 30, 31, 60, 61, 90, 91]].tolist() == pytest.approx(expected)
    # The IoU of 2 / 3 is over 4 of the 10 thresholds: 0.5, 0.55, 0.6 and 0.65.
    whole = (4 * (51 + 50 * 2 / 3) + 6 * 51) / 10 / 1.01
    lone = 51 / 1.01
    assert found.ap[[30, 31, 90, 91]].tolist() == pytest.approx([whole, lone, lone, 0.0])
    assert found.best == BestF1(0.3, pytest.approx(0.8), pytest.approx(2 / 3), 1.0)
    plain = found.to_json()
    assert list(plain) == ["recall", "score", "precision_at_0.5", "precision_at_0.75", "AP", "F1"]
    assert (plain["F1"][31], plain["recall"][7], plain["AP"][99]) == (0.5, 0.07, 0.0)


@pytest.mark.parametrize("seed", range(4))
def test_curves_equal_pycocotools(seed):
    truth, results = scene(seed)
    found = curves(truth, results)
    precision = pycocotools_precision(truth, results)
    with_objects = (precision > -1).all(axis=(0, 1))
    for line, iou in zip(found.precision, SHOWN_IOUS, strict=True):
        at = int(np.argmin(abs(IOU_THRESHOLDS - iou)))
        expected = precision[at][:, with_objects].mean(axis=1)
        assert line == pytest.approx(expected, abs=1e-12)
    for at in (0, 30, 85):
        left = [entry for entry in results if entry["score"] >= SCORES[at]]
        expected = pycocotools_metrics(truth, left)["AP"]
        assert found.ap[at] == pytest.approx(expected, abs=1e-9)
    assert len(RECALLS) == found.precision.shape[1]
    # The best F1 of all thresholds is at least that of the hundred.
    assert found.f1.max() <= found.best.f1 <= found.f1.max() + 0.05


def test_without_detections_curves_are_zero_and_without_objects_there_are_none():
    found = curves(*one_image([0], []))
    for line in (found.precision, found.ap, found.f1):
        assert not line.any()
    nothing = curves(*one_image([], [(0, 0.5)]))
    assert set(nothing.to_json()["F1"]) == {None}
    json.dumps(nothing.to_json(), allow_nan=False)
    assert found.best is nothing.best is None
