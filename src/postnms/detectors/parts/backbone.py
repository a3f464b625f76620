"""Classification networks with a feature pyramid of any width, made of torchvision's parts.

The pyramid is FPN (arXiv 1612.03144). Cn is the stage of the network with stride 2^n, and Pn is the
pyramid level with stride 2^n.

B: images, C: channels.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.error import URLError

import torchvision
from torch import Tensor, nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.ops.feature_pyramid_network import (
    ExtraFPNBlock,
    FeaturePyramidNetwork,
    LastLevelMaxPool,
    LastLevelP6P7,
)

from postnms.detectors.config import (
    IMAGE_MEAN,
    IMAGE_STD,
    TIMM_PREFIX,
    BackboneConfig,
    PyramidConfig,
)
from postnms.detectors.parts.frozen_norm import freeze_norms
from postnms.detectors.parts.timm_body import TimmBody, build_timm_body, timm_normalisation
from postnms.errors import UserError
from postnms.files.state_dicts import load_weights, read_state_dict
from postnms.structures import Level


@dataclass(frozen=True)
class Architecture:
    """The facts about a classification network that a pyramid on it needs."""

    build: Callable[..., nn.Module]
    """Builds the network with random weights. It is called with ``norm_layer``."""
    stages: tuple[str, str, str, str]
    """Names of the modules whose outputs are C2 to C5, of strides 4 to 32."""
    widths: tuple[int, int, int, int]
    """Number of channels of each of these outputs."""
    blocks: tuple[tuple[str, ...], ...]
    """Prefixes of the names of the parameters of each block that can be frozen, from the last block
    to the first."""
    within: str = ""
    """Prefix of the body's parameters in a state dict of the network with its classifier."""
    norm_epsilon: float = 1e-5
    """Number that batch norm adds to the variance."""


def _resnet(build: Callable[..., nn.Module], expansion: int) -> Architecture:
    stages = ("layer1", "layer2", "layer3", "layer4")
    widths = (64 * expansion, 128 * expansion, 256 * expansion, 512 * expansion)
    blocks = (("layer4.",), ("layer3.",), ("layer2.",), ("layer1.",), ("conv1.", "bn1."))
    return Architecture(build, stages, widths, blocks)


def _resnext101_32x4d(**options: object) -> ResNet:
    layers = [3, 4, 23, 3]
    groups: dict[str, object] = {"groups": 32, "width_per_group": 4}
    return ResNet(Bottleneck, layers, **groups, **options)  # pyright: ignore[reportArgumentType]


def _mobilenet_v3_large(**options: object) -> nn.Module:
    return torchvision.models.mobilenet_v3_large(weights=None, **options).features


_MOBILENET_V3_LARGE = Architecture(
    _mobilenet_v3_large,
    stages=("3", "6", "12", "16"),
    widths=(24, 40, 112, 960),
    blocks=(
        ("13.", "14.", "15.", "16."),
        ("7.", "8.", "9.", "10.", "11.", "12."),
        ("4.", "5.", "6."),
        ("2.", "3."),
        ("0.", "1."),
    ),
    within="features.",
    norm_epsilon=1e-3,
)

ARCHITECTURES: dict[str, Architecture] = {
    "resnet18": _resnet(torchvision.models.resnet18, 1),
    "resnet34": _resnet(torchvision.models.resnet34, 1),
    "resnet50": _resnet(torchvision.models.resnet50, 4),
    "resnet101": _resnet(torchvision.models.resnet101, 4),
    "resnext101_32x4d": _resnet(_resnext101_32x4d, 4),
    "resnext101_32x8d": _resnet(torchvision.models.resnext101_32x8d, 4),
    "resnext101_64x4d": _resnet(torchvision.models.resnext101_64x4d, 4),
    "mobilenet_v3_large": _MOBILENET_V3_LARGE,
}
"""Architectures by the names that :data:`postnms.detectors.config.BACKBONES` lists."""


class TimmPyramid(nn.Module):
    """A feature pyramid on a network of timm, with the names of torchvision's ``BackboneWithFPN``.

    Args:
        body: gives the feature maps of the network by name.
        widths: number of channels of each of these.
        width: number of channels of every level.
        further: makes the levels above the last feature map.
    """

    def __init__(
        self, body: TimmBody, widths: list[int], width: int, further: ExtraFPNBlock
    ) -> None:
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramidNetwork(widths, width, further)
        self.out_channels = width

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return the levels (B, C, H, W) of images (B, 3, H, W) by name, fine first."""
        return self.fpn(self.body(pixels))


def build_transform(config: PyramidConfig) -> GeneralizedRCNNTransform:
    """Build the module that normalises, resizes and pads images as the settings say.

    Images are normalised as those that the backbone was trained on by its authors.
    """
    name = config.backbone.name
    is_timm = name.startswith(TIMM_PREFIX)
    mean, std = timm_normalisation(name) if is_timm else (IMAGE_MEAN, IMAGE_STD)
    return GeneralizedRCNNTransform(config.min_size, config.max_size, list(mean), list(std))


def build_backbone(config: BackboneConfig, first_level: int) -> BackboneWithFPN | TimmPyramid:
    """Build a classification network without its classifier, and a pyramid on it.

    Args:
        config: settings of the backbone. The weights that they name are loaded.
        first_level: 2: the levels are P2 to P5, named "0" to "3", and P6, named "pool", a
            subsampled P5. 3: they are P3 to P5, named "0" to "2", and P6 and P7, named "p6" and
            "p7", which are convolved from P5.

    Raises:
        UserError: the weights cannot be read or do not fit.
    """
    width = config.fpn_channels
    further = LastLevelMaxPool() if first_level == 2 else LastLevelP6P7(width, width)
    if config.name.startswith(TIMM_PREFIX):
        body, widths = build_timm_body(config, tuple(str(i) for i in range(6 - first_level)))
        return TimmPyramid(body, widths, width, further)
    architecture = ARCHITECTURES[config.name]
    body = architecture.build(norm_layer=partial(nn.BatchNorm2d, eps=architecture.norm_epsilon))
    if isinstance(body, ResNet):
        # The classifier is of no use in a pyramid, and its weights are not loaded either.
        del body.fc
    if config.weights is not None:
        load_backbone_weights(body, config.name, config.weights)
    if config.norm == "frozen":
        freeze_norms(body)
    trained = tuple(
        prefix for block in architecture.blocks[: config.trainable_layers] for prefix in block
    )
    for name, parameter in body.named_parameters():
        parameter.requires_grad_(name.startswith(trained) if trained else False)
    stages = architecture.stages[first_level - 2 :]
    widths = architecture.widths[first_level - 2 :]
    names = {stage: str(index) for index, stage in enumerate(stages)}
    return BackboneWithFPN(body, names, list(widths), width, further)


def levels_of(config: BackboneConfig, numbers: Iterable[int]) -> dict[str, Level]:
    """Return the levels with these numbers, by the names that :func:`build_backbone` gives them.

    ``numbers`` are 2 to 5 for a pyramid from P2 on, and 3 to 7 for a pyramid from P3 on. Level n
    has stride 2^n.
    """
    numbers = list(numbers)
    names = {number: str(number - numbers[0]) if number < 6 else f"p{number}" for number in numbers}
    return {name: Level(config.fpn_channels, 2**number) for number, name in names.items()}


def pyramid(backbone: nn.Module, pixels: Tensor) -> dict[str, Tensor]:
    """Return the feature maps (B, C, H, W) of a backbone by name. A single map is named "0"."""
    features = backbone(pixels)
    return {"0": features} if isinstance(features, Tensor) else features


def load_backbone_weights(body: nn.Module, name: str, weights: str) -> None:
    """Load weights of a classification network into a body. Those of its classifier are left out.

    Args:
        body: the network without its classifier, which is changed in place.
        name: its architecture.
        weights: ``imagenet``, or the path of a state-dict file. There are no packages with weights
            of these networks.

    Raises:
        UserError: there are no such weights, they cannot be fetched or read, or they do not fit.
    """
    within = ARCHITECTURES[name].within
    if weights == "imagenet":
        state = _imagenet_state(name)
    else:
        state = read_state_dict(Path(weights), "detector.backbone.weights (if not 'imagenet')")
    state = {
        key.removeprefix(within): value for key, value in state.items() if key.startswith(within)
    }
    state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    load_weights(body, state, f"detector.backbone.weights: {weights} for {name}")


def _imagenet_state(name: str) -> dict[str, Tensor]:
    hint = "fetch a file elsewhere and set detector.backbone.weights to its path"
    if name not in torchvision.models.list_models():
        raise UserError(
            f"detector.backbone.weights: torchvision has no ImageNet weights of {name}; {hint}"
        )
    weights = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True))
    except (URLError, OSError) as error:
        raise UserError(
            f"detector.backbone.weights: could not reach torchvision's ImageNet weights of {name} "
            f"({error}); {hint}; to train from random weights, set "
            "detector.backbone.weights=null, .norm=trained and .trainable_layers=5"
        ) from error
