"""The stage on torchvision's detectors: modules and weights are shared, none is copied."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torchvision.models import detection
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign

from postnms.detectors.detector import Detector, attach
from postnms.detectors.modes import as_at_test
from postnms.detectors.network import Network
from postnms.detectors.networks.faster_rcnn import FasterRCNN
from postnms.detectors.networks.fcos import FCOS
from postnms.detectors.networks.retinanet import RetinaNet
from postnms.detectors.networks.ssd import SSD
from postnms.detectors.parts.backbone import pyramid
from postnms.detectors.parts.classes import Columns
from postnms.detectors.parts.dense_head import DenseSettings
from postnms.errors import UserError
from postnms.stage import StageConfig
from postnms.structures import Level

PROBE = 256
"""Side in pixels of the image that tells the levels of a backbone."""
SSD_LEVELS = 2
"""The finest levels of an SSD, of strides 8 and 16 (SSDlite: 16 and 32); later ones do not halve exactly."""


def from_torchvision(
    model: nn.Module,
    stage: StageConfig | None = StageConfig(),
    *,
    labels: Sequence[int] | None = None,
    frozen: bool = False,
) -> Detector:
    """A torchvision detector with the stage on it; ``stage=None``: its detections are the model's own.

    ``model``: Faster R-CNN, RetinaNet, FCOS, SSD or SSDlite, exactly of torchvision's class. Its modules and weights
    are shared: training one trains the other. ``labels``: the model's label of each class 0..K-1; None: all that it
    has, without the background of a Faster R-CNN or SSD. ``frozen``: only the stage is trained; the model's parameters
    no longer require a gradient. Thresholds are the model's as they are now; of several ``min_size``, the last counts,
    as for the model at test time.
    Raises UserError for another class, a missing part, or labels that the model does not have.
    """
    return attach(network_of(model, labels), stage, frozen=frozen)


def network_of(model: nn.Module, labels: Sequence[int] | None = None) -> Network:
    """The model up to its candidates."""
    if type(model) not in FAMILIES:
        names = ", ".join(family.__name__ for family in FAMILIES)
        raise UserError(f"model: expected one of torchvision's {names}, got {_name(model)}")
    parts, adopt = FAMILIES[type(model)]
    for path, kind in parts.items():
        part = _part(model, path)
        if not isinstance(part, (int, float) if kind is float else kind) or part is None:
            came = "nothing" if part is None else _name(part)
            raise UserError(
                f"model: {type(model).__name__} needs {path} of type {kind.__name__}, got {came}"
            )
    return adopt(model, labels)


def _adopt_faster_rcnn(model: Any, labels: Sequence[int] | None) -> FasterRCNN:
    heads, pool = model.roi_heads, model.roi_heads.box_roi_pool
    if heads.has_mask() or heads.has_keypoint():
        raise UserError(
            "model: expected a Faster R-CNN without masks and keypoints, which the stage would not move"
        )
    if (pool.canonical_scale, pool.canonical_level) != (224, 4) or pool.output_size[
        0
    ] != pool.output_size[1]:
        raise UserError(
            f"model: roi_heads.box_roi_pool: expected the level rule of 224 pixels on level 4 and square cells, got "
            f"{pool.canonical_scale} on {pool.canonical_level} and {tuple(pool.output_size)}"
        )
    if pool.sampling_ratio < 1:
        raise UserError(
            f"model: roi_heads.box_roi_pool: expected a sampling_ratio >= 1, got {pool.sampling_ratio}"
        )
    columns = _columns(labels, heads.box_predictor.cls_score.out_features, first=1)
    outputs = heads.box_predictor.bbox_pred.out_features
    if outputs != 4 * heads.box_predictor.cls_score.out_features:
        raise UserError(
            f"model: roi_heads.box_predictor.bbox_pred: expected 4 outputs a class, got {outputs} in all"
        )
    every = _levels(model.backbone)
    levels = {name: level for name, level in every.items() if name in pool.featmap_names}
    if not levels:
        raise UserError(
            f"model: roi_heads.box_roi_pool: expected featmap_names among {list(every)}, got {pool.featmap_names}"
        )
    return FasterRCNN(model.transform, model.backbone, model.rpn, heads, levels, columns)


def _adopt_retinanet(model: Any, labels: Sequence[int] | None) -> RetinaNet:
    columns = _columns(labels, model.head.classification_head.num_classes, first=0)
    parts = (model.transform, model.backbone, model.anchor_generator, model.head)
    levels = _levels(model.backbone)
    return RetinaNet(
        *parts, model.proposal_matcher, model.box_coder, _settings(model), levels, columns
    )


def _adopt_fcos(model: Any, labels: Sequence[int] | None) -> FCOS:
    columns = _columns(labels, model.head.classification_head.num_classes, first=0)
    parts = (model.transform, model.backbone, model.anchor_generator, model.head)
    levels = _levels(model.backbone)
    return FCOS(
        *parts, model.box_coder, model.center_sampling_radius, _settings(model), levels, columns
    )


def _adopt_ssd(model: Any, labels: Sequence[int] | None) -> SSD:
    columns = _columns(labels, model.head.classification_head.num_columns, first=1)
    side = max(model.transform.fixed_size)
    levels = dict(list(_levels(model.backbone, side).items())[:SSD_LEVELS])
    parts = (model.transform, model.backbone, model.anchor_generator, model.head)
    matching = (model.proposal_matcher, model.box_coder, model.neg_to_pos_ratio)
    return SSD(*parts, *matching, _settings(model), levels, columns)


_EVERY = {"transform": GeneralizedRCNNTransform, "backbone": nn.Module}
_DENSE = {
    **_EVERY,
    "anchor_generator": nn.Module,
    "box_coder": object,
    "topk_candidates": int,
    "score_thresh": float,
    "nms_thresh": float,
    "detections_per_img": int,
}
FAMILIES: dict[
    type[nn.Module], tuple[dict[str, type], Callable[[Any, Sequence[int] | None], Network]]
] = {
    detection.FasterRCNN: (
        {
            **_EVERY,
            "rpn": RegionProposalNetwork,
            "roi_heads": RoIHeads,
            "roi_heads.box_roi_pool": MultiScaleRoIAlign,
            "roi_heads.box_head": nn.Module,
            "roi_heads.box_predictor.cls_score": nn.Linear,
            "roi_heads.box_predictor.bbox_pred": nn.Linear,
        },
        _adopt_faster_rcnn,
    ),
    detection.RetinaNet: (
        {**_DENSE, "head": detection.retinanet.RetinaNetHead, "proposal_matcher": Matcher},
        _adopt_retinanet,
    ),
    detection.FCOS: (
        {**_DENSE, "head": detection.fcos.FCOSHead, "center_sampling_radius": float},
        _adopt_fcos,
    ),
    detection.ssd.SSD: (
        {
            **_DENSE,
            "head.classification_head": detection.ssd.SSDScoringHead,
            "head.regression_head": detection.ssd.SSDScoringHead,
            "proposal_matcher": Matcher,
            "transform.fixed_size": tuple,
            "neg_to_pos_ratio": float,
        },
        _adopt_ssd,
    ),
}
"""By the model's class: the parts that it must have, and what makes a network of them."""


def _levels(backbone: nn.Module, side: int = PROBE) -> dict[str, Level]:
    """Names, channels and strides of a backbone's feature maps, told by a black image."""
    where = next(backbone.parameters())
    with as_at_test(backbone):
        maps = pyramid(
            backbone, torch.zeros(1, 3, side, side, device=where.device, dtype=where.dtype)
        )
    return {name: Level(part.shape[1], round(side / part.shape[3])) for name, part in maps.items()}


def _columns(labels: Sequence[int] | None, outputs: int, first: int) -> Columns:
    """``first``: 0, or 1 where output 0 is the background."""
    if labels is None:
        return Columns(tuple(range(first, outputs)))
    wrong = [label for label in labels if not first <= label < outputs]
    if wrong or not len(labels) or len(set(labels)) < len(labels):
        raise UserError(
            f"labels: expected different labels from {first} to {outputs - 1}, got {list(labels)}"
        )
    return Columns(tuple(labels))


def _settings(model: Any) -> DenseSettings:
    return DenseSettings(
        model.topk_candidates, model.score_thresh, model.nms_thresh, model.detections_per_img
    )


def _part(model: nn.Module, path: str) -> Any:
    for name in path.split("."):
        model = getattr(model, name, None)  # pyright: ignore[reportAssignmentType]
    return model


def _name(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"
