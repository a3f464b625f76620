"""COCO's matching of results to the truth, by hand and against plain loops."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings

from postnms.data.columns import Entries, ObjectColumns, object_columns
from postnms.data.ids import Ids
from postnms.evaluation.matching import MAX_DETECTIONS, Objects, closest_objects, match_results
from tests.support.coco import as_truth, hard_scene
from tests.support.plain_loops import (
    NOWHERE,
    STRIP,
    A,
    B,
    C,
    plain_matching,
    problem,
    problems,
)

HALF = np.array([0.5])


def test_an_object_is_taken_once_and_a_crowd_region_by_many():
    objects = [(2, A), (2, B, 1)]
    detections = [(2, A, 0.9), (2, A, 0.8), (2, B, 0.7), (2, B, 0.6), (3, A, 0.5)]
    matching = match_results(*problem(objects, detections), HALF)
    assert matching.taken.tolist() == [0, -1, 1, 1, -1]
    assert matching.correct.tolist() == [[True, False, False, False, False]]
    assert matching.counted.tolist() == [[True, True, False, False, True]]


def test_every_threshold_is_matched_on_its_own():
    # The strip overlaps A by 0.4.
    case = problem([(2, A)], [(2, STRIP, 0.9), (2, A, 0.8)])
    matching = match_results(*case, np.array([0.4, 0.5]))
    assert matching.correct.tolist() == [[True, False], [False, True]]
    assert matching.taken.tolist() == [0, -1]
    assert match_results(*case, HALF).taken.tolist() == [-1, 0]


def test_only_the_best_of_an_image_and_class_count():
    extra = 3
    detections = [(2, A, number / 1000) for number in range(MAX_DETECTIONS + extra)]
    matching = match_results(*problem([(2, A)], [*detections, (3, B, 0.0)]), HALF)
    assert len(matching.results.scores) == MAX_DETECTIONS + 1
    assert matching.results.scores.tolist()[-2:] == [extra / 1000, 0.0]


def test_an_image_that_the_truth_does_not_list():
    truth, results = problem([(2, A)], [(2, A, 0.8)])
    with pytest.raises(ValueError, match="results: expected image ids of the truth, got 77"):
        match_results(truth, [{**results[0], "image_id": 77}], HALF)


def test_columns_of_annotations_are_matched_as_their_dicts_are_and_make_none(monkeypatch):
    """The columns have another order of images and classes, and a class that is not listed."""
    truth, results = hard_scene(0)
    image_ids = [entry["id"] for entry in truth.images]
    annotations = [*truth.annotations, {**truth.annotations[0], "category_id": 77}]
    columns = object_columns(annotations, Ids.of(image_ids[::-1]), [77, 8, 4, 1, 3, 6])
    as_columns = as_truth({**truth.content, "annotations": Entries(columns)})
    as_dicts = as_truth({**truth.content, "annotations": annotations})
    expected = match_results(as_dicts, results)
    monkeypatch.setattr(ObjectColumns, "dicts", None)
    found = match_results(as_columns, results)
    for field in dataclasses.fields(Objects):
        column = getattr(found.objects, field.name)
        assert column.tolist() == getattr(expected.objects, field.name).tolist()
        assert len(column) == len(truth.annotations)
    assert np.array_equal(found.verdicts, expected.verdicts)
    fewer = as_truth({**as_columns.content, "images": truth.images[1:]})
    with pytest.raises(ValueError, match=r"^annotations: expected image ids of the truth, got "):
        match_results(fewer, [])


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([5.0, 5.0, -3.0, 4.0], r"sides >= 0, got \[5\.0, 5\.0, -3\.0, 4\.0\]$"),
        ([5.0, np.inf, 3.0, 4.0], r"finite numbers .*, got \[5\.0, inf, 3\.0, 4\.0\]$"),
        ([5.0, 5.0, np.nan, 4.0], r"finite numbers .*, got \[5\.0, 5\.0, nan, 4\.0\]$"),
    ],
)
def test_a_wrong_box_of_an_annotation_is_shown_whether_columns_or_dicts_hold_it(box, message):
    truth, results = hard_scene(0)
    annotations = [*truth.annotations, {**truth.annotations[0], "bbox": box}]
    image_ids = Ids.of(entry["id"] for entry in truth.images)
    category_ids = [entry["id"] for entry in truth.content["categories"]]
    columns = Entries(object_columns(annotations, image_ids, category_ids))
    for held in (columns, annotations):
        wrong = as_truth({**truth.content, "annotations": held})
        with pytest.raises(ValueError, match=rf"^annotations: expected boxes of .*{message}"):
            match_results(wrong, results)


def test_boxes_of_three_numbers_are_refused_though_four_of_them_make_three_boxes():
    truth, results = hard_scene(0)
    short = [{**entry, "bbox": [5.0, 5.0, 9.0]} for entry in truth.annotations[:4]]
    wrong = as_truth({**truth.content, "annotations": short})
    with pytest.raises(ValueError, match=r"^annotations: .*height\], got \[5\.0, 5\.0, 9\.0\]$"):
        match_results(wrong, results)


def test_the_closest_objects_leave_out_crowd_regions():
    objects = [(2, C), (2, STRIP), (3, A), (2, A, 1)]
    matching = match_results(*problem(objects, [(2, A, 0.9), (3, NOWHERE, 0.8)]), HALF)
    same, other = closest_objects(matching)
    assert (same.iou.tolist(), same.row.tolist()) == ([0.4, 0.0], [1, -1])
    assert (other.iou.tolist(), other.row.tolist()) == ([1.0, 0.0], [2, -1])


@given(problems())
@settings(max_examples=150, deadline=None)
def test_equal_to_plain_loops(case):
    truth, results = case
    matching, expected = match_results(truth, results, HALF), plain_matching(truth, results)
    assert matching.results.scores.tolist() == [entry["score"] for entry in expected]
    taken = [-1 if entry["object"] is None else entry["object"]["id"] - 1 for entry in expected]
    assert matching.taken.tolist() == taken
