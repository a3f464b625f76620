"""Error types by hand, against plain loops, and their AP50 against pycocotools."""

import pytest
from hypothesis import given, settings

from postnms.evaluation.tide import ERROR_TYPES, error_types
from tests.support.coco import pycocotools_metrics, scene
from tests.support.plain_loops import NOWHERE, STRIP, A, B, C, plain_error_types, problem, problems


def expect(truth, results, ap50, counts, costs, false_positives, false_negatives):
    found = error_types(truth, results)
    assert tuple(found.counts) == tuple(found.costs) == ERROR_TYPES
    assert {name: count for name, count in found.counts.items() if count} == counts
    assert found.ap50 == pytest.approx(ap50)
    assert found.costs == pytest.approx({name: costs.get(name, 0.0) for name in ERROR_TYPES})
    assert (found.false_positives, found.false_negatives) == pytest.approx(
        (false_positives, false_negatives)
    )


# 51 of the 101 recalls are at most 1/2.
HALF = 100 * 51 / 101
# objects, detections, AP50, counts, costs, false positives, false negatives
TABLES = {
    # Class 2 has no detection left after the false negatives, so only class 3 is asked for, at
    # precision 1/2.
    "classification": (
        [(2, A), (3, B)], [(3, A, 0.9), (3, B, 0.8)],
        25, {"classification": 1}, {"classification": 75}, 25, 25),
    "localisation": (
        [(2, A)], [(2, STRIP, 0.9)], 0, {"localisation": 1}, {"localisation": 100}, 0, 0),
    "both": (
        [(2, A), (3, B)], [(3, STRIP, 0.9), (3, B, 0.8)],
        25, {"both": 1, "missed": 1}, {"both": 25, "missed": 25}, 25, 25),
    # Precision 2/3 for the second half of the recalls.
    "duplicate": (
        [(2, A), (2, C)], [(2, A, 0.9), (2, A, 0.8), (2, C, 0.7)],
        HALF + 2 / 3 * (100 - HALF),
        {"duplicate": 1}, {"duplicate": (100 - HALF) / 3}, (100 - HALF) / 3, 0),
    "background": (
        [(2, A)], [(2, NOWHERE, 0.9), (2, A, 0.8)],
        50, {"background": 1}, {"background": 50}, 50, 0),
    "missed": (
        [(2, A), (2, C)], [(2, A, 0.9)],
        HALF, {"missed": 1}, {"missed": 100 - HALF}, 0, 100 - HALF),
    "nothing wrong": ([(2, A)], [(2, A, 0.9)], 100, {}, {}, 0, 0),
    "on a crowd region": (
        [(2, A), (2, B, 1)], [(2, B, 0.9), (2, B, 0.8), (2, A, 0.7)], 100, {}, {}, 0, 0),
    # IoU 0.8 with the object; all of the detections is in the region, which only the second takes.
    "an object comes before a crowd region": (
        [(2, [0, 0, 20, 20], 1), (2, [0, 0, 10, 8])], [(2, A, 0.9), (2, A, 0.8)],
        100, {}, {}, 0, 0),
    "a crowd region is no object to be near to": (
        [(2, A), (3, B, 1)], [(2, B, 0.9), (2, A, 0.8)],
        50, {"background": 1}, {"background": 50}, 50, 0),
    "the better of two localisations becomes right": (
        [(2, A), (2, C)], [(2, STRIP, 0.8), (2, [0, 0, 4, 10], 0.9)],
        0, {"localisation": 2, "missed": 1}, {"localisation": HALF}, 0, 0),
    "a localisation of an object that is taken is removed": (
        [(2, A), (2, C)], [(2, A, 0.9), (2, STRIP, 0.8)],
        HALF, {"localisation": 1, "missed": 1}, {"missed": 100 - HALF}, 0, 100 - HALF),
    # Either alone makes A right: fixing one type leaves the other as it is. Class 3 has no objects,
    # so no AP.
    "two types for one object": (
        [(2, A)], [(3, A, 0.9), (2, STRIP, 0.8)],
        0, {"classification": 1, "localisation": 1},
        {"classification": 100, "localisation": 100}, 0, 0),
    "localisation comes before classification": (
        [(2, STRIP), (3, A)], [(2, A, 0.9), (3, A, 0.8)],
        50, {"localisation": 1}, {"localisation": 50}, 0, 0),
    "classification comes before duplicate": (
        [(2, A), (3, A)], [(2, A, 0.9), (2, A, 0.8)],
        50, {"classification": 1}, {"classification": 50}, 0, 50),
    "IoU of 1/10 with the class": ([(2, A)], [(2, [0, 0, 10, 1], 0.9)],
        0, {"localisation": 1}, {"localisation": 100}, 0, 0),
    "IoU of 1/10 with another class": ([(2, A)], [(3, [0, 0, 10, 1], 0.9)],
        0, {"both": 1, "missed": 1}, {"missed": 100}, 0, 100),
    "IoU under 1/10": ([(2, A)], [(3, [0, 0, 9, 1], 0.9)],
        0, {"background": 1, "missed": 1}, {"missed": 100}, 0, 100),
    "IoU of 1/2 with another class": ([(2, A)], [(3, [0, 0, 10, 5], 0.9)],
        0, {"classification": 1}, {"classification": 100}, 0, 100),
    "IoU of 1/2 with the class": ([(2, A)], [(2, A, 0.9), (2, [0, 0, 10, 5], 0.8)],
        100, {"duplicate": 1}, {}, 0, 0),
    "another image is nowhere": ([(2, A, 0, 1)], [(2, A, 0.9, 0), (2, A, 0.8, 1)],
        50, {"background": 1}, {"background": 50}, 50, 0),
    # A class that loses all its objects keeps its precision of 0.
    "missed beside background": ([(2, A), (3, B)], [(2, NOWHERE, 0.9), (3, B, 0.8)],
        50, {"background": 1, "missed": 1}, {}, 0, 0),
    "without a detection": ([(2, A), (3, B)], [], 0, {"missed": 2}, {"missed": 100}, 0, 100),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_hand_worked_tables(name):
    objects, detections, *expected = TABLES[name]
    expect(*problem(objects, detections, images=2), *expected)


def test_one_of_each():
    objects = [(2, A), (2, C), (2, [0, 50, 10, 10]), (3, B), (3, [50, 0, 10, 10])]
    detections = [
        (2, A, 0.95),
        (2, A, 0.9),  # duplicate
        (2, B, 0.8),  # classification
        (2, [20, 0, 10, 3], 0.7),  # localisation
        (3, [0, 50, 10, 3], 0.6),  # both
        (3, NOWHERE, 0.5),  # background
    ]
    found = error_types(*problem(objects, detections))
    # Missed: the object at (0, 50) and the one at (50, 0).
    assert found.counts == dict(zip(ERROR_TYPES, (1, 1, 1, 1, 1, 2), strict=True))
    third = 34 / 101  # recalls up to 1/3
    assert found.ap50 == pytest.approx(100 * third / 2)
    # Class 2 stays; class 3 gets a first right detection of two objects.
    assert found.costs["classification"] == pytest.approx(HALF / 2)
    # Precision 1, 1/2, 1/3, 1/2: the last counts for the recalls up to 2/3.
    assert found.costs["localisation"] == pytest.approx(100 * 33 / 101 / 2 / 2)
    # Two objects are left of class 2, one of class 3.
    assert found.costs["missed"] == pytest.approx((HALF - 100 * third) / 2)
    assert [found.costs[name] for name in ("both", "duplicate", "background")] == pytest.approx(
        [0, 0, 0]
    )


def test_a_hundred_detections_of_an_image_and_class_count():
    many = [(2, NOWHERE, 0.9)] * 100
    found = error_types(*problem([(2, A), (3, B)], [*many, (2, A, 0.5), (3, B, 0.4)]))
    assert (found.ap50, found.counts["background"], found.counts["missed"]) == (
        pytest.approx(50),
        100,
        1,
    )


@pytest.mark.parametrize("images", [0, 1])
def test_without_objects_there_is_no_ap(images):
    truth, results = problem([], [(2, A, 0.9)] * images, images)
    found = error_types(truth, results)
    assert (found.ap50, found.false_positives, found.false_negatives) == (None, 0, 0)
    assert found.costs == dict.fromkeys(ERROR_TYPES, 0.0)
    assert found.counts == {**dict.fromkeys(ERROR_TYPES, 0), "background": images}
    assert error_types(truth, []).ap50 is None


def test_only_crowd_regions_are_no_objects():
    found = error_types(*problem([(2, A, 1)], [(2, A, 0.9), (2, NOWHERE, 0.8)]))
    assert found.ap50 is None
    assert {name: count for name, count in found.counts.items() if count} == {"background": 1}


def test_results_that_the_truth_does_not_know():
    truth, results = problem([(2, A)], [(2, A, 0.8)])
    assert error_types(
        truth, [{**results[0], "category_id": 99, "score": 0.9}, *results]
    ).ap50 == pytest.approx(100)
    with pytest.raises(ValueError, match="results: expected image ids of the truth, got 77"):
        error_types(truth, [{**results[0], "image_id": 77}])


@given(problems())
@settings(max_examples=300, deadline=None)
def test_equal_to_plain_loops(case):
    found, expected = error_types(*case), plain_error_types(*case)
    if expected is None:
        assert found.ap50 is None
        return
    ap50, costs, counts, false_positives, false_negatives = expected
    assert found.counts == counts
    assert found.ap50 == pytest.approx(ap50, abs=1e-9)
    assert found.costs == pytest.approx(costs, abs=1e-9)
    assert found.false_positives == pytest.approx(false_positives, abs=1e-9)
    assert found.false_negatives == pytest.approx(false_negatives, abs=1e-9)


@given(problems())
@settings(max_examples=100, deadline=None)
def test_ap50_equals_pycocotools(case):
    truth, results = case
    found = error_types(truth, results).ap50
    if results:
        expected = pycocotools_metrics(truth, results)["AP50"]
        assert found is None if expected < 0 else found == pytest.approx(expected, abs=1e-9)
    else:
        assert found in (None, 0.0)


@pytest.mark.parametrize("seed", range(4))
def test_ap50_equals_pycocotools_on_larger_scenes(seed):
    truth, results = scene(seed, images=30)
    assert error_types(truth, results).ap50 == pytest.approx(
        pycocotools_metrics(truth, results)["AP50"], abs=1e-9
    )


@given(problems())
@settings(max_examples=300, deadline=None)
def test_fixing_the_only_type_there_is_leaves_nothing_wrong(case):
    found = error_types(*case)
    there = [name for name, count in found.counts.items() if count]
    if found.ap50 is not None and len(there) == 1:
        assert found.ap50 + found.costs[there[0]] == pytest.approx(100)
    if found.ap50 is not None and not there:
        assert found.ap50 == pytest.approx(100)
