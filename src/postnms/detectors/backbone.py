"""ResNets with a feature pyramid of any width, put together from torchvision's parts."""

from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from urllib.error import URLError

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import ResNet
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops.misc import FrozenBatchNorm2d

from postnms.detectors.config import BLOCKS, BackboneConfig
from postnms.errors import UserError

RESNETS: dict[str, Callable[..., ResNet]] = {
    "resnet18": torchvision.models.resnet18,
    "resnet34": torchvision.models.resnet34,
    "resnet50": torchvision.models.resnet50,
    "resnet101": torchvision.models.resnet101,
}


def build_backbone(config: BackboneConfig) -> BackboneWithFPN:
    """A ResNet whose stages C2 to C5 feed a feature pyramid: levels "0" to "3" and "pool"."""
    norm = FrozenBatchNorm2d if config.norm == "frozen" else nn.BatchNorm2d
    body = RESNETS[config.name](weights=None, norm_layer=norm)
    if config.weights is not None:
        load_backbone_weights(body, config.name, config.weights)
    trained = BLOCKS[: config.trainable_layers] + (("bn1",) if config.trainable_layers == len(BLOCKS) else ())
    for name, parameter in body.named_parameters():
        parameter.requires_grad_(name.startswith(trained) if trained else False)
    stages = [f"layer{i}" for i in range(1, 5)]
    widths = [body.inplanes // 8 * 2**i for i in range(4)]
    levels = {stage: str(i) for i, stage in enumerate(stages)}
    return BackboneWithFPN(body, levels, widths, config.fpn_channels)


def load_backbone_weights(body: nn.Module, name: str, weights: str) -> None:
    """Load classification weights into a ResNet; the classifier's own are left out. Raises UserError."""
    state = _imagenet_state(name) if weights == "imagenet" else _local_state(Path(weights))
    state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    wanted = {key: value for key, value in body.state_dict().items() if not key.startswith("fc.")}
    optional = {key for key in state.keys() ^ wanted.keys() if key.endswith("num_batches_tracked")}
    wrong = sorted((state.keys() ^ wanted.keys()) - optional)
    wrong += [key for key in wanted.keys() & state.keys() if wanted[key].shape != state[key].shape]
    if wrong:
        raise UserError(f"detector.backbone.weights: {weights} does not fit {name}; first differences: {wrong[:3]}")
    body.load_state_dict(state, strict=False)


def _imagenet_state(name: str) -> dict[str, Tensor]:
    weights = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True))
    except (URLError, OSError) as error:
        raise UserError(
            f"detector.backbone.weights: could not reach torchvision's ImageNet weights of {name} ({error}); "
            "fetch the file elsewhere and pass --set detector.backbone.weights=FILE; to train from random weights, set "
            "detector.backbone.weights=null, .norm=trained and .trainable_layers=5"
        ) from error


def _local_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise UserError(f"detector.backbone.weights: expected 'imagenet' or a file, got {str(path)!r}")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else _load_tensors_only(path)
    except (UnpicklingError, RuntimeError, EOFError, SafetensorError) as error:
        raise UserError(f"detector.backbone.weights: {path} is not a plain state dict") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"detector.backbone.weights: {path} is not a plain state dict")
    return state


def _load_tensors_only(path: Path) -> object:
    """The content of a file of ``torch.save``; anything in it that would run code is an UnpicklingError."""
    return torch.load(path, map_location="cpu", weights_only=True)
