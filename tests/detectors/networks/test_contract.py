"""What every detector keeps to, torchvision's and the example of the documents included."""

import dataclasses

import pytest
import torch

from postnms.detectors import Selection
from postnms.detectors.image_batch import to_network
from postnms.errors import UserError
from postnms.stage import StageConfig
from postnms.structures import Targets
from tests.support.builders import truths
from tests.support.detectors import (
    CASES,
    STAGE,
    TARGETS,
    TWO,
    as_dicts,
    build,
    freeze_statistics,
    images,
)

pytestmark = pytest.mark.parametrize("name", CASES)
BOTH = pytest.mark.parametrize("stage", [None, STAGE], ids=["bare", "stage"])


def has_stage_losses(losses):
    return {"loss_stage_cls", "loss_stage_loc"} <= losses.keys()


@BOTH
def test_losses_with_targets_and_rows_without(name, stage):
    detector = build(name, stage)
    losses = detector.train()(TWO, TARGETS).losses
    assert has_stage_losses(losses) == (stage is not None)
    assert len(losses) > 2 * (stage is not None)
    assert all(loss.ndim == 0 and torch.isfinite(loss) and loss >= 0 for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in detector.parameters() if p.requires_grad)
    with torch.no_grad():
        rows = detector.eval()(TWO).rows
    assert list(rows) == ["nms", *["post_nms"] * (stage is not None)]
    for row in rows.values():
        assert len(row.scores) > 10
        assert set(row.labels.tolist()) <= {0, 1, 2}
        assert set(row.image.tolist()) == {0, 1}
        height, width = torch.tensor([[100, 130], [150, 110]])[row.image].T
        assert (row.boxes >= 0).all()
        assert (row.boxes[:, 2] <= width + 1e-3).all()
        assert (row.boxes[:, 3] <= height + 1e-3).all()
    both = detector(TWO, TARGETS, detect=True)
    assert both.losses.keys() == losses.keys()
    assert list(both.rows) == list(rows)


@BOTH
def test_images_without_objects_or_with_crowds_alone(name, stage):
    detector = build(name, stage).train()
    for targets in (
        truths([], num_images=2),
        truths([(10, 10, 60, 70)], [0], [1], [True], num_images=2),
    ):
        losses = detector(TWO, targets).losses
        assert all(torch.isfinite(loss) for loss in losses.values())
        sum(losses.values()).backward()


@BOTH
def test_no_candidate_at_all(name, stage):
    silent = None if stage is None else StageConfig(width=16, score_threshold=1.0)
    detector = build(name, silent)
    losses = detector.train()(TWO, TARGETS).losses
    if stage is not None:
        assert losses["loss_stage_cls"] == losses["loss_stage_loc"] == 0
    sum(losses.values()).backward()
    for parameter in detector.stage.parameters() if detector.stage else ():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() == 0
    silence(detector.network)
    with torch.no_grad():
        assert all(
            len(row.scores) == 0 and row.num_images == 2
            for row in detector.eval()(TWO).rows.values()
        )


def silence(network):
    """No score is over 1."""
    if hasattr(network, "settings"):
        network.settings = dataclasses.replace(network.settings, score_thresh=1.0)
    elif hasattr(network, "rpn"):
        for head in getattr(network, "heads", [getattr(network, "roi_heads", None)]):
            head.score_thresh = 1.0
    else:
        network.score_threshold = 1.0


@BOTH
@torch.no_grad()
def test_one_huge_image_beside_a_tiny_one(name, stage):
    detector = build(name, stage).eval()
    rows = detector([*images((1500, 2100)), torch.zeros(3, 1, 1)]).rows
    for row in rows.values():
        assert row.num_images == 2
        assert torch.isfinite(row.boxes).all()
        huge = row.boxes[row.image == 0]
        assert len(huge) > 0
        # Boxes are in pixels of the image as given, not of the network's input.
        assert huge[:, 2].max() > 300


@torch.no_grad()
def test_bytes_are_fractions_of_255(name):
    detector = build(name).eval()
    given = (TWO[0] * 255).to(torch.uint8)
    first, second = detector([given]).rows["post_nms"], detector([given / 255]).rows["post_nms"]
    assert torch.equal(first.boxes, second.boxes)
    assert torch.equal(first.scores, second.scores)


@torch.no_grad()
def test_an_image_gives_the_same_alone_and_in_a_batch(name):
    detector = build(name).eval()
    one = images((96, 128))[0]
    alone, together = detector([one]).rows["nms"], detector([one, one]).rows["nms"]
    for index in range(2):
        mine = together.image == index
        torch.testing.assert_close(together.scores[mine], alone.scores, rtol=1e-4, atol=1e-5)
        # Scores nearly tie, so the order of the boxes may differ.
        mine, theirs = together.boxes[mine].sort(dim=0).values, alone.boxes.sort(dim=0).values
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-2)


def test_the_stage_does_not_change_the_detectors_own_losses(name):
    bare, joint = build(name, None).train(), build(name).train()
    joint.network.load_state_dict(bare.network.state_dict())
    torch.manual_seed(1)
    expected = bare(TWO, TARGETS).losses
    torch.manual_seed(1)
    found = joint(TWO, TARGETS).losses
    assert found.keys() - expected.keys() == {"loss_stage_cls", "loss_stage_loc"}
    for term, loss in expected.items():
        torch.testing.assert_close(found[term], loss, rtol=1e-5, atol=1e-6)


def test_the_stages_gradient_reaches_no_head(name):
    detector = build(name, StageConfig(width=16, positive_iou=0.01)).train()
    losses = detector(TWO, TARGETS).losses
    (losses["loss_stage_cls"] + losses["loss_stage_loc"]).backward()
    reached = {
        part
        for part, p in detector.named_parameters()
        if p.grad is not None and p.grad.abs().sum() > 0
    }
    heads = (
        "network.rpn",
        "network.roi_heads",
        "network.heads",
        "network.head",
        "network.scores",
        "network.sides",
    )
    assert not any(part.startswith(heads) for part in reached)
    assert any(part.startswith(("network.backbone", "network.body")) for part in reached)
    assert any(part.startswith("stage.heads.refinement_trunk") for part in reached)


def test_draws_come_from_the_generators_of_the_images(name):
    detector = build(name).train()
    freeze_statistics(detector)

    def losses(seeds):
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return detector(TWO, TARGETS, generators=generators).losses

    first, again, other = losses([1, 2]), losses([1, 2]), losses([3, 4])
    assert all(torch.equal(first[term], again[term]) for term in first)
    samples = "rcnn" in name
    assert any(not torch.equal(first[term], other[term]) for term in first) == samples


def test_a_frozen_network_is_not_trained_and_the_stage_is(name):
    detector = build(name, frozen=True).train()
    before = {part: value.clone() for part, value in detector.network.state_dict().items()}
    losses = detector(TWO, TARGETS).losses
    assert set(losses) == {"loss_stage_cls", "loss_stage_loc"}
    assert losses["loss_stage_cls"] > 0
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in detector.stage.parameters())
    assert all(p.grad is None and not p.requires_grad for p in detector.network.parameters())
    assert all(
        torch.equal(before[part], value) for part, value in detector.network.state_dict().items()
    )
    with pytest.raises(ValueError, match="frozen: expected a stage"):
        build(name, None, frozen=True)


def test_limits_on_the_candidates_of_training(name):
    network = build(name).eval().network
    batch = network.prepare(TWO)
    features = network.features(batch)
    truth = to_network(TARGETS, batch, 3)
    few, _ = network.candidates(features, batch, truth, Selection(most=5))
    assert torch.bincount(few.image, minlength=2).tolist() == [5, 5]
    more, _ = network.candidates(features, batch, truth, Selection(score_threshold=0.0))
    threshold = float(more.scores.unique().median())
    some, _ = network.candidates(features, batch, truth, Selection(score_threshold=threshold))
    assert 0 < len(some.scores) < len(more.scores)
    assert some.scores.min() > threshold
    pairs = torch.stack([some.image, some.source, some.labels], dim=1)
    assert len(pairs.unique(dim=0)) == len(pairs)
    if "rcnn" not in name:
        with pytest.raises(
            (UserError, ValueError),
            match=r"stage\.candidates: expected 'proposals'.*, got 'sampled'",
        ):
            network.candidates(features, batch, truth, Selection(origin="sampled"))


BAD_IMAGES = [
    ([], "images: expected at least one image"),
    (
        [torch.zeros(1, 9, 9)],
        r"images\[0\]: expected a tensor \(3, height, width\), got \(1, 9, 9\)",
    ),
    (
        [torch.zeros(3, 0, 9)],
        r"images\[0\]: expected a tensor \(3, height, width\), got \(3, 0, 9\)",
    ),
    (
        [torch.zeros(3, 9, 9, dtype=torch.int64)],
        r"images\[0\]: expected uint8 or float in \[0, 1\], got torch.int64",
    ),
    ([[1]], r"images\[0\]: expected a tensor \(3, height, width\), got list"),
]
BAD_TARGETS = [
    (as_dicts(TARGETS, 1), r"targets\[0\]\['labels'\]: expected labels from 0 to 2, got 3"),
    (as_dicts(TARGETS)[:1], "targets: expected 2 images, got 1"),
    ([], "targets: expected one for each image, got none"),
    (as_dicts(TARGETS)[0], "targets: expected postnms.Targets or a list of dicts, got dict$"),
    ([TARGETS, TARGETS], r"targets\[0\]: expected a dict with boxes and labels, got Targets$"),
    (TARGETS.boxes, "targets: expected postnms.Targets or a list of dicts, got Tensor$"),
]


def test_bad_input_is_named(name):
    detector = build(name)
    for given, message in BAD_IMAGES:
        with pytest.raises(ValueError, match=message):
            detector(given)
    for given, message in BAD_TARGETS:
        with pytest.raises(ValueError, match=message):
            detector(TWO, given)
    with pytest.raises(ValueError, match="generators: expected one for each of 2 images, got 1"):
        detector(TWO, TARGETS, generators=[torch.Generator()])
    with pytest.raises(ValueError, match="targets: expected 2 images, got 3"):
        detector(TWO, dataclasses.replace(TARGETS, num_images=3))
    with pytest.raises(ValueError, match=r"targets\.labels: expected 0 to 2, got 3"):
        detector(TWO, dataclasses.replace(TARGETS, labels=TARGETS.labels + 1))
    flat = Targets(
        torch.tensor([[1.0, 1, 1, 5]]),
        torch.tensor([0]),
        torch.tensor([0]),
        torch.tensor([False]),
        2,
    )
    with pytest.raises(
        ValueError, match=r"targets.boxes: expected positive width and height.*row 0"
    ):
        detector(TWO, flat)


def test_bfloat16_keeps_boxes_scores_and_losses_in_float32(name):
    detector = build(name).train()
    with torch.autocast("cpu", torch.bfloat16):
        output = detector(TWO, TARGETS, detect=True)
    assert all(
        loss.dtype == torch.float32 and torch.isfinite(loss) for loss in output.losses.values()
    )
    boxes = output.rows["nms"].boxes
    assert not torch.equal(boxes, boxes.bfloat16().float())


def test_anchors_and_boxes_are_exact_after_half_precision(name):
    """A step in bfloat16 leaves nothing rounded behind: the same detections as before it."""
    detector = build(name).eval()
    with torch.no_grad():
        before = detector(TWO).rows["nms"]
        with torch.autocast("cpu", torch.bfloat16):
            detector(TWO)
        after = detector(TWO).rows["nms"]
    assert torch.equal(before.boxes, after.boxes)
    assert torch.equal(before.scores, after.scores)


def test_outputs_that_are_not_finite_reach_the_losses(name):
    """So that training can name them; no error on the way."""
    detector = build(name).train()
    last = ("bbox_pred", "bbox_reg", "regression_head.module_list", "sides")
    with torch.no_grad():
        for part, parameter in detector.network.named_parameters():
            if any(layer in part for layer in last) and part.endswith("weight"):
                parameter.fill_(torch.nan)
    losses = detector(TWO, TARGETS).losses
    assert any(torch.isnan(loss) for term, loss in losses.items() if "stage" not in term)
