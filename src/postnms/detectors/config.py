"""Settings of detectors and backbones. Names of the Faster R-CNN fields are torchvision's; so are the defaults."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, model_validator

from postnms.config import Config

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]


BLOCKS = ("layer4", "layer3", "layer2", "layer1", "conv1")
"""Parts of a ResNet from the last to the first, as ``trainable_layers`` counts them."""


class BackboneConfig(Config):
    """A ResNet with a feature pyramid (levels "0" to "3", strides 4 to 32, and "pool", stride 64)."""

    name: Literal["resnet18", "resnet34", "resnet50", "resnet101"] = "resnet50"
    weights: str | None = None
    """None: random; "imagenet": torchvision's file from its server or cache; else a local state-dict file."""
    fpn_channels: Positive = 256
    norm: Literal["frozen", "trained"] = "trained"
    """Batch norm with fixed statistics (for ImageNet weights) or trained (from random weights)."""
    trainable_layers: Annotated[int, Field(ge=0, le=5)] = 5
    """How many of the five blocks are trained, from the last to the first."""

    @model_validator(mode="after")
    def _nothing_random_is_frozen(self) -> "BackboneConfig":
        if self.weights is None and (self.norm == "frozen" or self.trainable_layers < len(BLOCKS)):
            raise ValueError(
                "weights: random ones (null) cannot be frozen, they need norm 'trained' and trainable_layers 5; "
                f"got norm {self.norm!r} and trainable_layers {self.trainable_layers}"
            )
        return self


class FasterRCNNConfig(Config):
    """Faster R-CNN with a feature pyramid."""

    kind: Literal["faster_rcnn"] = "faster_rcnn"
    backbone: BackboneConfig = BackboneConfig()
    min_size: Positive = 800
    """Shorter side of the network's input in pixels, unless the longer side would pass ``max_size``."""
    max_size: Positive = 1333
    anchor_sizes: tuple[Positive, ...] = (32, 64, 128, 256, 512)
    """One a pyramid level, in pixels."""
    aspect_ratios: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (0.5, 1.0, 2.0)
    rpn_pre_nms_top_n_train: Positive = 2000
    rpn_pre_nms_top_n_test: Positive = 1000
    rpn_post_nms_top_n_train: Positive = 2000
    rpn_post_nms_top_n_test: Positive = 1000
    rpn_nms_thresh: Fraction = 0.7
    rpn_fg_iou_thresh: Fraction = 0.7
    rpn_bg_iou_thresh: Fraction = 0.3
    rpn_batch_size_per_image: Positive = 256
    rpn_positive_fraction: Fraction = 0.5
    box_fg_iou_thresh: Fraction = 0.5
    box_bg_iou_thresh: Fraction = 0.5
    box_batch_size_per_image: Positive = 512
    box_positive_fraction: Fraction = 0.25
    box_head_width: Positive = 1024
    box_score_thresh: Fraction = 0.05
    box_nms_thresh: Fraction = 0.5
    box_detections_per_img: Positive = 100

    @model_validator(mode="after")
    def _one_anchor_size_a_level(self) -> "FasterRCNNConfig":
        if len(self.anchor_sizes) != 5:
            raise ValueError(f"anchor_sizes: expected 5 sizes, one a pyramid level, got {len(self.anchor_sizes)}")
        return self


DetectorConfig = FasterRCNNConfig
