"""AP from COCO's matching, of images that count once, several times or not at all."""

import numpy as np
import pytest

from postnms.evaluation.average_precision import average_precisions
from postnms.evaluation.matching import match_results
from tests.support.coco import as_truth, hard_scene, pycocotools_metrics, scene
from tests.support.plain_loops import plain_average_precision


@pytest.mark.parametrize("seed", range(6))
def test_ap_from_the_matches_equals_pycocotools(seed):
    truth, results = scene(seed)
    once = np.ones((1, len(truth.images)), np.int64)
    (found,) = average_precisions(match_results(truth, results), once)
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
    (found,) = average_precisions(match_results(truth, results), copies[None])
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_every_resample_equals_plain_loops(seed):
    """Images without a copy hold some of the right detections, so that counts do not rise there."""
    matching = match_results(*hard_scene(seed))
    copies = np.random.default_rng(seed).poisson(0.7, (12, matching.num_images))
    found = average_precisions(matching, copies)
    expected = [plain_average_precision(matching, row) for row in copies]
    assert found == pytest.approx(expected, rel=0, abs=1e-12, nan_ok=True)
    assert np.isfinite(found).any()


def test_without_an_object_in_the_counted_images_there_is_no_ap():
    truth, results = scene(0)
    empty = np.zeros((2, len(truth.images)), np.int64)
    assert np.isnan(average_precisions(match_results(truth, results), empty)).all()
    nothing = as_truth({**truth.content, "annotations": []})
    assert np.isnan(average_precisions(match_results(nothing, results), empty + 1)).all()
    without_classes = as_truth({**nothing.content, "categories": []})
    assert np.isnan(average_precisions(match_results(without_classes, results), empty + 1)).all()
