"""The expected calibration error by hand and in plain loops."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postnms.evaluation.calibration import BINS, measure_calibration
from postnms.evaluation.matching import match_results
from tests.support.plain_loops import NOWHERE, A, B, C, plain_matching, problem, problems


def measured(truth, results):
    return measure_calibration(match_results(truth, results))


OBJECTS = [(2, A), (2, C), (3, B), (2, [40, 0, 10, 10], 1)]
"""Three objects of two classes, and a crowd region."""


def test_a_table_by_hand():
    """Bin 0.9: one of two right, mean 0.935. Bin 0.3: two of two, mean 0.325. Bin 0: 0.08, wrong.

    A score under 0.05, one on the crowd region and one of a class without objects do not count.
    """
    found = measured(
        *problem(
            OBJECTS,
            [
                *[(2, A, 0.95), (2, NOWHERE, 0.92)],
                *[(2, C, 0.35), (3, B, 0.3)],
                (3, NOWHERE, 0.08),
                *[(3, NOWHERE, 0.04), (2, [40, 0, 10, 10], 0.6), (7, NOWHERE, 0.5)],
            ],
        )
    )
    assert found.counts == (1, 0, 0, 2, 0, 0, 0, 0, 0, 2)
    rest = [None] * 8
    scores, precisions = list(found.scores), list(found.precisions)
    for line, values in ((scores, [0.08, 0.325, 0.935]), (precisions, [0.0, 1.0, 0.5])):
        assert [value for value in line if value is not None] == pytest.approx(values)
        assert [line[0], *line[3:4], *line[9:]] == pytest.approx(values)
        assert line[1:3] + line[4:9] == rest[1:]
    assert found.error == pytest.approx((2 * 0.435 + 2 * 0.675 + 0.08) / 5)


def test_bounds_belong_to_the_bin_above_and_one_to_the_last():
    """The score 0.05 counts. Float32 sums may be a little over 1."""
    scores = [0.05, 0.1, 0.7, 0.6999, 0.9, 1.0, 1.0000005]
    found = measured(*problem(OBJECTS, [(2, NOWHERE, score) for score in scores]))
    assert found.counts == (1, 1, 0, 0, 0, 0, 1, 1, 0, 3)
    assert found.error == pytest.approx(sum(scores) / 7)


def test_scores_that_are_what_they_say_have_no_error():
    found = measured(*problem(OBJECTS, [(2, A, 0.5), (2, NOWHERE, 0.5), (2, C, 1.0)]))
    assert found.error == 0
    assert found.precisions[5] == 0.5


@pytest.mark.parametrize(
    ("objects", "detections"),
    [
        pytest.param(OBJECTS, [], id="no detections"),
        pytest.param([], [(2, A, 0.9)], id="no truths"),
        pytest.param(OBJECTS, [(2, A, 0.01)], id="low scores alone"),
        pytest.param(OBJECTS, [(2, A, 0.9), (2, C, 1.2)], id="over 1"),
        pytest.param(OBJECTS, [(2, A, 0.9), (2, C, -0.2)], id="below 0"),
        pytest.param(OBJECTS, [(2, A, 0.9), (7, C, 7.0)], id="over 1, of another class"),
    ],
)
def test_without_detections_that_count_or_without_probabilities_there_is_no_error(
    objects, detections
):
    found = measured(*problem(objects, detections))
    assert found.error is None
    assert found.counts == (0,) * BINS
    assert found.scores == found.precisions == (None,) * BINS


@given(problems(), st.sampled_from([1.0, 0.4, 0.15]))
@settings(max_examples=150, deadline=None)
def test_equal_to_plain_loops(case, factor):
    truth, results = case
    results = [{**entry, "score": factor * entry["score"]} for entry in results]
    known = {entry["category_id"] for entry in truth.annotations if not entry["iscrowd"]}
    bins = [[] for _ in range(10)]
    for detection in plain_matching(truth, results):
        on, score = detection["object"], detection["score"]
        if detection["category_id"] not in known or score < 0.05 or (on and on["iscrowd"]):
            continue
        bins[max(number for number in range(10) if score >= number / 10)].append((score, on))
    count = sum(map(len, bins))
    error = 0.0
    for members in filter(None, bins):
        mean = sum(score for score, _ in members) / len(members)
        precision = sum(on is not None for _, on in members) / len(members)
        error += abs(mean - precision) * len(members) / count
    found = measured(truth, results)
    assert found.counts == tuple(map(len, bins))
    assert found.error == (pytest.approx(error) if count else None)
