"""True boxes that are moved at random."""

import pytest
import torch

from postnms.boxes import paired_iou
from postnms.rivals import jitter
from postnms.rivals.jitter import move_truths
from tests.support.builders import truths

SIZES = [(90, 120), (60, 60), (50, 70)]
TARGETS = truths(
    [(10, 10, 50, 40), (60, 20, 118, 88), (5, 5, 30, 30), (0, 0, 60, 60)],
    labels=[0, 1, 2, 0],
    image=[0, 0, 1, 1],
    crowd=[False, False, False, True],
    num_images=3,
)


def generators(seed=0, count=3):
    return [torch.Generator().manual_seed(seed + i) for i in range(count)]


def test_moved_boxes_lie_in_their_images_and_know_their_iou():
    moved = move_truths(TARGETS, SIZES, 200, 8, generators())
    assert moved.boxes.shape == (400, 4)
    assert (TARGETS.image[moved.truth].diff() >= 0).all()
    # The crowd region is not moved, and the last image has no object.
    assert moved.truth.unique().tolist() == [0, 1, 2]
    limit = torch.tensor([(w, h, w, h) for h, w in SIZES])[TARGETS.image[moved.truth]]
    assert (moved.boxes >= 0).all()
    assert (moved.boxes <= limit).all()
    torch.testing.assert_close(moved.iou, paired_iou(moved.boxes, TARGETS.boxes[moved.truth]))
    assert moved.iou.min() >= 0.5


def test_low_and_high_ious_come_equally_often():
    iou = move_truths(TARGETS, SIZES, 200, 8, generators()).iou[:200]
    counts = torch.histc(iou, bins=5, min=0.5, max=1.0)
    assert counts.tolist() == [40, 40, 40, 40, 40]


def test_a_rare_interval_leaves_its_place_to_the_others():
    iou = torch.tensor([0.55, 0.51, 0.3, 0.95, 0.58, 0.52, 0.91, 0.49999])
    # In turn: the first of each interval, then the second ones, then what is left.
    assert jitter._balanced(iou, 3).tolist() == [0, 3, 1]
    assert jitter._balanced(iou, 6).tolist() == [0, 3, 1, 6, 4, 5]
    assert jitter._balanced(iou, 100).tolist() == [0, 3, 1, 6, 4, 5]
    assert jitter._balanced(torch.zeros(4), 3).tolist() == []


def test_noise_moves_a_box_as_far_as_it_says():
    box = torch.tensor([[10.0, 20, 30, 60]])
    still = torch.tensor([[0.0, 1, 1, 1, 1]])
    assert jitter._moved(box, still).tolist() == box.tolist()
    most = torch.tensor([[1.0, 1.0, 0.5, 0.5, 0.5]])
    assert jitter._moved(box, most).tolist() == [[30.0, 20, 50, 60]]  # one width to the right
    larger = jitter._moved(box, torch.tensor([[1.0, 0.5, 0.5, 1.0, 1.0]]))
    side = larger[0, 2:] - larger[0, :2]
    assert side.prod().item() == pytest.approx(3 * 20 * 40, rel=1e-6)


def test_the_draws_of_an_image_do_not_depend_on_the_other_images():
    whole = move_truths(TARGETS, SIZES, 50, 4, generators())
    second = truths([(5, 5, 30, 30)], [2], num_images=1)
    alone = move_truths(second, SIZES[1:2], 50, 4, generators(1, 1))
    assert torch.equal(alone.boxes, whole.boxes[whole.truth == 2])


def test_no_objects_give_no_boxes():
    moved = move_truths(truths([], num_images=3), SIZES, 50, 4)
    assert moved.boxes.shape == (0, 4)
    assert moved.truth.shape == moved.iou.shape == (0,)
