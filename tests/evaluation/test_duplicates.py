"""The share of duplicates, and their number in an image, by hand and against plain loops."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postnms.evaluation.duplicates import DuplicateCounts, count_duplicates, rank_duplicates
from postnms.evaluation.matching import match_results
from postnms.evaluation.tide import error_types, find_errors
from tests.support.plain_loops import NOWHERE, A, B, C, plain_errors, problem, problems


def ranked(truth, results):
    matching = match_results(truth, results)
    return rank_duplicates(matching, find_errors(matching))


# Right, duplicate, right, wrong, right; two classes in one order of score.
MIXED = problem(
    [(2, A), (2, C), (3, B), (3, [0, 50, 10, 10])],
    [(2, C, 0.7), (2, A, 0.9), (2, A, 0.8), (3, B, 0.5), (3, NOWHERE, 0.6)],
)


@pytest.mark.parametrize(
    ("recall", "expected"),
    [(0.1, 0), (0.25, 0), (0.26, 100 / 3), (0.5, 100 / 3), (0.75, 20), (0.76, None), (1, None)],
)
def test_duplicates_among_the_fewest_that_have_the_recall(recall, expected):
    found = ranked(*MIXED)
    assert found.rate(recall) == (None if expected is None else pytest.approx(expected))
    assert found.max_recall == 0.75


def test_detections_on_crowd_regions_are_left_out():
    # In order: crowd, crowd, right, duplicate, right.
    case = problem(
        [(2, A), (2, C), (2, B, 1)],
        [(2, B, 0.95), (2, B, 0.9), (2, A, 0.8), (2, A, 0.7), (2, C, 0.6)],
    )
    found = ranked(*case)
    assert found.rate(0.5) == 0
    assert found.rate(1.0) == pytest.approx(100 / 3)
    assert found.max_recall == 1


def test_nothing_to_find_and_nothing_found():
    for case in (
        problem([], []),
        problem([], [(2, A, 0.9)]),
        problem([(2, A)], []),
        problem([], [], images=0),
    ):
        assert ranked(*case).max_recall == 0
        assert ranked(*case).rate(0.1) is None


@pytest.mark.parametrize("recall", [0.0, -0.5, 1.5, float("nan")])
def test_recall_is_a_share(recall):
    with pytest.raises(ValueError, match="recall: expected a value over 0, up to 1"):
        ranked(*MIXED).rate(recall)


@given(problems(), st.sampled_from([0.1, 1 / 3, 0.5, 0.6, 2 / 3, 1.0]))
@settings(max_examples=200, deadline=None)
def test_equal_to_plain_loops(case, recall):
    truth, results = case
    objects = sum(not entry["iscrowd"] for entry in truth.annotations)
    counted = [
        d for d in plain_errors(truth, results) if d["object"] is None or not d["object"]["iscrowd"]
    ]
    hits = [
        sum(d["object"] is not None for d in counted[:count]) for count in range(len(counted) + 1)
    ]
    expected = None
    for count, hit in enumerate(hits):
        if objects and hit / objects >= recall:
            expected = pytest.approx(
                100 * sum(d["kind"] == "duplicate" for d in counted[:count]) / count
            )
            break
    found = ranked(truth, results)
    assert found.rate(recall) == expected
    assert found.max_recall == (hits[-1] / objects if objects else 0)


@given(problems())
@settings(max_examples=100, deadline=None)
def test_the_greatest_recall_is_reached(case):
    found = ranked(*case)
    if found.max_recall:
        rate = found.rate(found.max_recall)
        assert rate is not None
        assert (rate == 0) or error_types(*case).counts["duplicate"] > 0


@pytest.mark.parametrize(
    ("least", "shown", "detections"),
    [(0.75, 2, 4), (0.8, 2, 4), (0.81, 0, 1), (0.5, 3, 7), (2.0, 0, 0), (None, None, None)],
)
def test_duplicates_in_an_image_over_a_threshold(least, shown, detections):
    """Three duplicates in two images: at 0.8 of A in each, and at 0.5 of A once more."""
    found = [(2, A, 0.9), (2, A, 0.8), (2, A, 0.5), (3, NOWHERE, 0.6)]
    other = [(2, A, 0.8, 1), (2, A, 0.8, 1), (3, B, 0.5, 1)]
    truth, results = problem([(2, A), (2, A, 0, 1), (3, B, 0, 1)], [*found, *other], images=2)
    matching = match_results(truth, results)
    counts = count_duplicates(matching, find_errors(matching), least)
    half = [None if number is None else number / 2 for number in (shown, detections)]
    assert counts == DuplicateCounts(1.5, *half)


def test_without_images_no_image_has_duplicates():
    matching = match_results(*problem([], [], images=0))
    assert count_duplicates(matching, find_errors(matching), 0.5) == DuplicateCounts(*[None] * 3)
