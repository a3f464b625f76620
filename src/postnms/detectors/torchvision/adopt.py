"""The stage on torchvision's detectors.

A model's modules are put into a network of this library. They and their weights are shared, none is
copied.

K: classes.
"""

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

from postnms.detectors.attach import attach
from postnms.detectors.detector import Detector
from postnms.detectors.modes import as_at_test
from postnms.detectors.networks.faster_rcnn import FasterRCNN
from postnms.detectors.networks.fcos import FCOS
from postnms.detectors.networks.retinanet import RetinaNet
from postnms.detectors.networks.ssd import SSD
from postnms.detectors.parts.backbone import pyramid
from postnms.detectors.parts.classes import ClassOutputs
from postnms.detectors.parts.dense_head import DenseSettings
from postnms.detectors.parts.frame import Frame, FramedNetwork
from postnms.errors import UserError
from postnms.rivals import HeadsConfig
from postnms.stage import StageConfig
from postnms.structures import Level

PROBE = 256
"""Side in pixels of the image that the levels of a backbone are measured with."""
SSD_LEVELS = 2
"""Number of levels of an SSD that the stage pools from.

These are the finest ones, of strides 8 and 16 (SSDlite: 16 and 32). Later levels are not exactly
half as large as the level before."""


def from_torchvision(
    model: nn.Module,
    stage: StageConfig | None = StageConfig(),
    *,
    labels: Sequence[int] | None = None,
    heads: HeadsConfig | None = None,
    suppressors: Sequence[str] = (),
    frozen: bool = False,
) -> Detector:
    """Put the stage on a detector of torchvision.

    Modules and weights are shared with the model, so training one trains the other. Thresholds are
    read from the model once, when this is called. If the model has several ``min_size``, the last
    one counts, as in the model's evaluation mode.

    Args:
        model: Faster R-CNN, RetinaNet, FCOS, SSD or SSDlite. Its class must be that of torchvision,
            not a subclass.
        stage: settings of the stage. None: the bare detector, which gives the model's detections.
        labels: the model's label of each class 0..K-1. None: all of its labels, without the
            background class of a Faster R-CNN or SSD. They are also the labels of targets that are
            given as torchvision's dicts, and of :meth:`postnms.Output.to_torchvision`.
        heads: settings of learned rivals that look at every candidate. None: there are none.
        suppressors: further suppressors, as in :class:`postnms.Detector`.
        frozen: train only the stage and the heads. The model's parameters then require no gradient.

    Raises:
        UserError: the model is of another class, lacks a part, has a setting that is not supported,
            or does not have the labels. Or the stage does not fit its levels.
        ValueError: ``frozen`` without a stage and heads, or with ``candidates="sampled"``.

    Example:
        >>> from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_fpn
        >>> from postnms import from_torchvision
        >>> model = fasterrcnn_mobilenet_v3_large_fpn(
        ...     weights=None, weights_backbone=None, num_classes=4
        ... )
        >>> detector = from_torchvision(model)
        >>> detector.network.num_classes, detector.row_names
        (3, ('nms', 'post_nms'))
    """
    network = network_of(model, labels)
    return attach(
        network,
        stage,
        heads=heads,
        suppressors=suppressors,
        frozen=frozen,
        dict_labels=network.classes.of_class,
    )


def network_of(model: nn.Module, labels: Sequence[int] | None = None) -> FramedNetwork:
    """Return a network that shares the modules of a model and ends at its candidates.

    ``model``, ``labels`` and the errors are those of :func:`from_torchvision`.
    """
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
    heads = model.roi_heads
    pool = heads.box_roi_pool
    if heads.has_mask() or heads.has_keypoint():
        raise UserError(
            "model: expected a Faster R-CNN without masks and keypoints, "
            "which the stage would not move"
        )
    # The pooling of this library has one level rule and square outputs.
    if (pool.canonical_scale, pool.canonical_level) != (224, 4) or pool.output_size[
        0
    ] != pool.output_size[1]:
        raise UserError(
            "model: roi_heads.box_roi_pool: expected the level rule of 224 pixels on level 4 and "
            f"square outputs, got {pool.canonical_scale} on {pool.canonical_level} and "
            f"{tuple(pool.output_size)}"
        )
    if pool.sampling_ratio < 1:
        raise UserError(
            "model: roi_heads.box_roi_pool: expected a sampling_ratio >= 1, "
            f"got {pool.sampling_ratio}"
        )
    classes = _classes(labels, heads.box_predictor.cls_score.out_features, first=1)
    outputs = heads.box_predictor.bbox_pred.out_features
    if outputs != 4 * heads.box_predictor.cls_score.out_features:
        raise UserError(
            "model: roi_heads.box_predictor.bbox_pred: expected 4 outputs a class, "
            f"got {outputs} in all"
        )
    every = _levels(model.backbone)
    levels = {name: level for name, level in every.items() if name in pool.featmap_names}
    if not levels:
        raise UserError(
            f"model: roi_heads.box_roi_pool: expected featmap_names among {list(every)}, "
            f"got {pool.featmap_names}"
        )
    frame = Frame(levels, classes, heads.nms_thresh, heads.detections_per_img)
    return FasterRCNN(model.transform, model.backbone, frame, model.rpn, heads)


def _adopt_retinanet(model: Any, labels: Sequence[int] | None) -> RetinaNet:
    classes = _classes(labels, model.head.classification_head.num_classes, first=0)
    return RetinaNet(
        model.transform,
        model.backbone,
        _dense_frame(model, _levels(model.backbone), classes),
        model.anchor_generator,
        model.head,
        model.proposal_matcher,
        model.box_coder,
        _settings(model),
    )


def _adopt_fcos(model: Any, labels: Sequence[int] | None) -> FCOS:
    classes = _classes(labels, model.head.classification_head.num_classes, first=0)
    return FCOS(
        model.transform,
        model.backbone,
        _dense_frame(model, _levels(model.backbone), classes),
        model.anchor_generator,
        model.head,
        model.box_coder,
        model.center_sampling_radius,
        _settings(model),
    )


def _adopt_ssd(model: Any, labels: Sequence[int] | None) -> SSD:
    classes = _classes(labels, model.head.classification_head.num_columns, first=1)
    every = _levels(model.backbone, side=max(model.transform.fixed_size))
    finest = dict(list(every.items())[:SSD_LEVELS])
    return SSD(
        model.transform,
        model.backbone,
        _dense_frame(model, finest, classes),
        model.anchor_generator,
        model.head,
        model.proposal_matcher,
        model.box_coder,
        model.neg_to_pos_ratio,
        _settings(model),
    )


def _dense_frame(model: Any, levels: dict[str, Level], classes: ClassOutputs) -> Frame:
    return Frame(levels, classes, model.nms_thresh, model.detections_per_img)


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
    type[nn.Module], tuple[dict[str, type], Callable[[Any, Sequence[int] | None], FramedNetwork]]
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
"""The classes of models that can be adopted.

For each: the attributes that a model must have, with their types, and the function that makes a
network of the model."""


def _levels(backbone: nn.Module, side: int = PROBE) -> dict[str, Level]:
    """Return the feature maps of a backbone by name, with their channels and strides.

    They are measured with a black image of the given side, in pixels.
    """
    weight = next(backbone.parameters())
    with as_at_test(backbone):
        maps = pyramid(
            backbone, torch.zeros(1, 3, side, side, device=weight.device, dtype=weight.dtype)
        )
    return {
        name: Level(level.shape[1], round(side / level.shape[3])) for name, level in maps.items()
    }


def _classes(labels: Sequence[int] | None, outputs: int, first: int) -> ClassOutputs:
    """Return the outputs that stand for classes.

    ``first``: the first output that is a class. It is 1 where output 0 is the background class, and
    0 otherwise.
    """
    if labels is None:
        return ClassOutputs(tuple(range(first, outputs)), outputs)
    wrong = [label for label in labels if not first <= label < outputs]
    if wrong or not len(labels) or len(set(labels)) < len(labels):
        raise UserError(
            f"labels: expected different labels from {first} to {outputs - 1}, got {list(labels)}"
        )
    return ClassOutputs(tuple(labels), outputs)


def _settings(model: Any) -> DenseSettings:
    return DenseSettings(model.topk_candidates, model.score_thresh)


def _part(model: nn.Module, path: str) -> Any:
    for name in path.split("."):
        model = getattr(model, name, None)  # pyright: ignore[reportAssignmentType]
    return model


def _name(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"
