"""PISA: ranks, weights and losses, by hand and against plain loops."""

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from postnms.boxes import paired_iou
from postnms.detectors.image_batch import to_network
from postnms.detectors.parts import box_head
from postnms.detectors.parts.classes import truths_of
from postnms.detectors.parts.pisa import (
    PISAConfig,
    carl_weights,
    hierarchical_ranks,
    importance_of_negatives,
    importance_of_positives,
    keep_totals,
    pisa_losses,
    powered,
)
from postnms.detectors.parts.proposals import propose
from postnms.distributed.collectives import settle
from tests.support.builders import truths
from tests.support.detectors import TARGETS, TWO, build

EQUAL = PISAConfig(positive_k=0.0, negative_k=0.0, carl_k=0.0)
"""All samples weigh the same."""


def loop_ranks(values, groups, sections):
    """Hierarchical local ranks, as their definition reads."""
    ranks = {}
    for section in set(sections):
        rows = [row for row, own in enumerate(sections) if own == section]
        local = {}
        for row in rows:
            mates = [other for other in rows if groups[other] == groups[row]]
            mates.sort(key=lambda other: (-values[other], other))
            local[row] = mates.index(row)
        rows.sort(key=lambda row: (local[row], -values[row], row))
        ranks |= {row: rank for rank, row in enumerate(rows)}
    return [ranks[row] for row in range(len(values))]


def test_the_best_of_every_object_come_first():
    iou = torch.tensor([0.6, 0.9, 0.8, 0.7, 0.5, 0.55, 0.95])
    truth = torch.tensor([0, 0, 1, 0, 1, 2, 3])
    labels = torch.tensor([1, 1, 1, 1, 1, 2, 1])
    image = torch.tensor([0, 0, 0, 0, 0, 0, 1])
    ranks = hierarchical_ranks(iou, truth, image * 3 + labels)
    assert ranks.tolist() == [4, 0, 1, 2, 3, 0, 0]
    # The largest class of image 0 has five boxes, that of image 1 has one.
    found = importance_of_positives(iou, truth, labels, image, 2, 3)
    assert found.tolist() == pytest.approx([0.2, 1.0, 0.8, 0.6, 0.4, 1.0, 1.0])


def test_negatives_that_hardly_score_are_like_the_last_that_is_ranked():
    scores = torch.tensor([0.9, 0.02, 0.5, 0.8, 0.04, 0.01, 0.03])
    clusters = torch.tensor([0, 0, 1, 0, 2, 3, 4])
    image = torch.tensor([0, 0, 0, 0, 0, 1, 1])
    found = importance_of_negatives(scores, clusters, image, 2, 0.05)
    # Ranks 0, 1 and 2 of five; nothing of image 1 is ranked.
    assert found.tolist() == pytest.approx([1.0, 0.6, 0.8, 0.6, 0.6, 1.0, 1.0])
    all_ranked = importance_of_negatives(scores, clusters, image, 2, 0.0)
    assert all_ranked.tolist() == pytest.approx([1.0, 0.2, 0.8, 0.4, 0.6, 0.5, 1.0])


@pytest.mark.parametrize("seed", range(5))
def test_ranks_are_those_of_plain_loops(seed):
    random = torch.Generator().manual_seed(seed)
    # Few values, so that many are equal.
    values = torch.randint(6, (60,), generator=random) / 6
    groups = torch.randint(12, (60,), generator=random)
    sections = groups // 4
    expected = loop_ranks(values.tolist(), groups.tolist(), sections.tolist())
    assert hierarchical_ranks(values, groups, sections).tolist() == expected


def test_weights_by_hand():
    found = powered(torch.tensor([0.0, 0.5, 1.0]), 2.0, 0.2)
    assert found.tolist() == pytest.approx([0.04, 0.36, 1.0])
    image = torch.tensor([0, 0, 1, 2])
    losses = torch.tensor([1.0, 3.0, 5.0, 0.0])
    kept = keep_totals(torch.tensor([1.0, 0.5, 0.1, 0.7]), losses, image, 4)
    # 4 / 2.5, and a box that is alone keeps its loss; without a loss there is no factor.
    assert kept.tolist() == pytest.approx([1.6, 0.8, 1.0, 0.7])


def test_weights_of_locations_have_the_mean_1_in_each_image():
    scores = torch.tensor([0.9, 0.1, 0.4])
    found = carl_weights(scores, torch.tensor([0, 0, 2]), 3, PISAConfig())
    first, second = 0.2 + 0.8 * 0.9, 0.2 + 0.8 * 0.1
    mean = (first + second) / 2
    assert found.tolist() == pytest.approx([first / mean, second / mean, 1.0])


@pytest.mark.parametrize("k", [0.5, 1.0, 2.0])
def test_gradients_flow_into_the_scores(k):
    scores = torch.tensor([0.9, 0.1, 0.4, 0.3], dtype=torch.float64, requires_grad=True)
    losses = torch.tensor([2.0, 1.0, 0.5, 3.0], dtype=torch.float64)
    image = torch.tensor([0, 0, 0, 2])
    config = PISAConfig(carl_k=k)

    def loss(values):
        return carl_weights(values, image, 3, config) * losses

    assert torch.autograd.gradcheck(loss, (scores,))
    loss(scores).sum().backward()
    # A box that lies badly among its mates gets a lower score, and one that lies well a higher one.
    assert scores.grad[0] > 0
    assert scores.grad[2] < 0
    assert scores.grad[3].item() == pytest.approx(0, abs=1e-12)  # Alone in its image.


def situation(targets=TARGETS, **changes):
    """A head, its outputs, and the sample that it is trained on."""
    network = build("faster_rcnn", None, **changes).eval().network
    batch = network.prepare(TWO)
    with torch.no_grad():
        features = network.features(batch)
    truth = truths_of(to_network(targets, batch, 3), network.classes)
    torch.manual_seed(0)
    proposals, _ = propose(network.rpn, batch, features, truth)
    sample = box_head.sample_boxes(network.roi_heads, proposals, truth, None)
    predictions = network._predict(features, sample.boxes, keep_hidden=False)
    for output in (predictions.logits, predictions.deltas):
        output.retain_grad()
    return network.roi_heads, predictions, sample, truth, batch


def losses_of(case, config=None, beta=0.5):
    head, predictions, sample, truth, batch = case
    for output in (predictions.logits, predictions.deltas):
        output.grad = None
    if config is None:
        pair = box_head.head_losses(predictions, sample, beta)
    else:
        pair = pisa_losses(head, predictions, sample, truth, batch, config, beta)
    return settle(dict(zip(("cls", "loc"), pair, strict=True)), torch.device("cpu"))


def loop_losses(case, config, beta):
    """The losses of PISA in plain loops over images and boxes."""
    head, predictions, sample, truth, batch = case
    totals = {"cls": 0.0, "loc": 0.0}
    start = count = 0
    for image, boxes in enumerate(sample.boxes):
        rows = range(start, start + len(boxes))
        start += len(boxes)
        labels = dict(zip(rows, sample.labels[image].tolist(), strict=True))
        matches = dict(zip(rows, sample.matches[image].tolist(), strict=True))
        targets = dict(zip(rows, sample.deltas[image], strict=True))
        losses = {
            row: F.cross_entropy(predictions.logits[row], torch.tensor(labels[row])).item()
            for row in rows
        }
        scores = predictions.logits.softmax(dim=1)
        positive = [row for row in rows if labels[row] > 0]
        negative = [row for row in rows if labels[row] == 0]
        count += len(positive) + len(negative)

        def moved(row, output):
            pair = torch.tensor([row]), torch.tensor([output])
            return box_head.decode_boxes(head, predictions, *pair, batch)[0]

        weights = {}
        iou = [
            paired_iou(moved(r, labels[r]), truth[image]["boxes"][matches[r]]).item()
            for r in positive
        ]
        classes = [labels[row] for row in positive]
        ranks = loop_ranks(iou, [matches[row] for row in positive], classes)
        most = max((classes.count(label) for label in classes), default=0)
        for row, rank in zip(positive, ranks, strict=True):
            importance = (most - rank) / most
            weights[row] = ((1 - config.positive_bias) * importance + config.positive_bias) ** (
                config.positive_k
            )
        best = {row: scores[row, 1:].max(dim=0) for row in negative}
        order = sorted(negative, key=lambda row: (-best[row].values.item(), row))
        keys, cluster, places = [], {}, {r: moved(r, best[r].indices.item() + 1) for r in order}
        for row in order:
            overlapping = [
                key
                for key in keys
                if paired_iou(places[key], places[row]) > config.negative_iou_threshold
            ]
            cluster[row] = overlapping[0] if overlapping else row
            keys += [] if overlapping else [row]
        ranked = [r for r in negative if best[r].values > config.negative_score_threshold]
        values = [best[row].values.item() for row in ranked]
        ranks = loop_ranks(values, [cluster[row] for row in ranked], [0] * len(ranked))
        rank_of = dict(zip(ranked, ranks, strict=True))
        for row in negative:
            rank = rank_of.get(row, max(len(ranked) - 1, 0))
            importance = (len(negative) - rank) / len(negative)
            weights[row] = ((1 - config.negative_bias) * importance + config.negative_bias) ** (
                config.negative_k
            )
        for part in (positive, negative):
            before = sum(losses[row] for row in part)
            after = sum(losses[row] * weights[row] for row in part)
            totals["cls"] += sum(losses[r] * weights[r] * before / after for r in part)
        sure = {
            row: ((1 - config.carl_bias) * scores[row, labels[row]].item() + config.carl_bias)
            ** config.carl_k
            for row in positive
        }
        for row in positive:
            deltas = predictions.deltas[row].view(-1, 4)[labels[row]]
            location = F.smooth_l1_loss(deltas, targets[row], beta=beta, reduction="sum").item()
            totals["loc"] += location * sure[row] * len(positive) / sum(sure.values())
    return {name: total / count for name, total in totals.items()}, weights


OTHER = PISAConfig(
    positive_k=1.5,
    positive_bias=0.1,
    negative_k=1.0,
    negative_bias=0.3,
    negative_iou_threshold=0.3,
    negative_score_threshold=0.6,
    carl_k=2.0,
    carl_bias=0.5,
)


@pytest.mark.parametrize("config", [PISAConfig(), OTHER], ids=["defaults", "others"])
def test_the_losses_are_those_of_plain_loops(config):
    case = situation()
    found = losses_of(case, config)
    expected, _ = loop_losses(case, config, 0.5)
    assert (torch.cat(case[2].labels) > 0).sum() > 5
    assert found["cls"].item() == pytest.approx(expected["cls"], rel=1e-4)
    assert found["loc"].item() == pytest.approx(expected["loc"], rel=1e-4)
    # The weights of the last image, from the gradient of its logits.
    plain = losses_of(case)
    gradients = []
    for losses in (found, plain):
        case[1].logits.grad = None
        losses["cls"].backward(retain_graph=True)
        gradients.append(case[1].logits.grad.abs().sum(dim=1))
    _, weights = loop_losses(case, config, 0.5)
    rows = [row for row in weights if row >= len(case[2].boxes[0])]
    ratios = gradients[0] / gradients[1]
    labels = torch.cat(case[2].labels)
    for of_part in (labels > 0, labels == 0):
        part = [row for row in rows if of_part[row]]
        wanted = torch.tensor([weights[row] for row in part])
        torch.testing.assert_close(
            ratios[part] / ratios[part].max(), wanted / wanted.max(), rtol=1e-3, atol=1e-5
        )


def test_the_totals_of_the_classes_stay_and_the_gradients_differ():
    case = situation()
    plain, found = losses_of(case), losses_of(case, PISAConfig())
    assert found["cls"].item() == pytest.approx(plain["cls"].item(), rel=1e-5)
    assert found["loc"].item() != pytest.approx(plain["loc"].item(), rel=1e-3)
    plain["loc"].backward(retain_graph=True)
    assert case[1].logits.grad is None
    found["loc"].backward(retain_graph=True)
    assert case[1].logits.grad.abs().sum() > 0
    found["cls"].backward()
    assert torch.isfinite(case[1].logits.grad).all()


@pytest.mark.parametrize("changes", [{}, {"box_coding": "edges", "box_loss": "kl"}])
def test_with_powers_of_0_nothing_changes(changes):
    case = situation(**changes)
    plain, found = losses_of(case), losses_of(case, EQUAL)
    for term in plain:
        torch.testing.assert_close(found[term], plain[term], rtol=1e-5, atol=1e-7)


def test_images_without_objects_and_without_anything():
    empty = situation(truths([], num_images=2))
    plain, found = losses_of(empty), losses_of(empty, PISAConfig())
    assert found["loc"] == 0
    assert found["cls"].item() == pytest.approx(plain["cls"].item(), rel=1e-5)
    (found["cls"] + found["loc"]).backward()
    head, predictions, sample, truth, batch = situation()
    nothing = {
        field.name: [part[:0] for part in getattr(sample, field.name)]
        for field in dataclasses.fields(sample)
    }
    sample = box_head.HeadSample(**nothing)
    predictions = box_head.Predictions(
        sample.boxes, None, predictions.logits[:0], predictions.deltas[:0]
    )
    pair = pisa_losses(head, predictions, sample, truth, batch, PISAConfig(), 0.5)
    found = settle(dict(zip("ab", pair, strict=True)), torch.device("cpu"))
    assert found["a"] == found["b"] == 0


def test_one_positive_weighs_as_without():
    head, predictions, sample, truth, batch = situation()
    labels = torch.cat(sample.labels)
    first = int((labels > 0).nonzero()[0])
    # Others are not trained on, so a batch of one positive and the negatives is left.
    labels = torch.where((labels > 0) & (torch.arange(len(labels)) != first), -1, labels)
    parts = list(labels.split([len(part) for part in sample.labels]))
    case = head, predictions, dataclasses.replace(sample, labels=parts), truth, batch
    plain, found = losses_of(case), losses_of(case, PISAConfig())
    for term in plain:
        torch.testing.assert_close(found[term], plain[term], rtol=1e-5, atol=1e-7)


def test_outputs_that_are_not_finite_reach_the_losses():
    head, predictions, sample, truth, batch = situation()
    for name in ("logits", "deltas"):
        broken = dataclasses.replace(
            predictions, **{name: torch.full_like(getattr(predictions, name), torch.nan)}
        )
        pair = pisa_losses(head, broken, sample, truth, batch, PISAConfig(), 0.5)
        found = settle(dict(zip(("logits", "deltas"), pair, strict=True)), torch.device("cpu"))
        assert torch.isnan(found[name])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_detector_trains_with_it_and_detects_as_without(dtype):
    plain, detector = (build("faster_rcnn", None, pisa=pisa) for pisa in (None, PISAConfig()))
    with torch.no_grad():
        rows = [part.eval()(TWO).rows["nms"] for part in (plain, detector)]
    assert torch.equal(rows[0].boxes, rows[1].boxes)
    assert torch.equal(rows[0].scores, rows[1].scores)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        losses = detector.train()(TWO, TARGETS).losses
    assert all(loss.dtype == torch.float32 and torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in detector.parameters())
