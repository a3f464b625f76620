"""The chosen images are padded as the evaluation has padded them."""

import numpy as np

from postnms.data.dataset import Category, Dataset, Record, Truth
from postnms.data.loader import DetectionData
from postnms.report.clusters import padded_groups


def data_of(sizes):
    """A split of images in memory with the given (height, width)."""
    nothing = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_))
    records = tuple(
        Record(i, None, height, width, *nothing, pixels=np.zeros((height, width, 3), np.uint8))
        for i, (height, width) in enumerate(sizes)
    )
    return DetectionData(Dataset(Truth((Category(1, "a"),), {}, "example"), records), 50, 100)


def test_images_are_grouped_by_the_size_of_their_batch_in_the_evaluation():
    """Three to a batch, by hand. The first batch is padded to 60 x 75, the second to 50 x 100."""
    data = data_of([(50, 75), (60, 50), (50, 50), (50, 100), (50, 50), (50, 50), (50, 50)])
    groups = padded_groups(data, {0, 2, 4, 6}, 3)
    assert groups == [
        ([0, 2], ((60, 50), (50, 75))),
        ([4], ((50, 100), (50, 100))),
        ([6], ((50, 50), (50, 50))),
    ]


def test_images_are_resized_before_they_are_padded():
    data = data_of([(100, 100), (100, 300)])
    assert padded_groups(data, {0}, 2) == [([0], ((50, 50), (33, 100)))]


def test_a_group_is_no_larger_than_a_batch():
    data = data_of([(50, 50)] * 5)
    assert [rows for rows, _ in padded_groups(data, set(range(5)), 2)] == [[0, 1], [2, 3], [4]]
