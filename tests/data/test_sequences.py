"""Sequences of (image, target) become a split; what is not of this form is named."""

import numpy as np
import pytest
import torch
from PIL import Image

from postnms.data.check import find_problems
from postnms.data.sequences import dataset_of
from postnms.errors import UserError

IMAGE = np.zeros((40, 60, 3), np.uint8)


def target(boxes=((10, 10, 30, 20),), labels=(0,), **further):
    return {"boxes": torch.tensor(boxes), "labels": torch.tensor(labels), **further}


def test_a_sequence_by_hand():
    """Boxes are clipped for training, and those that are too thin are left out of it."""
    two = target(
        [[-5.0, 0, 30, 50], [10, 10, 10.05, 20], [1, 2, 3, 4]],
        [1, 2, 2],
        iscrowd=torch.tensor([0, 0, 1]),
        area=torch.tensor([100.0, 1, 4]),
    )
    nothing = {"boxes": [], "labels": []}
    data = [(Image.fromarray(IMAGE), two), (torch.ones(3, 8, 9), nothing)]
    dataset = dataset_of(data, "data", ["cat", "dog"], labels_from=1)
    first, second = dataset.records
    assert first.boxes.tolist() == [[0, 0, 30, 40], [1, 2, 3, 4]]
    assert (first.labels.tolist(), first.crowd.tolist()) == ([0, 1], [False, True])
    assert (first.id, first.height, first.width) == (0, 40, 60)
    assert (second.id, second.height, second.width, second.boxes.shape) == (1, 8, 9, (0, 4))
    assert second.load().getpixel((0, 0)) == (255, 255, 255)
    truth = dataset.truth
    assert [(c.id, c.name) for c in truth.categories] == [(1, "cat"), (2, "dog")]
    assert next(entry["bbox"] for entry in truth.annotations) == [-5, 0, 35, 50]
    assert [entry["area"] for entry in truth.annotations] == [100, 1, 4]
    assert [entry["category_id"] for entry in truth.annotations] == [1, 2, 2]
    assert [entry["iscrowd"] for entry in truth.annotations] == [0, 0, 1]
    assert find_problems(dataset.records) == ()


def test_without_names_classes_are_numbered_by_their_labels():
    data = [(IMAGE, target(labels=(2,))), (IMAGE, target(labels=(0,)))]
    names = [category.name for category in dataset_of(data, "data").categories]
    assert names == ["class 0", "class 1", "class 2"]
    data = [(IMAGE, target(labels=(1,)))]
    assert dataset_of(data, "data", labels_from=1).categories[0].name == "class 1"


def test_images_are_read_when_they_are_needed():
    class Counted:
        read = 0

        def __len__(self):
            return 3

        def __getitem__(self, index):
            self.read += 1
            return np.full((4, 5, 3), index * 10, np.uint8), target([[0, 0, 4, 4]])

    data = Counted()
    dataset = dataset_of(data, "data")
    assert data.read == 3
    assert dataset.records[2].load().getpixel((0, 0)) == (20, 20, 20)
    assert data.read == 4


def test_random_changes_of_the_sequence_are_noticed():
    class Changing:
        shift, size = 0, 40

        def __len__(self):
            return 1

        def __getitem__(self, index):
            left = 10 + self.shift
            return np.zeros((self.size, 60, 3), np.uint8), target([[left, 10, 30, 20]])

    data = Changing()
    [record] = dataset_of(data, "train_data").records
    data.shift = 1
    with pytest.raises(UserError, match=r"^train_data\[0\]: the boxes are others than when"):
        record.load()
    data.shift, data.size = 0, 41
    with pytest.raises(
        UserError, match="expected 60 x 40 px as when it was first read, got 60 x 4"
    ):
        record.load()


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ([], {}, "^data: expected at least one image, got none$"),
        (iter([]), {}, r"^data: expected a sequence of \(image, target\), got list_iterator$"),
        ([IMAGE], {}, r"^data\[0\]: expected \(image, target\), got ndarray$"),
        ([(IMAGE, [1])], {}, r"^data\[0\]: expected a dict with boxes and labels, got list of 1$"),
        ([(IMAGE, {"boxes": []})], {}, r"got a dict with \['boxes'\]$"),
        ([(IMAGE * 1.0 + 9, target())], {}, r"^data\[0\]: image: .* divide by 255"),
        (["x"], {}, r"^data\[0\]: expected \(image, target\), got str$"),
        ([("a.png", target())], {}, r"^data\[0\]: image: .*, got 'a.png'$"),
        ([(IMAGE, target([[30, 10, 10, 20]]))], {}, r"corners x1, y1, x2, y2 in this order"),
        (
            [(IMAGE, target([[0.1, 0.1, 0.5, 1.0]]))],
            {},
            "^data: expected boxes in pixels, got none",
        ),
        ([(IMAGE, target([[1, 2, 3]]))], {}, r"the shape \(1, 4\), got \(1, 3\)$"),
        ([(IMAGE, target(labels=(0, 1)))], {}, r"\['boxes'\]: expected the shape \(2, 4\), got"),
        ([(IMAGE, target(labels=((0,),)))], {}, r"\['labels'\]: expected the shape \(m,\), got"),
        ([(IMAGE, target(labels=(0.5,)))], {}, r"\['labels'\]: expected integers, got float32$"),
        ([(IMAGE, target([[1, 2, 3, float("nan")]]))], {}, "expected finite numbers, got NaN"),
        ([(IMAGE, {"boxes": "no", "labels": [0]})], {}, r"\['boxes'\]: expected numbers, got 'no'"),
        ([(IMAGE, target(area=torch.tensor([-1.0])))], {}, r"\['area'\]: expected values >= 0"),
        ([(IMAGE, target(labels=(1,)))], {}, "pass labels_from=1, or the names of all classes"),
        (
            [(IMAGE, target()), (IMAGE, target(labels=(2,)))],
            {"classes": ["a", "b"]},
            r"^data\[1\]\['labels'\]: expected 0 to 1, the labels of 2 classes, got 2$",
        ),
        (
            [(IMAGE, target(labels=(2,))), (IMAGE, target(labels=(1,)))],
            {"classes": ["a", "b"]},
            "got 2; labels_from=1 reads labels from 1 on$",
        ),
        (
            [(IMAGE, target())],
            {"classes": ["a", "b"], "labels_from": 1},
            "expected 1 to 2, the labels of 2 classes, got 0$",
        ),
    ],
)
def test_what_has_another_form_is_named(data, options, message):
    with pytest.raises(UserError, match=message):
        dataset_of(data, "data", **options)
