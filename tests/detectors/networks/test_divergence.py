"""A detector whose weights have diverged says which output is not finite, and gives no rows."""

import pytest
import torch

from postnms.errors import UserError
from postnms.stage import StageConfig
from tests.support.detectors import CASES, TARGETS, TWO, build

PARTS = {
    "faster_rcnn": {
        "rpn.head.cls_logits": "proposal network: objectness",
        "rpn.head.bbox_pred": "proposal network: box deltas",
        "roi_heads.box_predictor.cls_score": "box head: class logits",
        "roi_heads.box_predictor.bbox_pred": "box head: box deltas",
    },
    "cascade_rcnn": {
        "rpn.head.bbox_pred": "proposal network: box deltas",
        "heads.0.box_predictor.bbox_pred": "box head 1: box deltas",
        "heads.1.box_predictor.cls_score": "box head 2: class logits",
        "heads.2.box_predictor.bbox_pred": "box head 3: box deltas",
    },
    "retinanet": {
        "head.classification_head.cls_logits": "dense head: cls_logits",
        "head.regression_head.bbox_reg": "dense head: bbox_regression",
    },
    "fcos": {
        "head.classification_head.cls_logits": "dense head: cls_logits",
        "head.regression_head.bbox_ctrness": "dense head: bbox_ctrness",
    },
    "ssdlite": {
        "head.classification_head.module_list.1.1": "dense head: cls_logits",
        "head.regression_head.module_list.0.1": "dense head: bbox_regression",
    },
}
"""What is said of a layer that gives no finite values, by the kind of detector."""
LAYERS = [(name, layer, said) for name, part in PARTS.items() for layer, said in part.items()]


@pytest.mark.parametrize(("name", "layer", "said"), LAYERS)
@torch.no_grad()
def test_the_output_that_is_not_finite_is_named(name, layer, said):
    detector = build(name, None).eval()
    detector.network.get_submodule(layer).bias.fill_(torch.inf)
    with pytest.raises(UserError, match=rf"^{said}: \d+ of \d+ outputs are NaN or infinite: the "):
        detector(TWO)


@pytest.mark.parametrize("name", PARTS)
@torch.no_grad()
def test_a_backbone_that_is_not_finite_is_named(name):
    detector = build(name, None).eval()
    next(detector.network.backbone.parameters()).fill_(torch.nan)
    with pytest.raises(UserError, match=r"^backbone: feature map '0': (\d+) of \1 outputs are NaN"):
        detector(TWO)
    whole = build(name, None).eval()
    with pytest.raises(UserError, match=r"^images.1.: expected finite pixels, got NaN"):
        whole([TWO[0], TWO[1] * torch.nan])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("part", ["objectness", "refinement"])
@torch.no_grad()
def test_the_stage_is_named(name, part):
    detector = build(name).eval()
    detector.stage.heads.get_submodule(part).weight.fill_(torch.nan)
    with pytest.raises(
        UserError, match=rf"^stage: {part}: (\d+) of \1 outputs are NaN or infinite"
    ):
        detector(TWO)


@torch.no_grad()
def test_a_refinement_that_is_not_used_is_not_asked_to_be_finite():
    detector = build("faster_rcnn", StageConfig(width=16, relocation=False)).eval()
    expected = detector(TWO).rows["post_nms"]
    detector.stage.heads.refinement.bias.fill_(torch.nan)
    assert torch.equal(detector(TWO).rows["post_nms"].scores, expected.scores)


def is_finite_or_named(detector):
    """Whether the detector gives finite rows, or says which output is not finite."""
    try:
        rows = detector(TWO[:1]).rows
    except UserError as error:
        return "outputs are NaN or infinite" in str(error)
    return all(torch.isfinite(row.boxes).all() for row in rows.values()) and all(
        torch.isfinite(row.scores).all() for row in rows.values()
    )


@pytest.mark.parametrize("name", ["faster_rcnn", "retinanet"])
@torch.no_grad()
def test_huge_weights_of_a_layer_end_in_no_other_error(name):
    detector = build(name).eval()
    for part, parameter in detector.named_parameters():
        if "backbone.body" in part or part.endswith("bias"):
            continue
        before = parameter.clone()
        parameter.fill_(1e30)
        assert is_finite_or_named(detector), part
        parameter.copy_(before)


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_huge_weights_of_a_whole_stage_are_named(name):
    detector = build(name).eval()
    for parameter in detector.stage.parameters():
        parameter.fill_(1e30)
    with pytest.raises(UserError, match=r"^stage: objectness: .* are NaN or infinite"):
        detector(TWO)


@pytest.mark.parametrize("name", PARTS)
@torch.no_grad()
def test_huge_weights_of_a_whole_network_are_named(name):
    detector = build(name).eval()
    for parameter in detector.network.parameters():
        parameter.fill_(1e30)
    with pytest.raises(UserError, match=r"^backbone: feature map '0': .* are NaN or infinite"):
        detector(TWO)


@pytest.mark.parametrize("name", PARTS)
def test_in_training_the_losses_name_it(name):
    detector = build(name).train()
    with torch.no_grad():
        detector.network.get_submodule(next(iter(PARTS[name]))).bias.fill_(torch.nan)
    losses = detector(TWO, TARGETS).losses
    assert any(torch.isnan(loss) for loss in losses.values())
    with pytest.raises(UserError, match=rf"^{next(iter(PARTS[name].values()))}: "):
        detector(TWO, TARGETS, detect=True)
