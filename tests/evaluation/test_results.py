"""Detections as COCO results, and the content of ``metrics.json``."""

import torch

from postnms.evaluation.results import BestF1, ClassFigures, Evaluation, Gain, to_results
from postnms.structures import Detections


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
    to_original = torch.tensor([(2.0, 3.0), (0.5, 0.5)])
    found = to_results(detections, [7, 9], to_original, [11, 22])
    assert [r["bbox"] for r in found] == [[2, 6, 6, 18], [0, 0, 2, 3], [5, 5, 5, 10]]
    assert [(r["image_id"], r["category_id"]) for r in found] == [(7, 22), (7, 11), (9, 22)]
    assert torch.equal(torch.tensor([r["score"] for r in found], dtype=torch.float32), scores)


def test_an_evaluation_comes_back_from_its_json():
    bare = Evaluation({"nms": {"AP": 30.0, "APS": None}})
    assert bare.to_json() == {"nms": {"AP": 30.0, "APS": None}}
    both = Evaluation(
        {"nms": {"AP": 30.0}, "post_nms": {"AP": 31.0}},
        {"post_nms": Gain(1.0, low=0.5, high=None)},
    )
    assert both.to_json()["gains"] == {"post_nms": {"AP": 1.0, "low": 0.5, "high": None}}
    figures = (ClassFigures("a", 30.0, 50.0), ClassFigures("b", None, None))
    with_classes = Evaluation({"nms": {"AP": 30.0}}, {}, {"nms": figures})
    assert with_classes.to_json()["classes"] == {
        "nms": [
            {"name": "a", "AP": 30.0, "AP50": 50.0},
            {"name": "b", "AP": None, "AP50": None},
        ]
    }
    thresholds = {"nms": BestF1(0.4, 0.75, 0.6, 1.0), "post_nms": None}
    with_thresholds = Evaluation({"nms": {"AP": 30.0}, "post_nms": {"AP": 0.0}}, best_f1=thresholds)
    assert with_thresholds.to_json()["best_f1"] == {
        "nms": {"score": 0.4, "f1": 0.75, "precision": 0.6, "recall": 1.0},
        "post_nms": None,
    }
    for evaluation in (bare, both, with_classes, with_thresholds):
        assert Evaluation.from_json(evaluation.to_json()) == evaluation
