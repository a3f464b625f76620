"""The stage as a whole: its losses are the equations of the paper, and so are its detections."""

import math

import pytest
import torch

from postnms.boxes import decode_deltas, pairwise_iou
from postnms.clustering import cluster, keep_keys, representative_boxes
from postnms.stage.fusion import fuse
from postnms.stage.losses import importance
from postnms.stage.matching import match_clusters, match_members
from postnms.structures import derive
from tests.support.builders import make, truths
from tests.support.stages import (
    CANDIDATES,
    CLUSTERS,
    SIZES,
    TARGETS,
    build,
    features,
    rows_of_heads,
)


def test_fusion_by_hand():
    found = fuse(torch.tensor([0.5]), torch.tensor([1.0]), torch.tensor([0.0]), (0.8, 0.15, 0.05))
    torch.testing.assert_close(found, torch.tensor([0.55]))


def test_geometric_fusion_by_hand():
    scores = [torch.tensor([value]) for value in (0.25, 0.5, 0.81)]
    found = fuse(*scores, (0.5, 0.0, 0.5), "geometric")
    torch.testing.assert_close(found, torch.tensor([0.5 * 0.9]))
    found = fuse(*scores, (0.0, 2.0, 0.0), "geometric")
    torch.testing.assert_close(found, torch.tensor([0.25]))


@pytest.mark.parametrize("decoupling", [True, False])
@pytest.mark.parametrize("encoding", ["add", "concat", "none"])
@pytest.mark.parametrize("shared", [True, False])
def test_every_switch_of_the_networks_trains(decoupling, encoding, shared):
    stage = build(decoupling=decoupling, encoding=encoding, shared_trunk=shared)
    assert (stage.decoupling is not None) == decoupling
    losses = stage.losses(features(), CLUSTERS, TARGETS)
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in stage.parameters())


def test_rows_filled_up_for_training_in_bfloat16_change_nothing():
    stage = build()
    seen, given = rows_of_heads(stage), (CANDIDATES.boxes, CANDIDATES.image, CANDIDATES.labels)
    found = {}
    for mode in (True, False):
        levels = features(requires_grad=True)
        stage.train(mode).zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            logits, deltas = stage(levels, *given)
        (logits.square().sum() + deltas.square().sum()).backward()
        gradients = [parameter.grad for parameter in stage.parameters()]
        found[mode] = [logits, deltas, levels["0"].grad, levels["1"].grad, *gradients]
    assert seen == [64, 5]
    for trained, evaluated in zip(found[True], found[False], strict=True):
        assert trained.shape == evaluated.shape
        torch.testing.assert_close(
            trained, evaluated, rtol=0.02, atol=0.02 * float(evaluated.detach().abs().max())
        )


def test_rows_are_not_filled_up_in_float32():
    stage = build().train()
    seen = rows_of_heads(stage)
    stage(features(), CANDIDATES.boxes, CANDIDATES.image, CANDIDATES.labels)
    assert seen == [5]


def separate_rows(config):
    """Yield box, image, label, truth or None, w_cls and w_loc of each member and representative."""
    matches = match_clusters(CLUSTERS, TARGETS, config.positive_iou)
    of_members = match_members(CLUSTERS, TARGETS, matches)
    w_cls, w_loc = importance(CLUSTERS, of_members, config.weighting)
    representatives = representative_boxes(CLUSTERS, config.representative)
    for c, key in enumerate(CLUSTERS.keys.tolist()):
        positive = bool(matches.positive[c])
        truth = TARGETS.boxes[matches.truth[c]].tolist() if positive else None
        about = CANDIDATES.image[key], CANDIDATES.labels[key], truth
        for i in (CLUSTERS.assignment == c).nonzero()[:, 0].tolist():
            yield CANDIDATES.boxes[i], *about, w_cls[i].item(), w_loc[i].item()
        yield representatives[c], *about, 1.0, 1.0


@pytest.mark.parametrize("objectness", ["label", "iou"])
def test_losses_are_the_equations(objectness):
    stage = build(smooth_l1_beta=0.5, objectness=objectness)
    # Boxes that are moved far show whether the IoU is that of the moved box.
    torch.nn.init.normal_(stage.heads.refinement.bias)
    cls = loc = count = 0.0
    for box, image, label, truth, w_cls, w_loc in separate_rows(stage.config):
        logits, deltas = stage(features(), box[None], image[None], label[None])
        p = 1 / (1 + math.exp(-logits.item()))
        target = float(truth is not None)
        if truth is not None and objectness == "iou":
            moved = decode_deltas(box[None], deltas)
            target = pairwise_iou(moved, torch.tensor([truth]).float()).item()
            assert 0 < target < 0.95
        cls -= w_cls * (target * math.log(p) + (1 - target) * math.log(1 - p))
        count += 1
        if truth is None:
            continue
        x1, y1, x2, y2 = box.tolist()
        u1, v1, u2, v2 = truth
        w, h = x2 - x1, y2 - y1
        wanted = [10 * ((u1 + u2) - (x1 + x2)) / 2 / w, 10 * ((v1 + v2) - (y1 + y2)) / 2 / h]
        wanted += [5 * math.log((u2 - u1) / w), 5 * math.log((v2 - v1) / h)]
        errors = [abs(a - b) for a, b in zip(deltas[0].tolist(), wanted, strict=True)]
        loc += w_loc * sum(e * e if e < 0.5 else e - 0.25 for e in errors)
    assert count == 9
    found = stage.losses(features(), CLUSTERS, TARGETS)
    beta_over_rows = (4 / 5) / 9
    torch.testing.assert_close(
        found["loss_stage_cls"].item(), beta_over_rows * cls, rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(
        found["loss_stage_loc"].item(), beta_over_rows * loc, rtol=1e-5, atol=1e-6
    )


def test_no_gradient_reaches_the_refinement_through_the_objectness():
    stage = build(objectness="iou")
    stage.losses(features(), CLUSTERS, TARGETS)["loss_stage_cls"].backward()
    assert stage.heads.refinement.weight.grad is None


def test_without_relocation_objectness_learns_the_iou_of_the_given_box():
    stage = build(objectness="iou", relocation=False)
    torch.nn.init.normal_(stage.heads.refinement.bias)
    found = stage.losses(features(), CLUSTERS, TARGETS)["loss_stage_cls"]
    cls = 0.0
    for box, image, label, truth, w_cls, _ in separate_rows(stage.config):
        p = stage(features(), box[None], image[None], label[None])[0].sigmoid().item()
        object_box = torch.tensor([truth or (0, 0, 0, 0)]).float()
        iou = pairwise_iou(box[None], object_box).item()
        cls -= w_cls * (iou * math.log(p) + (1 - iou) * math.log(1 - p))
    torch.testing.assert_close(found.item(), 4 / 5 / 9 * cls, rtol=1e-5, atol=1e-6)


def test_each_box_is_looked_at_once_in_training():
    stage = build()
    seen = rows_of_heads(stage)
    refined = []
    stage.heads.refinement.register_forward_pre_hook(lambda _, given: refined.append(len(given[0])))
    stage.losses(features(), CLUSTERS, TARGETS)
    assert seen == [6]
    assert refined == [4]


def test_beta_can_be_fixed():
    ratio, fixed = (
        build(beta=beta).losses(features(), CLUSTERS, TARGETS) for beta in ("ratio", 1.0)
    )
    torch.testing.assert_close(ratio["loss_stage_cls"], 0.8 * fixed["loss_stage_cls"])


def test_the_gradient_reaches_the_backbone_through_the_features_alone():
    levels = features(requires_grad=True)
    stage = build()
    losses = stage.losses(levels, CLUSTERS, TARGETS)
    sum(losses.values()).backward()
    assert levels["0"].grad is not None
    assert levels["0"].grad.abs().sum() > 0
    assert levels["pool"].grad is None


def test_no_candidate_gives_differentiable_zeros_and_no_detection():
    stage, none = build(), cluster(make([], [], num_images=2))
    losses = stage.losses(features(), none, TARGETS)
    sum(losses.values()).backward()
    assert [loss.item() for loss in losses.values()] == [0, 0]
    assert stage.detect(features(), SIZES, none, 100).boxes.shape == (0, 4)


def test_no_object_trains_on_negatives():
    losses = build().losses(features(), CLUSTERS, truths([], num_images=2))
    assert losses["loss_stage_cls"] > 0
    assert losses["loss_stage_loc"] == 0


def test_without_fusion_and_relocation_detections_are_those_of_nms():
    stage = build(fusion=(1, 0, 0), relocation=False)
    found, kept = stage.detect(features(), SIZES, CLUSTERS, 2), keep_keys(CLUSTERS, 2)[0]
    assert torch.equal(found.boxes, kept.boxes)
    assert torch.equal(found.scores, kept.scores)
    assert found.source.tolist() == kept.source.tolist() == [0, 3, 4]


@torch.no_grad()
def test_scores_and_boxes_of_detections_are_what_the_paper_says():
    stage = build(fusion=(0.5, 0.3, 0.2))
    # This moves every box to the right by its width.
    stage.heads.refinement.bias.copy_(torch.tensor([10.0, 0, 0, 0]))
    found = stage.detect(features(), SIZES, CLUSTERS, 100)
    kept, chosen = keep_keys(CLUSTERS, 100)
    union = representative_boxes(CLUSTERS)[chosen]
    s_obj = stage(features(), kept.boxes, kept.image, kept.labels)[0].sigmoid()
    s_clu = stage(features(), union, kept.image, kept.labels)[0].sigmoid()
    expected = 0.5 * kept.scores + 0.3 * s_clu + 0.2 * s_obj
    order = sorted(range(4), key=lambda i: (int(kept.image[i]), -float(expected[i])))
    torch.testing.assert_close(found.scores, expected[order])
    by_source = {
        (int(i), int(s)): box
        for i, s, box in zip(found.image, found.source, found.boxes, strict=True)
    }
    torch.testing.assert_close(
        by_source[0, 0][[0, 2]], torch.tensor([20.0, 40.0]), rtol=0, atol=0.3
    )
    torch.testing.assert_close(
        by_source[0, 2][[0, 2]], torch.tensor([60.0, 80.0]), rtol=0, atol=0.3
    )
    assert by_source[0, 2][2] <= 80


def test_a_key_alone_in_its_cluster_is_looked_at_once():
    stage = build().eval()
    seen = rows_of_heads(stage)
    stage.detect(features(), SIZES, CLUSTERS, 100)
    assert seen == [4 + 1]


def test_without_representative_rows_the_cluster_score_is_that_of_the_key():
    stage = build(fusion=(0, 1, 0), representative_rows=False)
    other = build(fusion=(0, 0, 1), representative_rows=False)
    assert torch.equal(
        stage.detect(features(), SIZES, CLUSTERS, 9).scores,
        other.detect(features(), SIZES, CLUSTERS, 9).scores,
    )


@pytest.mark.parametrize("encoding", ["add", "none"])
def test_what_does_not_fit_the_candidates_is_named(encoding):
    stage = build(encoding=encoding)
    with pytest.raises(ValueError, match="sizes: expected 2 images as the candidates have, got 1"):
        stage.detect(features(), SIZES[:1], CLUSTERS, 100)
    one = truths([(0, 0, 9, 9)], num_images=1)
    with pytest.raises(ValueError, match=r"targets: expected 2 images .*, got 1"):
        stage.losses(features(), CLUSTERS, one)
    # Labels that count from 1, as those of torchvision do.
    wrong = derive(CANDIDATES, labels=CANDIDATES.labels + stage.num_classes)
    message = f"labels: expected values from 0 to {stage.num_classes - 1}, got"
    for call in (
        lambda: stage.losses(features(), cluster(wrong), TARGETS),
        lambda: stage.judge(features(), SIZES, cluster(wrong)),
    ):
        with pytest.raises(ValueError, match=message):
            call()
