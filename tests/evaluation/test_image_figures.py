"""The figures of each image alone are those of an evaluation of that image alone."""

import numpy as np
import pytest

from postnms.data.dataset import Category, Truth
from postnms.evaluation.image_figures import image_figures
from postnms.evaluation.matching import match_results
from postnms.evaluation.metrics import coco_metrics
from tests.support.builders import random_candidates
from tests.support.studies import as_coco, write_truth


def entry(image, box, label=1, **more):
    return {"image_id": image, "category_id": label, "bbox": box, **more}


def truth_of(annotations, images, classes=2):
    full = [{"iscrowd": 0, "area": 100, "id": i, **a} for i, a in enumerate(annotations)]
    categories = [{"id": 1 + i, "name": str(i)} for i in range(classes)]
    content = {
        "images": [{"id": image} for image in images],
        "categories": categories,
        "annotations": full,
    }
    return Truth(tuple(Category(c["id"], c["name"]) for c in categories), content, "example")


def test_with_one_class_they_are_those_of_coco_on_each_image(tmp_path):
    truth = write_truth(tmp_path / "t.json", 4, classes=1)
    results = as_coco(random_candidates(200, 4, classes=1, extra=False))
    figures = image_figures(match_results(truth, results))
    for place, image in enumerate((10, 11, 12, 13)):
        alone = truth.part(lambda e, image=image: e["id"] == image)
        mine = [result for result in results if result["image_id"] == image]
        assert figures.ap[place] == pytest.approx(coco_metrics(alone, mine)["AP"])
    assert figures.objects.tolist() == [3, 3, 3, 3]
    assert figures.ap.max() > 0


def test_a_wrong_box_of_any_class_counts():
    """By hand: one object; a box of another class before the right one halves the precision."""
    truth = truth_of([entry(1, [0, 0, 10, 10])], [1, 2])
    right, other = entry(1, [0, 0, 10, 10], score=0.5), entry(1, [0, 0, 10, 10], 2, score=0.9)
    assert image_figures(match_results(truth, [right])).ap[0] == pytest.approx(100)
    assert image_figures(match_results(truth, [right, other])).ap[0] == pytest.approx(50)


def test_images_without_objects_have_no_ap_and_crowds_are_no_objects():
    crowd = entry(2, [0, 0, 50, 50], iscrowd=1)
    truth = truth_of([entry(1, [0, 0, 10, 10]), crowd], [1, 2, 3])
    boxes = [entry(image, [0, 0, 10, 10], score=0.5) for image in (1, 2, 3)]
    figures = image_figures(match_results(truth, boxes))
    assert figures.ap[0] == pytest.approx(100)
    assert np.isnan(figures.ap[1:]).all()
    assert figures.objects.tolist() == [1, 0, 0]
    assert figures.found.tolist() == [[1, 0, 0], [1, 0, 0]]


def test_found_objects_are_counted_at_both_levels():
    truth = truth_of([entry(1, [0, 0, 10, 10]), entry(1, [50, 0, 10, 10])], [1])
    boxes = [entry(1, [0, 0, 10, 10], score=0.5), entry(1, [50, 0, 10, 6], score=0.4)]
    assert image_figures(match_results(truth, boxes)).found.tolist() == [[2], [1]]


def test_no_images_and_no_results():
    assert image_figures(match_results(truth_of([], []), [])).ap.shape == (0,)
    figures = image_figures(match_results(truth_of([entry(1, [0, 0, 9, 9])], [1]), []))
    assert figures.ap.tolist() == [0]
