"""What the settings of several detectors share. Names are torchvision's where it has them; so are the defaults."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PositiveFloat, model_validator

from postnms.config import Config, Fraction, Positive

BLOCKS = 5
"""Blocks of a backbone that can be frozen one by one: the stem and four stages."""

BackboneName = Literal[
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnext101_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "mobilenet_v3_large",
]


def _one_a_level(sizes: tuple[int, ...]) -> tuple[int, ...]:
    if len(sizes) != 5:
        raise ValueError(f"expected 5 sizes, one a pyramid level, got {len(sizes)}")
    return sizes


AnchorSizes = Annotated[tuple[Positive, ...], AfterValidator(_one_a_level)]
"""Of the anchors of each pyramid level, in pixels."""


class BackboneConfig(Config):
    """A classification network with a feature pyramid on its stages C2 to C5 (strides 4 to 32)."""

    name: BackboneName = "resnet50"
    weights: str | None = None
    """None: random; "imagenet": torchvision's file from its server or cache; else a local state-dict file."""
    fpn_channels: Positive = 256
    norm: Literal["frozen", "trained"] = "trained"
    """Batch norm with fixed statistics (for ImageNet weights) or trained (from random weights)."""
    trainable_layers: Annotated[int, Field(ge=0, le=BLOCKS)] = BLOCKS
    """How many of the five blocks are trained, from the last to the first."""

    @model_validator(mode="after")
    def _nothing_random_is_frozen(self) -> "BackboneConfig":
        if self.weights is None and (self.norm == "frozen" or self.trainable_layers < BLOCKS):
            raise ValueError(
                "weights: random ones (null) cannot be frozen, they need norm 'trained' and trainable_layers 5; "
                f"got norm {self.norm!r} and trainable_layers {self.trainable_layers}"
            )
        return self


class DetectorConfig(Config):
    """What is known of every detector."""

    min_size: Positive = 800
    """Shorter side of the network's input in pixels, unless the longer side would pass ``max_size``."""
    max_size: Positive = 1333

    def without_weights(self) -> Self:
        """The same with random weights, for a detector whose own are loaded next."""
        return self


class PyramidConfig(DetectorConfig):
    """A detector on a backbone with a feature pyramid."""

    backbone: BackboneConfig = BackboneConfig()
    aspect_ratios: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (0.5, 1.0, 2.0)
    """Of the anchors."""

    def without_weights(self) -> Self:
        """The same with a random backbone."""
        return self.model_copy(
            update={"backbone": self.backbone.model_copy(update={"weights": None})}
        )


class TwoStageConfig(PyramidConfig):
    """Region proposals on levels P2 to P6, and heads on P2 to P5."""

    anchor_sizes: AnchorSizes = (32, 64, 128, 256, 512)
    """One a pyramid level, in pixels."""
    rpn_pre_nms_top_n_train: Positive = 2000
    rpn_pre_nms_top_n_test: Positive = 1000
    rpn_post_nms_top_n_train: Positive = 2000
    rpn_post_nms_top_n_test: Positive = 1000
    rpn_nms_thresh: Fraction = 0.7
    rpn_fg_iou_thresh: Fraction = 0.7
    rpn_bg_iou_thresh: Fraction = 0.3
    rpn_batch_size_per_image: Positive = 256
    rpn_positive_fraction: Fraction = 0.5
    box_batch_size_per_image: Positive = 512
    box_positive_fraction: Fraction = 0.25
    box_head_width: Positive = 1024
    box_score_thresh: Fraction = 0.05
    box_nms_thresh: Fraction = 0.5
    box_detections_per_img: Positive = 100
