"""Annotations as the targets of a batch."""

from postnms.data.targets import group_by_image, targets_of
from tests.support.coco import as_truth

TRUTH = as_truth(
    {
        "images": [{"id": 70}, {"id": 8}, {"id": 1}],
        "categories": [{"id": 90, "name": "z"}, {"id": 3, "name": "y"}],
        "annotations": [
            {"image_id": 70, "category_id": 3, "bbox": [1, 2, 3, 4.5], "iscrowd": 0},
            {"image_id": 1, "category_id": 90, "bbox": [0, 0, 5, 5], "iscrowd": 1},
            {"image_id": 70, "category_id": 90, "bbox": [-2, 0, 1, 1], "iscrowd": 0},
        ],
    }
)


def test_objects_come_in_the_order_of_the_images_with_labels_and_corners():
    found = targets_of(TRUTH, [1, 8, 70], group_by_image(TRUTH))
    assert found.image.tolist() == [0, 2, 2]
    assert found.labels.tolist() == [1, 0, 1]
    assert found.boxes.tolist() == [[0, 0, 5, 5], [1, 2, 4, 6.5], [-2, 0, -1, 1]]
    assert found.crowd.tolist() == [True, False, False]
    assert found.num_images == 3


def test_images_without_objects_have_no_targets():
    found = targets_of(TRUTH, [8], group_by_image(TRUTH))
    assert (found.boxes.shape, found.num_images) == ((0, 4), 1)
    assert targets_of(TRUTH, [], {}).num_images == 0
