"""Matches, samples and deltas are those of torchvision, without its waits for a GPU."""

import pytest
import torch
from torchvision.models.detection._utils import (
    BalancedPositiveNegativeSampler,
    BoxCoder,
    Matcher,
)

from postnms.boxes import pairwise_iou
from postnms.detectors.parts.assignment import assign, sample_rows
from postnms.detectors.parts.deltas import decode, encode
from tests.support.builders import random_candidates

WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def boxes_of(count, seed):
    # Whole pixels, so that several boxes attain the best IoU of a truth.
    return (random_candidates(count, seed=seed, extra=False).boxes / 8).round() * 8


@pytest.mark.parametrize("low_quality", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_matches_are_those_of_torchvision(low_quality, seed):
    matcher = Matcher(0.7, 0.3, allow_low_quality_matches=low_quality)
    # Truths have an area, as targets do. Every box would attain the best IoU of another one.
    boxes, truths = boxes_of(200, seed), boxes_of(6, seed + 100) + torch.tensor([0, 0, 8, 8])
    (found,) = assign(matcher, [boxes], [{"boxes": truths, "labels": torch.ones(6)}])
    assert torch.equal(found, matcher(pairwise_iou(truths, boxes)))
    assert {-1} < set(found.tolist())


def test_samples_are_those_of_torchvision():
    labels = [torch.randint(-1, 3, (count,)) for count in (300, 40, 1)]
    sampler = BalancedPositiveNegativeSampler(64, 0.25)
    torch.manual_seed(0)
    positive, negative = sampler(labels)
    torch.manual_seed(0)
    found = sample_rows(labels, sampler)
    for rows, first, second in zip(found, positive, negative, strict=True):
        assert rows.tolist() == (first.bool() | second.bool()).nonzero().squeeze(1).tolist()


def test_deltas_are_those_of_the_coder():
    boxes, truths = (random_candidates(50, seed=seed, extra=False).boxes for seed in (0, 1))
    coder = BoxCoder(WEIGHTS, bbox_xform_clip=0.5)
    deltas = encode(coder, truths, boxes)
    assert torch.equal(deltas, coder.encode_single(truths, boxes))
    moved = decode(coder, deltas, boxes)
    assert torch.equal(moved, coder.decode_single(deltas, boxes))
    assert not torch.equal(moved, decode(BoxCoder(WEIGHTS), deltas, boxes))  # The limit is used.


def test_another_coder_keeps_its_rule():
    class Doubled(BoxCoder):
        def decode_single(self, rel_codes, boxes):
            return 2 * boxes

        def encode_single(self, reference_boxes, proposals):
            return 3 * proposals

    boxes = boxes_of(4, 0)
    assert torch.equal(decode(Doubled(WEIGHTS), boxes, boxes), 2 * boxes)
    assert torch.equal(encode(Doubled(WEIGHTS), boxes, boxes), 3 * boxes)
