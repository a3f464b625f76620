"""The paired bootstrap over the images."""

import numpy as np
import pytest

from postnms.evaluation import bootstrap
from postnms.evaluation.average_precision import average_precisions
from postnms.evaluation.bootstrap import gain_interval, resampled_precisions
from postnms.evaluation.matching import match_results
from postnms.ops import threads
from postnms.speed.timing import torch_threads
from tests.support.coco import as_truth, hard_scene, scene
from tests.support.plain_loops import plain_average_precision


def test_the_sets_are_drawn_one_after_another_from_one_generator():
    matching = match_results(*hard_scene(5))
    random = np.random.default_rng(3)
    count = matching.num_images
    draws = [random.integers(0, count, count) for _ in range(9)]
    expected = [
        plain_average_precision(matching, [int((draw == image).sum()) for image in range(count)])
        for draw in draws
    ]
    assert resampled_precisions(matching, 9, 3) == pytest.approx(expected, rel=0, abs=1e-12)


def test_neither_threads_nor_parts_change_a_resample(monkeypatch):
    truth, results = hard_scene(2)
    with torch_threads(1):
        expected = resampled_precisions(match_results(truth, results), 25, 7)
    sizes = []

    def counting(matching, copies):
        sizes.append(len(copies))
        return average_precisions(matching, copies)

    monkeypatch.setattr(threads, "LEAST_WORK", 0)
    monkeypatch.setattr(bootstrap, "average_precisions", counting)
    monkeypatch.setattr(bootstrap, "_COPIES_AT_ONCE", 8 * len(truth.images))
    with torch_threads(3):
        found = resampled_precisions(match_results(truth, results), 25, 7)
    assert sizes == [8, 8, 8, 1]
    assert found.tolist() == expected.tolist()


def test_the_gain_of_a_row_over_itself_is_nothing():
    matching = match_results(*scene(1))
    drawn = [resampled_precisions(matching, 20, 0) for _ in range(2)]
    assert gain_interval(*drawn) == (0.0, 0.0)


def test_without_images_no_set_has_an_ap():
    truth = as_truth({**scene(0)[0].content, "images": [], "annotations": []})
    assert np.isnan(resampled_precisions(match_results(truth, []), 4, 0)).tolist() == [True] * 4


def test_resamples_without_an_object_are_left_out_of_the_interval():
    before, after = np.array([10.0, np.nan, 20.0]), np.array([11.0, np.nan, 21.0])
    assert gain_interval(before, after) == (1.0, 1.0)
    assert gain_interval(before[1:2], after[1:2]) == (None, None)
