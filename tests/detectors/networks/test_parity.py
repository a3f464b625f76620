"""Without the stage a detector detects what torchvision's does and has the same losses."""

import copy

import pytest
import torch
from torchvision.models.detection import FasterRCNN, RetinaNet

from postnms import from_torchvision
from tests.support.builders import truths
from tests.support.detectors import (
    TARGETS,
    TWO,
    as_dicts,
    build,
    freeze_statistics,
    random_torchvision,
)

SMALL = {"min_size": 96, "max_size": 160}
FEW = {"rpn_post_nms_top_n_test": 80, "rpn_post_nms_top_n_train": 80}
MODELS = {
    "fasterrcnn_resnet50_fpn": {"num_classes": 4, **SMALL, **FEW},
    "fasterrcnn_resnet50_fpn_v2": {"num_classes": 4, **SMALL, **FEW},
    "fasterrcnn_mobilenet_v3_large_fpn": {"num_classes": 4, **SMALL},
    "fasterrcnn_mobilenet_v3_large_320_fpn": {"num_classes": 4, **SMALL},
    "retinanet_resnet50_fpn": {"num_classes": 3, **SMALL, "topk_candidates": 60},
    "retinanet_resnet50_fpn_v2": {"num_classes": 3, **SMALL, "topk_candidates": 60},
    "fcos_resnet50_fpn": {"num_classes": 3, **SMALL},
    "ssd300_vgg16": {"num_classes": 4, "topk_candidates": 60},
    "ssdlite320_mobilenet_v3_large": {"num_classes": 4, "topk_candidates": 60},
}
FIRST_LABEL = {name: int(options["num_classes"] == 4) for name, options in MODELS.items()}


def same_detections(found, expected, first):
    for index, theirs in enumerate(expected):
        mine = found.image == index
        assert len(theirs["scores"]) > 10
        torch.testing.assert_close(found.boxes[mine], theirs["boxes"], rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(found.scores[mine], theirs["scores"], rtol=1e-4, atol=1e-5)
        assert torch.equal(found.labels[mine] + first, theirs["labels"])


def same_losses(mine, theirs):
    theirs = {
        name if name.startswith("loss") else f"loss_{name}": loss for name, loss in theirs.items()
    }
    assert mine.keys() == theirs.keys()
    for name, loss in theirs.items():
        assert loss > 0
        torch.testing.assert_close(mine[name], loss, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module", params=MODELS)
def built(request):
    """The name of a model of torchvision, and the model; tests copy it."""
    return request.param, random_torchvision(request.param, **MODELS[request.param])


@torch.no_grad()
def test_detections_of_a_torchvision_model_are_its_own(built):
    name, model = built[0], copy.deepcopy(built[1]).eval()
    same_detections(from_torchvision(model, None)(TWO).rows["nms"], model(TWO), FIRST_LABEL[name])


@torch.no_grad()
def test_losses_of_a_torchvision_model_are_its_own(built):
    name, model = built[0], copy.deepcopy(built[1]).train()
    freeze_statistics(model)
    detector = from_torchvision(model, None)
    seed_as_torchvision()
    mine = detector(TWO, TARGETS).losses
    torch.manual_seed(1)
    same_losses(mine, model(TWO, as_dicts(TARGETS, FIRST_LABEL[name])))
    none = truths([], num_images=2)
    seed_as_torchvision()
    mine = detector(TWO, none).losses
    torch.manual_seed(1)
    theirs = model(TWO, as_dicts(none))
    for term, loss in mine.items():
        torch.testing.assert_close(
            loss, theirs.get(term, theirs.get(term.removeprefix("loss_"))), rtol=1e-4, atol=1e-5
        )


def seed_as_torchvision():
    """torchvision's transform draws a size for each image before anything else is drawn."""
    torch.manual_seed(1)
    for _ in TWO:
        torch.empty(1).uniform_()


def twin_of(network, kind):
    if kind == "faster_rcnn":
        anchors = network.rpn.anchor_generator
        twin = FasterRCNN(network.backbone, 4, rpn_anchor_generator=anchors, **SMALL)
        twin.rpn, twin.roi_heads = network.rpn, network.roi_heads
        return twin
    settings = network.settings
    return RetinaNet(
        network.backbone,
        3,
        **SMALL,
        anchor_generator=network.anchor_generator,
        head=network.head,
        score_thresh=settings.score_thresh,
        topk_candidates=settings.topk_candidates,
        detections_per_img=network.max_detections,
    )


@pytest.mark.parametrize(("kind", "first"), [("faster_rcnn", 1), ("retinanet", 0)])
def test_a_detector_of_a_config_is_torchvisions(kind, first):
    detector = build(kind, None)
    twin = twin_of(detector.network, kind)
    with torch.no_grad():
        same_detections(detector.eval()(TWO).rows["nms"], twin.eval()(TWO), first)
    seed_as_torchvision()
    mine = detector.train()(TWO, TARGETS).losses
    torch.manual_seed(1)
    same_losses(mine, twin.train()(TWO, as_dicts(TARGETS, first)))
