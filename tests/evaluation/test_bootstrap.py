"""The paired bootstrap over the images."""

import numpy as np

from postnms.evaluation.bootstrap import gain_interval, resampled_precisions
from tests.support.coco import scene


def test_the_gain_of_a_row_over_itself_is_nothing():
    truth, results = scene(1)
    drawn = [resampled_precisions(truth, results, 20, 0) for _ in range(2)]
    assert gain_interval(*drawn) == (0.0, 0.0)


def test_resamples_without_an_object_are_left_out_of_the_interval():
    before, after = np.array([10.0, np.nan, 20.0]), np.array([11.0, np.nan, 21.0])
    assert gain_interval(before, after) == (1.0, 1.0)
    assert gain_interval(before[1:2], after[1:2]) == (None, None)
