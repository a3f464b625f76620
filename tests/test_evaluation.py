"""COCO metrics and the bootstrap against pycocotools."""

import contextlib
import copy
import io

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from postnms.evaluation.average_precision import average_precision, match_results
from postnms.evaluation.bootstrap import gain_interval, resampled_precisions
from postnms.evaluation.metrics import FIGURES, coco_metrics, evaluate_rows
from postnms.evaluation.results import to_results
from postnms.structures import Detections


def scene(seed, images=12, crowds=True):
    """Truth with gaps in ids, crowds and empty images; detections that are near it, doubled, or wrong."""
    random = np.random.default_rng(seed)
    truth = {
        "images": [
            {"id": 10 * i + 3, "height": 200, "width": 300, "file_name": f"{i}.png"}
            for i in range(images)
        ],
        "categories": [{"id": number, "name": f"c{number}"} for number in (1, 5, 9)],
        "annotations": [],
    }
    results = []
    for image in truth["images"][:-2]:
        for _ in range(random.integers(0, 9)):
            category = int(random.choice([1, 5]))
            box = [*random.uniform(0, 150, 2), *random.uniform(5, 120, 2)]
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": image["id"],
                    "category_id": category,
                    "bbox": box,
                    "area": box[2] * box[3] * random.uniform(0.5, 1),
                    "iscrowd": int(crowds and random.uniform() < 0.15),
                }
            )
            for _ in range(random.integers(0, 4)):
                moved = [float(v) for v in np.array(box) + random.normal(0, 4, 4)]
                moved[2:] = [max(side, 1.0) for side in moved[2:]]
                kind = category if random.uniform() < 0.9 else 9
                score = float(random.uniform())
                results.append(
                    {"image_id": image["id"], "category_id": kind, "bbox": moved, "score": score}
                )
    return truth, results


def pycocotools_metrics(truth, results):
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = copy.deepcopy(truth)
        reference.createIndex()
        evaluator = COCOeval(reference, reference.loadRes(copy.deepcopy(results)), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return dict(zip(FIGURES, 100 * evaluator.stats, strict=True))


@pytest.mark.parametrize("seed", range(6))
def test_the_twelve_figures_equal_pycocotools(seed):
    truth, results = scene(seed)
    found, expected = coco_metrics(truth, results), pycocotools_metrics(truth, results)
    for name in FIGURES:
        if expected[name] < 0:
            assert found[name] is None
        else:
            assert found[name] == pytest.approx(expected[name], abs=1e-9)


def test_metrics_leave_their_input_alone():
    truth, results = scene(0)
    before = copy.deepcopy((truth, results))
    coco_metrics(truth, results)
    assert (truth, results) == before


def test_no_detection_and_no_truth(capfd):
    truth, results = scene(0)
    assert coco_metrics(truth, [])["AP"] == 0
    nothing = {**truth, "annotations": []}
    assert set(coco_metrics(nothing, results).values()) == {None}
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("seed", range(6))
def test_ap_from_the_matches_equals_pycocotools(seed):
    truth, results = scene(seed)
    once = np.ones(len(truth["images"]), np.int64)
    found = average_precision(match_results(truth, results), once)
    assert found == pytest.approx(pycocotools_metrics(truth, results)["AP"], abs=1e-9)


def test_copies_of_an_image_count_as_if_it_were_there_twice():
    truth, results = scene(3)
    copies = np.array([2, 0, 1, 1, 3, 1, 0, 1, 2, 1, 1, 1])
    ids = sorted(image["id"] for image in truth["images"])
    larger = {"categories": truth["categories"], "images": [], "annotations": []}
    larger_results = []
    for image_id, count in zip(ids, copies, strict=True):
        for number in range(count):
            new = image_id * 100 + number
            larger["images"].append({"id": new, "height": 200, "width": 300})
            for entry in truth["annotations"]:
                if entry["image_id"] == image_id:
                    unique = len(larger["annotations"]) + 1
                    larger["annotations"].append({**entry, "image_id": new, "id": unique})
            larger_results += [{**r, "image_id": new} for r in results if r["image_id"] == image_id]
    expected = pycocotools_metrics(larger, larger_results)["AP"]
    assert average_precision(match_results(truth, results), copies) == pytest.approx(
        expected, abs=1e-9
    )


def test_the_gain_of_a_row_over_itself_is_nothing():
    truth, results = scene(1)
    drawn = [resampled_precisions(truth, results, 20, 0) for _ in range(2)]
    assert gain_interval(*drawn) == (0.0, 0.0)


def test_the_interval_holds_the_gain_and_is_reproducible():
    truth, results = scene(2, images=40)
    better = [
        {**r, "score": r["score"] * (0.2 if r["category_id"] == 9 else 1)}
        for r in results
        if r["category_id"] != 9
    ]
    metrics = evaluate_rows(truth, {"nms": results[::2], "post_nms": better}, bootstrap=200, seed=1)
    gain = metrics["gain"]
    assert gain["AP"] == metrics["post_nms"]["AP"] - metrics["nms"]["AP"]
    assert gain["low"] < gain["AP"] < gain["high"]
    assert (
        evaluate_rows(truth, {"nms": results[::2], "post_nms": better}, bootstrap=200, seed=1)
        == metrics
    )
    assert (
        evaluate_rows(truth, {"nms": results[::2], "post_nms": better}, bootstrap=200, seed=2)
        != metrics
    )


def test_rows_without_a_stage_and_without_an_interval():
    truth, results = scene(1)
    assert list(evaluate_rows(truth, {"nms": results})) == ["nms"]
    gain = evaluate_rows(truth, {"nms": results, "post_nms": results}, bootstrap=0)["gain"]
    assert gain == {"AP": 0.0, "low": None, "high": None}


def test_results_are_in_original_pixels_and_keep_their_order():
    scores = torch.tensor([0.12345678, 0.0, 0.5])
    scores[1] = torch.nextafter(scores[0], torch.tensor(1.0))
    detections = Detections(
        torch.tensor([[1.0, 2, 4, 8], [0, 0, 1, 1], [10, 10, 20, 30]]),
        scores,
        torch.tensor([1, 0, 1]),
        torch.tensor([0, 0, 1]),
        torch.arange(3),
        2,
    )
    found = to_results(detections, [7, 9], [(2.0, 3.0), (0.5, 0.5)], [11, 22])
    assert [r["bbox"] for r in found] == [[2, 6, 6, 18], [0, 0, 2, 3], [5, 5, 5, 10]]
    assert [(r["image_id"], r["category_id"]) for r in found] == [(7, 22), (7, 11), (9, 22)]
    assert torch.equal(torch.tensor([r["score"] for r in found], dtype=torch.float32), scores)
