"""torchvision's own detectors as recipes name them: built by torchvision, with the stage attached."""

from pathlib import Path
from typing import Any, Literal
from urllib.error import URLError

from pydantic import Field
from torch import nn
from torchvision.models import get_model, get_model_weights
from torchvision.ops.misc import FrozenBatchNorm2d

from postnms.config import Positive
from postnms.detectors.config import DetectorConfig
from postnms.detectors.network import Network
from postnms.detectors.torchvision_adapter import network_of
from postnms.errors import UserError
from postnms.state_dicts import load_weights, read_state_dict

ModelName = Literal[
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
    "fcos_resnet50_fpn",
    "ssd300_vgg16",
    "ssdlite320_mobilenet_v3_large",
]
NO_CLASS = ("__background__", "N/A")
"""Names of outputs of the COCO weights that stand for no class."""


class TorchvisionConfig(DetectorConfig):
    """A detector of ``torchvision.models.detection``; SSD and SSDlite have a size of their own."""

    kind: Literal["torchvision"] = "torchvision"
    model: ModelName = "fasterrcnn_resnet50_fpn"
    """The name of torchvision's builder."""
    weights: str | None = None
    """None: random; "coco": torchvision's file from its server or cache; else a local state-dict file."""
    norm: Literal["frozen", "trained"] = "trained"
    """Batch norm of the backbone with fixed statistics or trained; torchvision's COCO weights have it frozen."""
    labels: tuple[int, ...] | None = None
    """The model's label of each class; None: all that it has (of the COCO weights, the 80 that COCO uses)."""
    outputs: Positive | None = None
    """Outputs of the classifier, a background included, as torchvision's ``num_classes``; None: as many as needed."""
    options: dict[str, int | float] = Field(default={})
    """Further arguments of the builder, for one ``{"box_score_thresh": 0.01}``."""

    def without_weights(self) -> "TorchvisionConfig":
        """The same with random weights and as many outputs."""
        labels, outputs = self.labels, self.outputs
        if self.weights == "coco":
            names = _coco_names(self.model)
            labels, outputs = labels or _named(names), len(names)
        return self.model_copy(update={"weights": None, "labels": labels, "outputs": outputs})


def build_torchvision(config: TorchvisionConfig, num_classes: int) -> Network:
    """The network of a torchvision detector. Raises UserError if its classes are not ``num_classes``."""
    has_background = not config.model.startswith(("retinanet", "fcos"))
    labels = config.labels
    if config.weights == "coco":
        model = _build(config, weights="DEFAULT")
        labels = labels or _named(_coco_names(config.model))
    else:
        needed = max(labels) + 1 if labels else num_classes + has_background
        model = _build(config, num_classes=config.outputs or needed)
    if config.weights not in (None, "coco"):
        _load(model, config.weights)
    if config.norm == "frozen":
        _freeze_norm(model.get_submodule("backbone"))
    network = network_of(model, labels)
    if network.num_classes != num_classes:
        raise UserError(
            f"detector.labels: expected a label of {config.model} for each of the {num_classes} classes of the data, "
            f"got {network.num_classes}"
        )
    return network


def _build(config: TorchvisionConfig, **options: Any) -> nn.Module:
    sizes = {} if config.model.startswith("ssd") else {"min_size": config.min_size, "max_size": config.max_size}
    try:
        return get_model(
            config.model, **{"weights": None, "weights_backbone": None, **sizes, **config.options, **options}
        )
    except (URLError, OSError) as error:
        raise UserError(
            f"detector.weights: could not reach torchvision's COCO weights of {config.model} ({error}); fetch the "
            "file elsewhere and pass --set detector.weights=FILE with detector.outputs=91 and detector.labels"
        ) from error
    except TypeError as error:
        raise UserError(f"detector.options: {config.model} does not take {config.options} ({error})") from error


def _load(model: nn.Module, path: str) -> None:
    state = read_state_dict(Path(path), "detector.weights")
    load_weights(model, state, path)


def _freeze_norm(module: nn.Module) -> None:
    """Put batch norm with fixed statistics in place of every trained one, with what that has learned."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            frozen = FrozenBatchNorm2d(child.num_features, child.eps)
            frozen.load_state_dict(
                {key: value for key, value in child.state_dict().items() if key in frozen.state_dict()}
            )
            setattr(module, name, frozen)
        else:
            _freeze_norm(child)


def _coco_names(model: str) -> list[str]:
    return get_model_weights(model)["DEFAULT"].meta["categories"]


def _named(names: list[str]) -> tuple[int, ...]:
    return tuple(index for index, name in enumerate(names) if name not in NO_CLASS)
