"""The score threshold with the best F1 by hand and in plain loops."""

import math

import pytest
from hypothesis import given, settings

from postnms.evaluation.matching import match_results
from postnms.evaluation.results import BestF1
from postnms.evaluation.thresholds import best_f1
from tests.support.plain_loops import NOWHERE, A, B, C, plain_matching, problem, problems


def best(objects, detections):
    return best_f1(match_results(*problem(objects, detections)))


THREE = [(2, A), (2, C), (3, B)]


def test_a_table_by_hand():
    """TP, FP, FN fall by: (1, 0, 2), (1, 1, 2), (2, 1, 1), (2, 2, 1), (2, 3, 1).

    So F1 is 2/4, 2/5, 4/6, 4/7, 4/8: the third is best. The classes count together.
    """
    detections = [(2, A, 0.9), (3, NOWHERE, 0.8), (2, C, 0.7), (2, NOWHERE, 0.4), (3, NOWHERE, 0.3)]
    found = best(THREE, detections)
    assert found == BestF1(*map(pytest.approx, (0.55, 2 / 3, 2 / 3, 2 / 3)))


def test_of_equal_ones_the_lowest_is_taken_and_without_a_lower_score_it_is_the_score():
    """With two objects F1 is 2/3, 2/4, 2/5 and again 4/6."""
    detections = [(2, A, 0.9), (2, NOWHERE, 0.8), (2, NOWHERE, 0.7), (2, C, 0.6)]
    found = best(THREE[:2], detections)
    assert found == BestF1(0.6, pytest.approx(2 / 3), 0.5, 1.0)


def test_equal_scores_are_taken_together():
    """The right one of the two alone would have F1 1."""
    found = best([(2, A)], [(2, A, 0.5), (2, NOWHERE, 0.5), (2, NOWHERE, 0.25)])
    assert found == BestF1(0.375, pytest.approx(2 / 3), 0.5, 1.0)


def test_crowds_and_classes_without_objects_do_not_count():
    """F1 is 1 for 0.9 and for all above 0.25: the lower threshold is taken."""
    crowd = [30, 30, 10, 10]
    detections = [(2, A, 0.9), (2, crowd, 0.8), (7, NOWHERE, 0.5), (2, NOWHERE, 0.25)]
    assert best([(2, A), (2, crowd, 1)], detections) == BestF1(0.375, 1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("right", "wrong", "threshold"),
    [
        (3.5, 1.5, 2.5),
        (-1.0, -3.0, -2.0),
        (1e-6, 0.0, 5e-7),
        (1e308, -1e308, 0.0),
        (0.5, math.nextafter(0.5, 0), 0.5),
        (5e-324, 0.0, 5e-324),
    ],
)
def test_scores_may_have_any_range(right, wrong, threshold):
    found = best([(2, A)], [(2, A, right), (2, NOWHERE, wrong)])
    assert found == BestF1(threshold, 1.0, 1.0, 1.0)
    assert wrong < found.score <= right


@pytest.mark.parametrize(
    ("objects", "detections"),
    [(THREE, []), ([], [(2, A, 0.9)]), ([], []), (THREE, [(2, NOWHERE, 0.9), (7, A, 0.8)])],
)
def test_without_a_right_detection_there_is_none(objects, detections):
    assert best(objects, detections) is None


@given(problems())
@settings(max_examples=150, deadline=None)
def test_equal_to_plain_loops(case):
    """Every score is tried as a threshold, and what it leaves is matched anew."""
    truth, results = case
    objects = [entry["category_id"] for entry in truth.annotations if not entry["iscrowd"]]

    def figures(threshold):
        left = [entry for entry in results if entry["score"] >= threshold]
        on = [d["object"] for d in plain_matching(truth, left) if d["category_id"] in objects]
        right = sum(entry is not None and not entry["iscrowd"] for entry in on)
        wrong = sum(entry is None for entry in on)
        return 2 * right / (right + wrong + len(objects)), right / max(right + wrong, 1), right

    found = best_f1(match_results(truth, results))
    scores = [entry["score"] for entry in results]
    highest = max([figures(score)[0] for score in scores], default=0) if objects else 0
    if not highest:
        assert found is None
        return
    f1, precision, right = figures(found.score)
    assert found.f1 == f1 == highest
    assert (found.precision, found.recall) == (precision, right / len(objects))
    assert all(figures(score)[0] < highest for score in scores if score < found.score)
