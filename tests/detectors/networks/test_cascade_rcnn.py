"""Cascade R-CNN computes what its definition says, made of torchvision's parts."""

from collections import OrderedDict

import pytest
import torch
from torch.nn import functional as F
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import resize_boxes
from torchvision.ops import MultiScaleRoIAlign, batched_nms, box_iou, clip_boxes_to_image

from postnms.detectors import Selection
from postnms.detectors.image_batch import to_network
from tests.support.detectors import TARGETS, TWO, as_dicts, build


def cascade_by_torchvisions_parts(network, features, proposals, sizes):
    """Boxes and logits of every head, by torchvision's pooling and box coders."""
    steps, boxes = [], proposals
    pool = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)
    for head in network.heads:
        pooled = pool(OrderedDict(features), boxes, sizes)
        logits, deltas = head.box_predictor(head.box_head(pooled))
        steps.append((boxes, pooled, logits, deltas))
        moved = (
            head.box_coder.decode(deltas.detach(), boxes)
            .squeeze(1)
            .split([len(part) for part in boxes])
        )
        boxes = [clip_boxes_to_image(part, size) for part, size in zip(moved, sizes, strict=True)]
    return steps, boxes


@pytest.mark.parametrize("kind", ["cascade_rcnn", "cascade_rcnn_mean"])
@torch.no_grad()
def test_cascade_detects_what_its_definition_says(kind):
    detector = build(kind, None).eval()
    network = detector.network
    batch = network.prepare(TWO)
    features = network.features(batch)
    proposals, _ = network.rpn(ImageList(batch.pixels, batch.sizes), OrderedDict(features))
    steps, final = cascade_by_torchvisions_parts(network, features, proposals, batch.sizes)
    scores = steps[-1][2].softmax(1)
    if kind == "cascade_rcnn_mean":
        pooled = steps[-1][1]
        scores = (
            sum(head.box_predictor(head.box_head(pooled))[0].softmax(1) for head in network.heads)
            / 3
        )
    found = detector(TWO).rows["nms"]
    for index, (boxes, own) in enumerate(
        zip(final, scores.split([len(part) for part in final]), strict=True)
    ):
        row, label = (own[:, 1:] > 0.2).nonzero(as_tuple=True)
        keep = batched_nms(boxes[row], own[row, label + 1], label, 0.5)[:100]
        mine = found.image == index
        expected = resize_boxes(boxes[row[keep]], batch.sizes[index], batch.given[index])
        assert len(keep) > 10
        torch.testing.assert_close(found.boxes[mine], expected, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(
            found.scores[mine], own[row, label + 1][keep], rtol=1e-4, atol=1e-5
        )
        assert torch.equal(found.labels[mine], label[keep])


def test_cascade_trains_on_what_its_definition_says():
    """Cross-entropy and smooth-L1 at IoU 0.5, 0.6, 0.7, on the boxes that the head before moved."""
    detector = build("cascade_rcnn", None).train()
    network = detector.network
    # The sample is all proposals, so nothing is left to chance.
    network.heads[0].fg_bg_sampler.batch_size_per_image = 1000
    network.heads[0].fg_bg_sampler.positive_fraction = 1.0
    mine = detector(TWO, TARGETS).losses
    batch = network.prepare(TWO)
    features = network.features(batch)
    targets = to_network(TARGETS, batch, 3)
    truths = as_dicts(targets, 1)
    proposals, _ = network.rpn(ImageList(batch.pixels, batch.sizes), OrderedDict(features), truths)
    proposals = [
        torch.cat([part, truth["boxes"]]) for part, truth in zip(proposals, truths, strict=True)
    ]
    steps, _ = cascade_by_torchvisions_parts(network, features, proposals, batch.sizes)
    heads = zip(network.heads, steps, (0.5, 0.6, 0.7), (1.0, 0.5, 0.25), strict=True)
    for number, (head, (boxes, _, logits, deltas), threshold, weight) in enumerate(heads, 1):
        labels, wanted = [], []
        for part, truth in zip(boxes, truths, strict=True):
            best = box_iou(truth["boxes"], part).max(dim=0)
            labels.append(torch.where(best.values >= threshold, truth["labels"][best.indices], 0))
            wanted.append(truth["boxes"][best.indices])
        positive = torch.cat(labels) > 0
        moves = torch.cat(head.box_coder.encode(wanted, boxes))
        location = F.smooth_l1_loss(
            deltas[positive], moves[positive], beta=1 / 9, reduction="sum"
        ) / len(positive)
        assert positive.any()
        torch.testing.assert_close(
            mine[f"loss_classifier_{number}"], weight * F.cross_entropy(logits, torch.cat(labels))
        )
        torch.testing.assert_close(
            mine[f"loss_box_reg_{number}"], weight * location, rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize("kind", ["cascade_rcnn", "cascade_rcnn_mean"])
def test_the_three_heads_share_no_weights_and_the_last_decides(kind):
    detector = build(kind, None).eval()
    batch = detector.network.prepare(TWO)
    features = detector.network.features(batch)
    before, _ = detector.network.candidates(
        features, batch, selection=Selection(score_threshold=0.0)
    )
    with torch.no_grad():
        detector.network.heads[0].box_predictor.cls_score.bias[1] += 3
    after, _ = detector.network.candidates(
        features, batch, selection=Selection(score_threshold=0.0)
    )
    changed = not torch.allclose(before.scores, after.scores)
    assert changed == (kind == "cascade_rcnn_mean")
