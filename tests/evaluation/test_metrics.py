"""COCO's figures against other evaluators, and the gain of the stage over plain NMS."""

import copy
import math
import re
from collections import Counter

import pytest

from postnms.errors import shown
from postnms.evaluation.matching import match_results
from postnms.evaluation.metrics import FIGURES, coco_metrics, evaluate_rows, measure
from postnms.evaluation.thresholds import best_f1
from postnms.evaluation.tide import error_types
from postnms.ops import threads
from postnms.speed.timing import torch_threads
from tests.support.coco import (
    as_truth,
    faster_coco_eval_metrics,
    hard_scene,
    pycocotools_metrics,
    pycocotools_precision,
    scene,
)


@pytest.mark.parametrize("seed", range(6))
def test_the_twelve_figures_equal_pycocotools(seed):
    truth, results = scene(seed)
    expect_figures(coco_metrics(truth, results), pycocotools_metrics(truth, results))


@pytest.mark.parametrize("seed", range(40))
def test_ties_crowds_edges_of_areas_and_limits_are_as_in_pycocotools_and_faster_coco_eval(seed):
    truth, results = hard_scene(seed)
    found = coco_metrics(truth, results)
    expect_figures(found, pycocotools_metrics(truth, results))
    expect_figures(found, faster_coco_eval_metrics(truth, results))


def test_images_with_very_many_objects_and_detections_are_as_in_pycocotools():
    truth, results = scene(7, images=60)
    content = truth.content | {
        "images": truth.images[:1],
        "annotations": [entry | {"image_id": 3} for entry in truth.annotations],
    }
    crowded = as_truth(content)
    found = [entry | {"image_id": 3} for entry in results]
    assert max(Counter(entry["category_id"] for entry in found).values()) > 150
    expect_figures(coco_metrics(crowded, found), pycocotools_metrics(crowded, found))


def expect_figures(found, expected):
    for name in FIGURES:
        if expected[name] < 0:
            assert found[name] is None
        else:
            assert found[name] == pytest.approx(expected[name], rel=0, abs=1e-12), name


@pytest.mark.parametrize("make", [scene, hard_scene])
@pytest.mark.parametrize("seed", range(6))
def test_the_figures_of_each_class_equal_pycocotools(seed, make):
    """A truth with other categories in the list of its file, so that the order counts."""
    truth, results = make(seed)
    categories = truth.content["categories"]
    order = [2, 0, 1, *range(3, len(categories))]
    shuffled = as_truth({**truth.content, "categories": [categories[i] for i in order]})
    found = measure(shuffled, match_results(shuffled, results)).classes
    precision = pycocotools_precision(truth, results)
    # pycocotools sorts classes by their ids.
    ids = sorted(category["id"] for category in categories)
    undefined = set()
    for figures, i in zip(found, order, strict=True):
        assert figures.name == categories[i]["name"]
        k = ids.index(categories[i]["id"])
        expected = precision[:, :, k], precision[0, :, k]
        for figure, values in zip((figures.AP, figures.AP50), expected, strict=True):
            if (values < 0).all():
                assert figure is None
                undefined.add(categories[i]["id"])
            else:
                assert figure == pytest.approx(100 * values.mean(), rel=0, abs=1e-12)
    # Of the others there are only results, only crowd regions, or nothing.
    assert undefined == ({9} if make is scene else {4, 6, 8})


def test_figures_do_not_depend_on_threads(monkeypatch):
    truth, results = hard_scene(4)
    with torch_threads(1):
        expected = coco_metrics(truth, results), error_types(truth, results)
    monkeypatch.setattr(threads, "LEAST_WORK", 0)
    with torch_threads(3):
        assert (coco_metrics(truth, results), error_types(truth, results)) == expected


ODD_IDS = {
    "from zero": lambda i: i,
    "negative": lambda i: i - 1000,
    "huge": lambda i: 2**62 + i,
    "neighbours that a double cannot tell apart": lambda i: 2**53 + i,
    "with gaps": lambda i: 7 * i * i + 1,
    "beyond 64 bits": lambda i: 2**200 + i,
}
ODD_IMAGE_IDS = ODD_IDS | {
    "strings of digits": lambda i: str(i),
    "padded strings": lambda i: f"{i:012d}",
    "paths": lambda i: f"a/{i} \u00e9.jpg",
    "numbers and strings that look alike": lambda i: str(i // 2) if i % 2 else i // 2,
}


def renumbered(truth, results, number, of_image=None):
    """Return truth and results with other ids of images, categories and annotations, in order."""
    of_image = of_image or number
    images = {entry["id"]: of_image(i) for i, entry in enumerate(truth.content["images"])}
    categories = {entry["id"]: number(i) for i, entry in enumerate(truth.content["categories"])}

    def moved(entry):
        image, category = images[entry["image_id"]], categories[entry["category_id"]]
        return {**entry, "image_id": image, "category_id": category}

    content = {
        "images": [{**e, "id": images[e["id"]]} for e in truth.content["images"]],
        "categories": [{**e, "id": categories[e["id"]]} for e in truth.content["categories"]],
        "annotations": [
            {**moved(e), "id": number(i)} for i, e in enumerate(truth.content["annotations"])
        ],
    }
    return as_truth(content), [moved(entry) for entry in results]


@pytest.mark.parametrize("ids", ODD_IMAGE_IDS)
def test_figures_intervals_and_errors_do_not_depend_on_ids(ids):
    truth, results = renumbered(*scene(3), lambda i: i + 1)
    rows = {"nms": results[::2], "post_nms": results}
    expected = pycocotools_metrics(truth, results)
    of_others = ODD_IDS.get(ids, ODD_IDS["negative"])
    odd, odd_results = renumbered(truth, results, of_others, ODD_IMAGE_IDS[ids])
    odd_rows = {"nms": odd_results[::2], "post_nms": odd_results}
    found = evaluate_rows(odd, odd_rows, bootstrap=20)
    assert found == evaluate_rows(truth, rows, bootstrap=20)
    for name in FIGURES:
        figure = found.rows["post_nms"][name]
        assert figure == pytest.approx(expected[name]) if figure is not None else expected[name] < 0
    assert error_types(odd, odd_results) == error_types(truth, results)


def test_two_perfect_boxes_have_full_precision_whatever_their_ids():
    """Some exports number annotations from 0, which an evaluator may take for "no match"."""
    boxes = [[10.0, 10.0, 40.0, 40.0], [100.0, 10.0, 40.0, 40.0]]
    content = {
        "images": [{"id": 0, "height": 200, "width": 200}],
        "categories": [{"id": 0, "name": "thing"}],
        "annotations": [
            {"id": i, "image_id": 0, "category_id": 0, "bbox": box, "area": 1600.0, "iscrowd": 0}
            for i, box in enumerate(boxes)
        ],
    }
    results = [{"image_id": 0, "category_id": 0, "bbox": box, "score": 0.9} for box in boxes]
    assert coco_metrics(as_truth(content), results)["AP"] == pytest.approx(100)


@pytest.mark.parametrize("image_id", [8888, "3", "x" * 10**6, None])
def test_results_of_an_unknown_image_are_named(image_id):
    truth, results = scene(0)
    message = f"results: expected image ids of the truth, got {re.escape(shown(image_id))}$"
    with pytest.raises(ValueError, match=message):
        coco_metrics(truth, [{**results[0], "image_id": image_id}])


@pytest.mark.parametrize("field", ["image_id", "category_id", "bbox", "score"])
def test_a_result_without_a_field_is_named(field):
    truth, results = scene(0)
    lacking = {key: value for key, value in results[1].items() if key != field}
    message = "results: entry 1: expected bbox, category_id, image_id, score, got "
    with pytest.raises(ValueError, match=re.escape(message + shown(lacking))):
        coco_metrics(truth, [results[0], lacking])
    with pytest.raises(ValueError, match=re.escape(message + "7")):
        coco_metrics(truth, [results[0], 7])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": math.nan}, "results: expected finite scores, got nan"),
        ({"score": math.inf}, "results: expected finite scores, got inf"),
        ({"bbox": [0, 0, math.inf, 1]}, r"results: expected boxes of finite .*got \[.*inf"),
        ({"bbox": [math.nan, 0, 1, 1]}, r"results: expected boxes of finite .*got \[nan"),
        ({"bbox": [5, 5, -3, 4]}, r"sides >= 0, got \[5\.0, 5\.0, -3\.0, 4\.0\]"),
    ],
)
def test_results_that_no_evaluator_can_rank_are_named(change, message):
    truth, results = scene(0)
    wrong = [*results, {**results[0], **change}]
    for figures_of in (coco_metrics, error_types):
        with pytest.raises(ValueError, match=message):
            figures_of(truth, wrong)


def test_fields_of_other_tasks_change_no_figure():
    """The evaluator acts on some of them: ``drop`` leaves a detection out."""
    truth, results = scene(3)
    others = {"drop": True, "ignore": 1, "lvis_mark": True, "rle": 3, "segmentation": [[1, 2, 3]]}
    content = truth.content | {
        "annotations": [{**entry, **others} for entry in truth.annotations],
        "categories": [{**entry, "name": "same"} for entry in truth.content["categories"]],
    }
    found = coco_metrics(as_truth(content), [{**entry, **others} for entry in results])
    assert found == coco_metrics(truth, results)


def test_metrics_leave_their_input_alone():
    truth, results = scene(0)
    before = copy.deepcopy((truth, results))
    coco_metrics(truth, results)
    assert (truth, results) == before


def test_no_detection_and_no_truth(capfd):
    truth, results = scene(0)
    assert coco_metrics(truth, [])["AP"] == 0
    nothing = as_truth({**truth.content, "annotations": []})
    assert set(coco_metrics(nothing, results).values()) == {None}
    assert capfd.readouterr().out == ""


def test_the_interval_holds_the_gain_and_is_reproducible():
    truth, results = scene(2, images=40)
    better = [
        {**r, "score": r["score"] * (0.2 if r["category_id"] == 9 else 1)}
        for r in results
        if r["category_id"] != 9
    ]
    rows = {"nms": results[::2], "post_nms": better}
    metrics = evaluate_rows(truth, rows, bootstrap=200, seed=1).to_json()
    gain = metrics["gains"]["post_nms"]
    assert gain["AP"] == metrics["post_nms"]["AP"] - metrics["nms"]["AP"]
    assert gain["low"] < gain["AP"] < gain["high"]
    assert evaluate_rows(truth, rows, bootstrap=200, seed=1).to_json() == metrics
    assert evaluate_rows(truth, rows, bootstrap=200, seed=2).to_json() != metrics


def test_rows_without_a_stage_and_without_an_interval():
    truth, results = scene(1)
    assert list(evaluate_rows(truth, {"nms": results}).to_json()) == ["nms", "classes", "best_f1"]
    both = {"nms": results, "post_nms": results}
    gains = evaluate_rows(truth, both, bootstrap=0).to_json()["gains"]
    assert gains == {"post_nms": {"AP": 0.0, "low": None, "high": None}}


def test_every_row_has_its_threshold_and_one_without_a_right_detection_none():
    truth, results = scene(1)
    rows = {
        "nms": results,
        "post_nms": [{**entry, "score": entry["score"] / 2} for entry in results],
    }
    rows["post_nms_second_nms"] = []
    found = evaluate_rows(truth, rows, bootstrap=0).best_f1
    assert list(found) == list(rows)
    assert found["nms"] == best_f1(match_results(truth, results))
    assert found["post_nms"].score == pytest.approx(found["nms"].score / 2)
    assert found["post_nms"].f1 == found["nms"].f1
    assert found["post_nms_second_nms"] is None
