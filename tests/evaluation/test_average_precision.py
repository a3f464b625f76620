"""AP from COCO's matching, of images that count once, several times or not at all."""

import numpy as np
import pytest

from postnms.evaluation.average_precision import average_precision, matches_by_class
from tests.support.coco import as_truth, pycocotools_metrics, scene


@pytest.mark.parametrize("seed", range(6))
def test_ap_from_the_matches_equals_pycocotools(seed):
    truth, results = scene(seed)
    once = np.ones(len(truth.images), np.int64)
    found = average_precision(matches_by_class(truth, results), once)
    assert found == pytest.approx(pycocotools_metrics(truth, results)["AP"], abs=1e-9)


def test_copies_of_an_image_count_as_if_it_were_there_twice():
    truth, results = scene(3)
    copies = np.array([2, 0, 1, 1, 3, 1, 0, 1, 2, 1, 1, 1])
    ids = sorted(image["id"] for image in truth.images)
    larger = {"categories": truth.content["categories"], "images": [], "annotations": []}
    larger_results = []
    for image_id, count in zip(ids, copies, strict=True):
        for number in range(count):
            new = image_id * 100 + number
            larger["images"].append({"id": new, "height": 200, "width": 300})
            for entry in truth.annotations:
                if entry["image_id"] == image_id:
                    unique = len(larger["annotations"]) + 1
                    larger["annotations"].append({**entry, "image_id": new, "id": unique})
            larger_results += [{**r, "image_id": new} for r in results if r["image_id"] == image_id]
    expected = pycocotools_metrics(as_truth(larger), larger_results)["AP"]
    found = average_precision(matches_by_class(truth, results), copies)
    assert found == pytest.approx(expected, abs=1e-9)


def test_without_an_object_in_the_counted_images_there_is_no_ap():
    truth, results = scene(0)
    empty = np.zeros(len(truth.images), np.int64)
    assert np.isnan(average_precision(matches_by_class(truth, results), empty))
