"""A look at images keeps one box of an object, whatever its class, where it is asked to."""

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou, nms
from torchvision.transforms.v2.functional import to_pil_image

from postnms.errors import UserError
from postnms.inference.looking import Look, best_of_any_class, look_at
from postnms.inference.tiles import Tiling
from postnms.structures import Detections
from tests.support.detectors import TWO, build


def detections(boxes, scores, labels):
    rows = torch.arange(len(scores))
    return Detections(boxes, scores, labels, rows * 0, rows + 7, num_images=1)


def crowd(count, seed):
    random = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=random) * 40
    boxes = torch.cat([corners, corners + 10 + torch.rand(count, 2, generator=random) * 30], 1)
    scores = torch.rand(count, generator=random).sort(descending=True).values
    return detections(boxes, scores, torch.randint(0, 4, (count,), generator=random))


@pytest.mark.parametrize("threshold", [0.2, 0.4, 0.6])
@pytest.mark.parametrize("seed", range(4))
def test_what_stays_is_what_nms_over_all_classes_keeps(seed, threshold):
    found = crowd(60, seed)
    kept = best_of_any_class(found, threshold)
    rows = nms(found.boxes, found.scores, threshold)
    assert 0 < len(rows) < 60
    for name in ("boxes", "scores", "labels", "source"):
        assert torch.equal(getattr(kept, name), getattr(found, name)[rows]), name


def test_weak_scores_stay_and_there_is_no_limit_of_their_number():
    places = torch.arange(300.0)[:, None] * 20
    boxes = torch.cat([places, places * 0, places + 10, places * 0 + 10], dim=1)
    found = detections(boxes, torch.linspace(1e-3, 0, 300), torch.zeros(300, dtype=torch.int64))
    assert torch.equal(best_of_any_class(found, 0.5).source, found.source)


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_without_detections_there_are_none(threshold):
    assert len(best_of_any_class(crowd(0, 0), threshold).scores) == 0


def test_at_an_iou_of_one_all_stay():
    found = crowd(40, 0)
    assert torch.equal(best_of_any_class(found, 1.0).source, found.source)


@pytest.mark.parametrize("tiling", [None, Tiling(48, 0.3)])
def test_every_row_of_every_image_is_cleared_and_the_rest_is_unchanged(model_images, tiling):
    detector, images = model_images
    plain = look_at(detector, images, Look((96, 160), tiling))
    cleared = look_at(detector, images, Look((96, 160), tiling, class_agnostic=0.4))
    dropped = 0
    for before, after in zip(plain, cleared, strict=True):
        assert list(before) == list(after) == ["nms", "post_nms"]
        for name, found in before.items():
            rows = nms(found.boxes, found.scores, 0.4)
            assert torch.equal(after[name].boxes, found.boxes[rows])
            overlap = box_iou(after[name].boxes, after[name].boxes).fill_diagonal_(0)
            assert overlap.max() <= 0.4
            dropped += len(found.scores) - len(rows)
    assert dropped > 0


@pytest.fixture(scope="module")
def model_images():
    return build("faster_rcnn").eval(), [to_pil_image(image) for image in TWO]


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan"), "0.5", True, [0.5]], ids=repr)
def test_a_wrong_iou_is_refused(value):
    with pytest.raises(UserError, match="class_agnostic: expected an IoU from 0 to 1, got"):
        Look(None, class_agnostic=value)


def test_numbers_of_numpy_are_taken():
    assert Look(None, class_agnostic=np.float32(0.5)) == Look(None, class_agnostic=0.5)
