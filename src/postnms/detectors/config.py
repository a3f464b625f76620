"""Settings that several detectors share.

Names and defaults are those of torchvision, where it has the setting. All scores, IoUs and shares
are in [0, 1], and all numbers of boxes and channels are above 0.
"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PositiveFloat, model_validator

from postnms.config import Config, Fraction, Positive, nearest

BLOCKS = 5
"""Number of blocks of a backbone that can be frozen one by one: the stem and four stages."""

IMAGE_MEAN, IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's pixels in [0, 1], in the order red, green, blue."""

TIMM_PREFIX = "timm/"
"""What comes before timm's name of a classification network."""

BACKBONES = (
    *("resnet18", "resnet34", "resnet50", "resnet101"),
    *("resnext101_32x4d", "resnext101_32x8d", "resnext101_64x4d", "mobilenet_v3_large"),
)
"""Names of the classification networks that can be a backbone, beside those of timm.

They are torchvision's, except for ``resnext101_32x4d``, of which torchvision has no weights."""


def _backbone_name(name: str) -> str:
    if name not in BACKBONES and not name.startswith(TIMM_PREFIX):
        raise ValueError(
            f"expected {', '.join(BACKBONES)} or {TIMM_PREFIX}NAME "
            f"({nearest(name, list(BACKBONES))}), got {name!r}"
        )
    return name


BackboneName = Annotated[str, AfterValidator(_backbone_name)]
"""One of :data:`BACKBONES`, or ``timm/`` and the name of a network of timm, for example
``timm/tf_efficientnet_lite0``. It must have feature maps of strides 4 to 32, for images of any
size."""


def _one_a_level(sizes: tuple[int, ...]) -> tuple[int, ...]:
    if len(sizes) != 5:
        raise ValueError(f"expected 5 sizes, one a pyramid level, got {len(sizes)}")
    return sizes


SmoothL1Beta = Annotated[float, Field(ge=0)]
"""Smooth-L1 is quadratic for errors below this and linear above it. 0: plain L1. The unit is that
of the weighted box deltas."""
TORCHVISION_BETA = 1 / 9
"""Smooth-L1 beta of torchvision's proposal networks and box heads."""
AnchorSizes = Annotated[tuple[Positive, ...], AfterValidator(_one_a_level)]
"""Side of the anchors of each of the five pyramid levels, in pixels, from fine to coarse."""


class BackboneConfig(Config):
    """Settings of a classification network with a feature pyramid (FPN, arXiv 1612.03144).

    The pyramid stands on the stages C2 to C5 of the network, of strides 4 to 32.

    Example:
        >>> from postnms import BackboneConfig, FasterRCNNConfig
        >>> backbone = BackboneConfig(name="resnet18", weights="imagenet", norm="frozen")
        >>> FasterRCNNConfig(backbone=backbone).backbone.fpn_channels
        256
    """

    name: BackboneName = "resnet50"
    """Architecture of the classification network."""
    weights: str | None = None
    """Weights of the classification network. None: random. ``imagenet``: the file of torchvision or
    timm, from its server or cache. ``package``: the file of an installed pip package, which needs
    no server (extra ``pretrained``, for ``timm/tf_efficientnet_lite0``). Any other text: path of a
    local state-dict file."""
    fpn_channels: Positive = 256
    """Number of channels of every pyramid level."""
    norm: Literal["frozen", "trained"] = "trained"
    """``frozen``: batch norm with fixed statistics and parameters, for weights that are loaded.
    ``trained``: ordinary batch norm."""
    trainable_layers: Annotated[int, Field(ge=0, le=BLOCKS)] = BLOCKS
    """Number of the five blocks that are trained, counted from the last block, 0 to 5."""

    @classmethod
    def training_only(cls) -> frozenset[str]:
        """Return the names of the fields that training alone reads."""
        return frozenset({"weights", "trainable_layers"})

    @model_validator(mode="after")
    def _nothing_random_is_frozen(self) -> "BackboneConfig":
        if self.weights is None and (self.norm == "frozen" or self.trainable_layers < BLOCKS):
            raise ValueError(
                "weights: random ones (null) cannot be frozen, they need norm 'trained' and "
                f"trainable_layers 5; got norm {self.norm!r} and trainable_layers "
                f"{self.trainable_layers}"
            )
        return self


class DetectorConfig(Config):
    """Settings that every detector has."""

    min_size: Positive = 800
    """Shorter side of each image in the network's input, in pixels. It is smaller if the longer
    side would exceed ``max_size``."""
    max_size: Positive = 1333
    """Upper limit of the longer side of each image in the network's input, in pixels."""
    clustering: Literal["auto", "reference", "eager", "cpu", "triton"] = "auto"
    """How boxes are clustered. All ways give the same clusters. ``auto``: the fastest one, which on
    a GPU is ``triton`` where it has passed a check, and ``eager`` otherwise."""

    @property
    def input_size(self) -> tuple[int, int]:
        """(min_size, max_size) in pixels."""
        return self.min_size, self.max_size

    @property
    def has_weights(self) -> bool:
        """Whether the settings name weights of the whole detector, not only of its backbone."""
        return False

    def without_weights(self, num_classes: int) -> Self:
        """Return the settings with random weights, for a detector that is loaded from elsewhere.

        ``num_classes`` is the number of classes that the detector has.
        """
        return self


class PyramidConfig(DetectorConfig):
    """Settings of a detector on a backbone with a feature pyramid."""

    backbone: BackboneConfig = BackboneConfig()
    """Settings of the backbone."""
    aspect_ratios: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (0.5, 1.0, 2.0)
    """Height over width of the anchors. There is one anchor of each ratio for each size."""

    def without_weights(self, num_classes: int) -> Self:
        """Return the settings with random weights of the backbone, for any number of classes."""
        return self.model_copy(
            update={"backbone": self.backbone.model_copy(update={"weights": None})}
        )


class TwoStageConfig(PyramidConfig):
    """Settings of a detector with region proposals on levels P2 to P6 and box heads on P2 to P5."""

    anchor_sizes: AnchorSizes = (32, 64, 128, 256, 512)
    """Side of the anchors of each pyramid level, P2 to P6, in pixels."""
    rpn_pre_nms_top_n_train: Positive = 2000
    """Largest number of boxes of each image and level before the NMS of the proposals, in
    training."""
    rpn_pre_nms_top_n_test: Positive = 1000
    """Largest number of boxes of each image and level before the NMS of the proposals, in
    evaluation mode."""
    rpn_post_nms_top_n_train: Positive = 2000
    """Largest number of proposals of each image, in training."""
    rpn_post_nms_top_n_test: Positive = 1000
    """Largest number of proposals of each image, in evaluation mode."""
    rpn_nms_thresh: Fraction = 0.7
    """The NMS of the proposals suppresses boxes that overlap a key with an IoU over this."""
    rpn_fg_iou_thresh: Fraction = 0.7
    """An anchor is positive from this IoU with an object on. The anchors with the best IoU of each
    object are positive too."""
    rpn_bg_iou_thresh: Fraction = 0.3
    """An anchor is negative below this IoU with every object."""
    rpn_batch_size_per_image: Positive = 256
    """Largest number of anchors of each image that the proposal network is trained on."""
    rpn_positive_fraction: Fraction = 0.5
    """Largest share of positive anchors among these."""
    rpn_smooth_l1_beta: SmoothL1Beta = TORCHVISION_BETA
    """Beta of the smooth-L1 loss of the proposal network. 0: plain L1."""
    box_batch_size_per_image: Positive = 512
    """Largest number of proposals of each image that a box head is trained on."""
    box_positive_fraction: Fraction = 0.25
    """Largest share of positive proposals among these."""
    box_smooth_l1_beta: SmoothL1Beta = TORCHVISION_BETA
    """Beta of the smooth-L1 loss of every box head. 0: plain L1. Detectron's baselines have 1."""
    box_coding: Literal["centre", "edges"] = "centre"
    """What the deltas of a box head move. ``centre``: the centre and the logarithms of the sides
    (Fast R-CNN). ``edges``: each of the four edges, in shares of the sides."""
    box_loss: Literal["smooth_l1", "kl"] = "smooth_l1"
    """Location loss of every box head. ``kl``: that of Softer-NMS (arXiv 1809.08545). A head then
    learns the variance of each edge as well, for the suppressor ``variance_voting``. It needs the
    coding ``edges``, and ``box_smooth_l1_beta`` is not in use."""
    box_head_width: Positive = 1024
    """Outputs of each of the two fully connected layers of a box head."""
    box_score_thresh: Fraction = 0.05
    """Candidates score more than this."""
    box_nms_thresh: Fraction = 0.5
    """NMS suppresses boxes that overlap a key with an IoU over this."""
    box_detections_per_img: Positive = 100
    """Largest number of detections for each image."""

    @classmethod
    def training_only(cls) -> frozenset[str]:
        """Return the names of the fields that training alone reads."""
        proposals = {"rpn_pre_nms_top_n_train", "rpn_post_nms_top_n_train", "rpn_smooth_l1_beta"}
        anchors = {"rpn_fg_iou_thresh", "rpn_bg_iou_thresh", "rpn_batch_size_per_image"}
        boxes = {"box_batch_size_per_image", "box_positive_fraction", "box_smooth_l1_beta"}
        return frozenset({"rpn_positive_fraction"} | proposals | anchors | boxes)

    @model_validator(mode="after")
    def _variances_are_of_edges(self) -> Self:
        if self.box_loss == "kl" and self.box_coding != "edges":
            raise ValueError(
                "box_coding: expected 'edges' with box_loss 'kl', which learns the variance of "
                f"each edge, got {self.box_coding!r}"
            )
        return self
