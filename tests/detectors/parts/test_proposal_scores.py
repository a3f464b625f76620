"""Scores of proposals that the training sample has already are taken over."""

import pytest
import torch
from torch import nn

from postnms.detectors import Selection
from postnms.detectors.image_batch import to_network
from postnms.detectors.parts.box_head import Predictions
from postnms.detectors.parts.proposal_scores import is_alike, predict_proposals
from tests.support.detectors import TARGETS, TWO, build

PROPOSALS = [torch.tensor([[i, 0.0, i + 9, 9] for i in range(n)]) for n in (4, 2)]
SAMPLED = [torch.tensor([2, -1, 3, 0]), torch.tensor([-1, 1])]


def head(boxes, *, shift=0.0):
    """Outputs that tell which box they belong to and, by ``shift``, which call they come from."""
    every = torch.cat(boxes)
    return Predictions(boxes, None, every[:, :1] + shift, every + shift)


def sample(shift):
    injected = torch.tensor([[50.0, 50, 60, 60]])
    rows = [
        torch.cat([injected if row < 0 else part[row][None] for row in of_image.tolist()])
        for part, of_image in zip(PROPOSALS, SAMPLED, strict=True)
    ]
    return head(rows, shift=shift)


def test_a_sample_gives_the_outputs_of_its_boxes_and_the_head_the_others():
    seen = []

    def predict(boxes):
        seen.append([part[:, 0].tolist() for part in boxes])
        return head(boxes)

    found = predict_proposals(predict, nn.Identity(), PROPOSALS, 3, (sample(0.5), SAMPLED))
    # Of image 0 the best three proposals count: rows 0 and 2 are in the sample, row 3 is too far.
    assert seen == [[[1.0], [0.0]]]
    assert [part[:, 0].tolist() for part in found.boxes] == [[0, 1, 2], [0, 1]]
    assert found.logits[:, 0].tolist() == [0.5, 1, 2.5, 0, 1.5]
    assert torch.equal(found.deltas[:, :1], found.logits)


def test_without_a_sample_every_proposal_is_scored_in_evaluation_mode():
    part = nn.Dropout()
    modes = []

    def predict(boxes):
        modes.append((part.training, torch.is_grad_enabled()))
        return head(boxes)

    found = predict_proposals(predict, part.train(), PROPOSALS, 3, None)
    assert modes == [(False, False)]
    assert part.training
    assert [len(boxes) for boxes in found.boxes] == [3, 2]


@pytest.mark.parametrize(
    ("change", "alike"),
    [(nn.Identity(), True), (nn.BatchNorm1d(4), False), (nn.Dropout(), False)],
)
def test_heads_that_depend_on_the_mode_are_known(change, alike):
    head_module = build("faster_rcnn").network.roi_heads
    head_module.box_head = nn.Sequential(head_module.box_head, change)
    assert is_alike(head_module) is alike


@pytest.mark.parametrize("name", ["faster_rcnn", "cascade_rcnn"])
@torch.no_grad()
def test_no_box_goes_through_a_head_twice(name):
    # Evaluation mode has the limits of training here, so it has the same proposals.
    detector = build(name, rpn_pre_nms_top_n_test=200, rpn_post_nms_top_n_test=100).train()
    batch = detector.network.prepare(TWO)
    features, targets = detector.network.features(batch), to_network(TARGETS, batch, 3)
    first = detector.network.heads[0] if name == "cascade_rcnn" else detector.network.roi_heads
    counts = []
    first.box_head.register_forward_pre_hook(lambda _, given: counts.append(len(given[0])))
    detector.network.candidates(features, batch, targets, Selection())
    of_sample, others = counts
    counts.clear()
    detector.eval().network.candidates(features, batch)
    every = counts[0]
    injected = len(targets.labels)
    assert others < every
    assert every <= of_sample + others <= every + injected
