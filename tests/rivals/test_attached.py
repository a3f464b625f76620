"""Heads and suppressors on a detector: columns, rows, losses, and what is trained."""

import copy

import pytest
import torch

from postnms.detectors import Detector, attach
from postnms.errors import UserError
from postnms.rivals import CandidateHeads, DensityHeadConfig, HeadsConfig, IoUHeadConfig
from postnms.structures import Level, rescale
from postnms.suppression import get_suppressor
from tests.support.detectors import STAGE, TARGETS, TWO, network_of_case

BOTH = HeadsConfig(
    iou=IoUHeadConfig(width=16, refine_steps=2), density=DensityHeadConfig(width=16), samples=32
)
NAMES = ("nms", "soft_nms_linear", "iou_guided_nms", "iou_net", "adaptive_nms", "post_nms")


def build(name="faster_rcnn", stage=STAGE, heads=BOTH, suppressors=("soft_nms_linear",), **options):
    torch.manual_seed(0)
    network = copy.deepcopy(network_of_case(name, 0))
    return attach(network, stage, heads=heads, suppressors=suppressors, **options)


def seeded():
    return [torch.Generator().manual_seed(i) for i in range(len(TWO))]


@pytest.mark.parametrize("name", ["faster_rcnn", "retinanet", "cascade_rcnn"])
def test_rows_are_those_of_the_suppressors_on_the_columns(name):
    detector = build(name).eval()
    assert detector.row_names == NAMES
    with torch.no_grad():
        rows = detector(TWO).rows
    assert tuple(rows) == NAMES
    batch = detector.network.prepare(TWO)
    features = detector.network.features(batch)
    candidates, _ = detector.network.candidates(features, batch)
    judged = detector.heads.judge(features, candidates)
    assert set(judged.extra) == {*candidates.extra, "iou", "density"}
    where = (candidates.boxes, candidates.image, candidates.labels)
    with torch.no_grad():
        torch.testing.assert_close(judged.extra["iou"], detector.heads.iou(features, *where))
    for row in ("soft_nms_linear", "iou_guided_nms", "adaptive_nms"):
        limits = {"max_detections": detector.network.max_detections}
        suppressor = get_suppressor(row).model_copy(update=limits)
        expected = rescale(suppressor(judged), batch.from_given, undo=True)
        assert len(rows[row].scores) > 2
        assert torch.equal(rows[row].scores, expected.scores)
        assert torch.equal(rows[row].boxes, expected.boxes)


def test_the_other_rows_are_those_of_a_detector_without_heads():
    with_heads = build().eval()
    bare = Detector(with_heads.network, with_heads.stage)
    with torch.no_grad():
        rows, expected = with_heads(TWO).rows, bare.eval()(TWO).rows
    for name in ("nms", "post_nms"):
        assert torch.equal(rows[name].scores, expected[name].scores)
        assert torch.equal(rows[name].boxes, expected[name].boxes)


def test_a_trace_has_the_columns_of_the_heads_and_of_the_stage():
    trace = build().trace(TWO)
    assert {"iou", "density", "refined_boxes"} <= set(trace.candidates.extra)
    assert tuple(trace.rows) == NAMES


def test_losses_of_the_heads_add_to_those_of_the_detector():
    detector = build().train()
    losses = detector(TWO, TARGETS, generators=seeded()).losses
    without = build(heads=None).train()  # Its network and stage have the same weights.
    expected = without(TWO, TARGETS, generators=seeded()).losses
    assert set(losses) - set(expected) == {"loss_iou", "loss_density"}
    sum(losses.values()).backward()
    for head in detector.heads.columns.values():
        assert all(p.grad.abs().sum() > 0 for p in head.parameters())


def test_a_frozen_detector_trains_its_heads_and_its_stage():
    detector = build(frozen=True).train()
    losses = detector(TWO, TARGETS, generators=seeded()).losses
    assert set(losses) == {"loss_stage_cls", "loss_stage_loc", "loss_iou", "loss_density"}
    sum(losses.values()).backward()
    trained = {name.split(".")[0] for name, p in detector.named_parameters() if p.requires_grad}
    assert trained == {"stage", "heads"}


def test_heads_alone_are_trained_where_the_stage_is_frozen_too():
    detector = build()
    detector.freeze(stage=True)
    detector.train()
    assert not detector.stage.training
    losses = detector(TWO, TARGETS, generators=seeded()).losses
    assert set(losses) == {"loss_iou", "loss_density"}
    trained = {name.split(".")[0] for name, p in detector.named_parameters() if p.requires_grad}
    assert trained == {"heads"}
    assert tuple(detector.eval()(TWO).rows) == NAMES


def test_a_bare_frozen_detector_trains_heads():
    detector = build(stage=None, frozen=True).train()
    losses = detector(TWO, TARGETS, generators=seeded()).losses
    assert set(losses) == {"loss_iou", "loss_density"}


def test_images_without_objects_give_losses_of_zero():
    detector = build(stage=None, frozen=True).train()
    nothing = [
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)} for _ in TWO
    ]
    losses = detector(TWO, nothing, generators=seeded()).losses
    assert [loss.item() for loss in losses.values()] == [0, 0]
    sum(losses.values()).backward()


def test_no_candidates_give_empty_rows():
    detector = build(stage=None).eval()
    detector.network.roi_heads.score_thresh = 1.0
    rows = detector(TWO).rows
    assert all(len(row.scores) == 0 for row in rows.values())


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="rows of different names"):
        build(suppressors=("iou_guided_nms",))
    with pytest.raises(ValueError, match="rows of different names"):
        build(suppressors=("nms:iou=0.6",))
    with pytest.raises(ValueError, match="different names"):
        build(suppressors=("soft_nms_linear", "soft_nms_linear:iou=0.3"))
    with pytest.raises(UserError, match="no 'soft'"):
        build(suppressors=("soft",))
    with pytest.raises(ValueError, match="without them there is nothing to train"):
        build(heads=None).freeze(stage=True)
    message = r"^heads: expected .* levels have equal numbers of channels, got \[4, 8\]$"
    with pytest.raises(UserError, match=message):
        CandidateHeads(BOTH, {"0": Level(4, 4), "1": Level(8, 8)}, 3)


def test_outputs_that_are_not_finite_are_named():
    detector = build().eval()
    torch.nn.init.constant_(detector.heads.iou.output.bias, float("nan"))
    with pytest.raises(UserError, match=r"heads: .*iou"):
        detector(TWO)
