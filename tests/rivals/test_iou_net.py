"""IoU-Net's head: its output for a class, its loss, and boxes that climb."""

import pytest
import torch

from postnms.boxes import pairwise_iou
from postnms.distributed.collectives import settle
from postnms.ops import pool_precisely
from postnms.rivals import IoUHeadConfig
from postnms.rivals.iou_net import IoUHead
from postnms.rivals.jitter import MovedBoxes, move_truths
from postnms.structures import Level, as_detections
from tests.support.builders import make, truths

LEVELS = {"0": Level(4, 4), "1": Level(4, 8)}
SIZES = [(64, 80)]


def head(**settings):
    torch.manual_seed(0)
    return IoUHead(IoUHeadConfig(width=8, **settings), LEVELS, 3)


def pyramid():
    random = torch.Generator().manual_seed(1)
    return {
        str(i): torch.randn(1, 4, 16 >> i, 20 >> i, generator=random) for i in range(len(LEVELS))
    }


def test_the_output_is_that_of_the_class_for_precisely_pooled_features():
    boxes = torch.tensor([[3.0, 5, 40, 44], [3.0, 5, 40, 44]])
    labels, image = torch.tensor([2, 0]), torch.zeros(2, dtype=torch.int64)
    network, features = head(), pyramid()
    found = network(features, boxes, image, labels)
    pooled = pool_precisely(features, boxes, image, [4, 8], 7)
    outputs = network.output(network.trunk(pooled))
    torch.testing.assert_close(found, 0.5 + 0.5 * outputs[[0, 1], [2, 0]])
    assert found[0] != found[1]


def test_the_loss_is_smooth_l1_of_the_scaled_iou():
    network, features = head(loss_weight=5.0), pyramid()
    targets = truths([(3, 5, 40, 44), (1, 1, 60, 60)], [2, 1])
    boxes = torch.tensor([[3.0, 5, 40, 44], [4, 6, 40, 44], [1, 1, 60, 62]])
    moved = MovedBoxes(boxes, torch.tensor([0, 0, 1]), torch.tensor([1.0, 0.9, 0.5]))
    loss = settle({"loss_iou": network.loss(features, moved, targets)}, boxes.device)["loss_iou"]
    image = torch.zeros(3, dtype=torch.int64)
    predicted = network(features, boxes, image, torch.tensor([2, 2, 1])).tolist()
    # (IoU - 0.5) / 0.5 is learnt, and all errors here are below 1.
    errors = [
        ((p - 0.5) / 0.5 - (iou - 0.5) / 0.5)
        for p, iou in zip(predicted, (1.0, 0.9, 0.5), strict=True)
    ]
    assert max(map(abs, errors)) > 0.5
    expected = 5 * sum(e * e / 2 if abs(e) < 1 else abs(e) - 0.5 for e in errors) / 3
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert network.output.weight.grad.abs().sum() > 0


class Slope(IoUHead):
    """Predicts 0.5 plus how far the left edge is to the left: the gradient is known."""

    def __init__(self, gain, **settings):
        super().__init__(IoUHeadConfig(width=8, **settings), LEVELS, 3)
        self.gain = gain
        self.looks = []

    def forward(self, features, boxes, image, labels):
        self.looks.append(len(boxes))
        return 0.5 - self.gain * boxes[:, 0]


def refined(network, boxes, scores):
    given = as_detections(make(boxes, scores))
    return network.refine(pyramid(), SIZES, given)


def test_a_step_follows_the_gradient_in_units_of_the_sides():
    network = Slope(0.01, refine_steps=2, refine_rate=0.5)
    found = refined(network, [(10, 10, 30, 40)], [0.8])
    # Each step moves the left edge by 0.5 * -0.01 * width.
    first = 10 - 0.5 * 0.01 * 20
    second = first - 0.5 * 0.01 * (30 - first)
    assert found.boxes.tolist() == [pytest.approx([second, 10, 30, 40], rel=1e-6)]
    assert found.scores.tolist() == pytest.approx([0.8 * (0.5 - 0.01 * second)], rel=1e-6)
    assert network.looks == [1, 1, 1]


def test_a_box_stops_when_its_iou_hardly_changes():
    # The IoU of the narrow box changes by less than the tolerance, that of the wide one by more.
    network = Slope(0.01, refine_steps=4, refine_rate=0.5, refine_tolerance=0.0005)
    found = refined(network, [(10, 10, 12, 40), (10, 10, 60, 40)], [0.9, 0.8])
    assert network.looks == [2, 2, 1, 1, 1]
    assert found.boxes[:, 2].tolist() == [12, 60]
    assert found.boxes[0, 0].item() == pytest.approx(10 - 0.5 * 0.01 * 2)


def test_a_box_stops_when_its_iou_falls():
    class Wrong(Slope):
        def forward(self, features, boxes, image, labels):
            self.looks.append(len(boxes))
            # The gradient points to the left, but the value falls at every look.
            return 0.5 - 0.01 * boxes[:, 0] - 0.1 * len(self.looks)

    network = Wrong(0.01, refine_steps=4)
    refined(network, [(10, 10, 30, 40)], [0.8])
    assert network.looks == [1, 1]


def test_the_best_new_score_comes_first_and_columns_go_along():
    network = Slope(0.01, refine_steps=1)
    found = refined(network, [(40, 10, 60, 40), (5, 10, 30, 40)], [0.9, 0.8])
    assert found.source.tolist() == [1, 0]
    assert found.scores.diff().item() < 0


def test_a_step_never_turns_a_box_inside_out():
    network = Slope(-100.0, refine_steps=3, refine_drop=1.0)
    found = refined(network, [(10, 10, 30, 40)], [0.8])
    assert found.boxes.tolist() == [[10, 10, 30, 40]]


def test_no_detections_stay_none():
    assert refined(head(), [], []).boxes.shape == (0, 4)


def test_a_trained_head_moves_boxes_onto_the_object():
    """The predicted IoU is learnt for one object, and boxes beside it climb towards it."""
    torch.manual_seed(0)
    config = IoUHeadConfig(width=32, refine_steps=8)
    network = IoUHead(config, LEVELS, 3)
    plane = torch.zeros(1, 4, 16, 20)
    plane[:, :2, 4:12, 5:13] = 1.0  # The object alone is bright.
    plane[:, 2:] = 1 - plane[:, :2]
    features = {"0": plane, "1": plane[:, :, ::2, ::2]}
    targets = truths([(20, 16, 52, 48)], [1])
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    random = [torch.Generator().manual_seed(5)]
    for _ in range(150):
        moved = move_truths(targets, SIZES, 64, 4, random)
        losses = settle({"loss": network.loss(features, moved, targets)}, moved.boxes.device)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
    beside = [(24, 16, 56, 48), (20, 20, 52, 54), (16, 14, 50, 46)]
    given = as_detections(make(beside, [0.9, 0.8, 0.7], labels=[1, 1, 1]))
    found = network.refine(features, SIZES, given)
    before = pairwise_iou(given.boxes, targets.boxes).mean()
    after = pairwise_iou(found.boxes, targets.boxes).mean()
    assert after > before + 0.05
