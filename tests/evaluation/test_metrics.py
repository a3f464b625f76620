"""COCO's figures against pycocotools, and the gain of the stage over plain NMS."""

import copy

import pytest

from postnms.evaluation.metrics import FIGURES, coco_metrics, evaluate_rows
from tests.support.coco import as_truth, pycocotools_metrics, scene


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
    gain = metrics["gain"]
    assert gain["AP"] == metrics["post_nms"]["AP"] - metrics["nms"]["AP"]
    assert gain["low"] < gain["AP"] < gain["high"]
    assert evaluate_rows(truth, rows, bootstrap=200, seed=1).to_json() == metrics
    assert evaluate_rows(truth, rows, bootstrap=200, seed=2).to_json() != metrics


def test_rows_without_a_stage_and_without_an_interval():
    truth, results = scene(1)
    assert list(evaluate_rows(truth, {"nms": results}).to_json()) == ["nms"]
    both = {"nms": results, "post_nms": results}
    gain = evaluate_rows(truth, both, bootstrap=0).to_json()["gain"]
    assert gain == {"AP": 0.0, "low": None, "high": None}
