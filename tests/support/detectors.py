"""Small detectors of every kind, with weights so uneven that scores and boxes differ."""

import copy
import functools

import torch
from torch.nn import functional as F
from torchvision.models import get_model, resnet18
from torchvision.models.detection import FCOS
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from postnms.detectors import (
    BackboneConfig,
    CascadeRCNNConfig,
    FasterRCNNConfig,
    RetinaNetConfig,
    attach,
    build_detector,
    from_torchvision,
)
from postnms.stage import StageConfig
from tests.support.builders import truths
from tests.support.pages import ROOT, examples

STAGE = StageConfig(width=16)
BACKBONE = BackboneConfig(name="resnet18", fpn_channels=16, norm="trained", trainable_layers=5)
SIZE = {
    "backbone": BACKBONE,
    "min_size": 96,
    "max_size": 160,
    "anchor_sizes": (16, 32, 64, 128, 256),
}
TWO_STAGE = {
    **SIZE,
    "rpn_pre_nms_top_n_train": 200,
    "rpn_post_nms_top_n_train": 100,
    "rpn_pre_nms_top_n_test": 150,
    "rpn_post_nms_top_n_test": 80,
    "box_batch_size_per_image": 64,
    "box_head_width": 32,
    "box_score_thresh": 0.2,
}
FASTER, CASCADE = FasterRCNNConfig(**TWO_STAGE), CascadeRCNNConfig(**TWO_STAGE)
RETINA = RetinaNetConfig(**SIZE, score_thresh=0.5, topk_candidates=60)
CONFIGS = {
    "faster_rcnn": FASTER,
    "retinanet": RETINA,
    "cascade_rcnn": CASCADE,
    "cascade_rcnn_mean": CASCADE.model_copy(update={"scoring": "mean"}),
}


def fcos():
    """FCOS as torchvision builds it, but on a smaller backbone and with fewer channels."""
    pyramid = BackboneWithFPN(
        resnet18(weights=None),
        return_layers={"layer2": "0", "layer3": "1", "layer4": "2"},
        in_channels_list=[128, 256, 512],
        out_channels=64,
        extra_blocks=LastLevelP6P7(64, 64),
    )
    return FCOS(pyramid, num_classes=3, min_size=64, max_size=96)


def torchvisions(builder, **options):
    return get_model(builder, weights=None, weights_backbone=None, **options)


TORCHVISION = {
    "fcos": fcos,
    "ssdlite": functools.partial(torchvisions, "ssdlite320_mobilenet_v3_large", num_classes=4),
}
EXAMPLE = "your_detector.md"
CASES = (*CONFIGS, *TORCHVISION, EXAMPLE)

SPREADS = {
    "cls_logits": (0.0, 1.5),
    "cls_score": (0.0, 1.5),
    "classification_head.module_list": (0.0, 1.5),
    "bbox_pred": (0.0, 0.4),
    "bbox_reg": (0.5, 0.4),
    "regression_head.module_list": (0.0, 0.4),
}
"""Mean and standard deviation that outputs are given, by a part of the layer's name."""


def images(*sizes):
    """Soft patches of colour: places differ, as in photographs."""
    random = torch.Generator().manual_seed(0)
    patches = [torch.rand(1, 3, 6, 6, generator=random) for _ in sizes]
    return [F.interpolate(p, s, mode="bilinear")[0] for p, s in zip(patches, sizes, strict=True)]


TWO = images((100, 130), (150, 110))
TARGETS = truths(
    [(10, 10, 60, 70), (50, 40, 120, 95), (30, 80, 90, 140)], [0, 2, 1], [0, 0, 1], num_images=2
)


def build(name, stage=STAGE, seed=0, frozen=False, **changes):
    """A detector of three classes; ``changes``: to its config, if it has one."""
    network = copy.deepcopy(network_of_case(name, seed, **changes))
    torch.manual_seed(seed)
    return attach(network, stage, frozen=frozen)


@functools.cache
def network_of_case(name, seed, **changes):
    torch.manual_seed(seed)
    if name == EXAMPLE:
        return example()["TinyDetector"](3)
    if name in TORCHVISION:
        return from_torchvision(made_uneven(TORCHVISION[name]()), None).network
    detector = build_detector(CONFIGS[name].model_copy(update=changes), None, 3)
    calibrate(detector.network.backbone)
    spread_outputs(detector.network, detector)
    return detector.network


def random_torchvision(builder, seed=0, **options):
    torch.manual_seed(seed)
    return made_uneven(torchvisions(builder, **options))


SMALL_MODEL = {"num_classes": 4, "min_size": 96, "max_size": 160}
MOBILE = "fasterrcnn_mobilenet_v3_large_320_fpn"


def small_faster_rcnn(**options):
    """torchvision's smallest Faster R-CNN, of three classes."""
    return random_torchvision(MOBILE, **{**SMALL_MODEL, **options})


def made_uneven(model):
    calibrate(model.backbone)
    spread_outputs(model, model)
    return model


@torch.no_grad()
def calibrate(backbone):
    """Give batch norm the statistics of random images; else deep features vanish at test time."""
    norms = {
        part: part.momentum for part in backbone.modules() if isinstance(part, torch.nn.BatchNorm2d)
    }
    if not norms:
        return
    for part in norms:
        part.momentum = 1.0
    backbone.train()(torch.stack(images((300, 300), (300, 300))) * 4 - 2)
    for part, momentum in norms.items():
        part.momentum = momentum


def freeze_statistics(model):
    """Momentum 0, so that the first of two passes in training does not change the second."""
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = 0.0


@torch.no_grad()
def spread_outputs(model, call):
    """Scale and shift the last layers so that scores and boxes of random images differ."""

    def adjust(layer, _, output, wanted):
        mean, deviation = wanted
        flat = output.transpose(0, 1).flatten(1) if output.ndim == 4 else output.T
        if flat.shape[1] < 2 or hasattr(layer, "adjusted"):
            return output
        layer.adjusted = True
        scale = deviation / flat.std(dim=1).clamp(min=1e-6)
        layer.weight.mul_(scale.view(-1, *[1] * (layer.weight.ndim - 1)))
        layer.bias.mul_(scale).add_(mean - scale * flat.mean(dim=1))
        return output * scale.view(*([1, -1] if output.ndim == 2 else [1, -1, 1, 1])) + (
            mean - scale * flat.mean(dim=1)
        ).view(*([1, -1] if output.ndim == 2 else [1, -1, 1, 1]))

    hooks = []
    for name, layer in model.named_modules():
        wanted = next((spread for part, spread in SPREADS.items() if part in name), None)
        if (
            wanted
            and isinstance(layer, torch.nn.Linear | torch.nn.Conv2d)
            and layer.bias is not None
        ):
            hooks.append(layer.register_forward_hook(lambda *a, wanted=wanted: adjust(*a, wanted)))
    call.eval()(images((300, 300)))
    for hook in hooks:
        hook.remove()


def example():
    """What the first block of the page defines."""
    names = {}
    exec(examples(ROOT / "docs" / EXAMPLE)[0], names)
    return names


def as_dicts(targets, offset=0):
    rows = [targets.image == index for index in range(targets.num_images)]
    return [{"boxes": targets.boxes[row], "labels": targets.labels[row] + offset} for row in rows]
