"""torchvision's own detectors as recipes name them: built by torchvision, with the stage attached."""

import inspect
from pathlib import Path
from typing import Any, Literal
from urllib.error import URLError

from pydantic import Field, model_validator
from torch import Tensor, nn
from torchvision.models import detection, get_model, get_model_weights
from torchvision.ops.misc import FrozenBatchNorm2d

from postnms.config import Positive, nearest
from postnms.detectors.config import DetectorConfig
from postnms.detectors.network import Network
from postnms.detectors.torchvision.adopt import network_of
from postnms.errors import UserError
from postnms.files.state_dicts import load_weights, read_state_dict

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
CLASSES: dict[str, type[nn.Module]] = {
    "fasterrcnn": detection.FasterRCNN,
    "retinanet": detection.RetinaNet,
    "fcos": detection.FCOS,
    "ssd300": detection.ssd.SSD,
    "ssdlite320": detection.ssd.SSD,
}
"""By the first part of a builder's name."""
SIZES = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": (320, 640),
    "ssd300_vgg16": (300, 300),
    "ssdlite320_mobilenet_v3_large": (320, 320),
}
"""Shorter and longest side of models that are not of 800 and 1333 pixels; an SSD has this size only."""
NOT_OPTIONS = {
    "self",
    "backbone",
    "num_classes",
    "min_size",
    "max_size",
    "size",
    "kwargs",
    "head",
    "anchor_generator",
}
NO_CLASS = ("__background__", "N/A")
"""Names of outputs of the COCO weights that stand for no class."""
NO_EPSILON = ("fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn")
"""Models whose COCO weights were trained with a batch norm that adds nothing to the variance."""


class TorchvisionConfig(DetectorConfig):
    """A detector of ``torchvision.models.detection``; all of its layers are trained, unless the whole is frozen."""

    kind: Literal["torchvision"] = "torchvision"
    model: ModelName = "fasterrcnn_resnet50_fpn"
    """The name of torchvision's builder."""
    weights: str | None = None
    """None: random; "coco": torchvision's file from its server or cache; else a local state-dict file."""
    norm: Literal["frozen", "trained"] = "trained"
    """Batch norm of the backbone with fixed statistics (for weights that are there already) or trained."""
    norm_epsilon: float | None = None
    """What the backbone's batch norm adds to the variance; None: what torchvision's builder says."""
    labels: tuple[int, ...] | None = None
    """The model's label of each class; None: all that it has (of the COCO weights, the 80 that COCO uses)."""
    outputs: Positive | None = None
    """Outputs of the classifier, a background included, as torchvision's ``num_classes``; None: as many as needed."""
    options: dict[str, int | float] = Field(default={})
    """Further settings of the model's class, for one ``{"box_score_thresh": 0.01}``."""

    @model_validator(mode="before")
    @classmethod
    def _sizes_of_the_model(cls, values: Any) -> Any:
        if not isinstance(values, dict) or (model := values.get("model")) not in SIZES:
            return values
        shorter, longest = SIZES[model]
        return {"min_size": shorter, "max_size": longest, **values}

    @model_validator(mode="after")
    def _consistent(self) -> "TorchvisionConfig":
        if self.norm == "frozen" and self.weights is None:
            raise ValueError(
                "norm: random weights (null) cannot be frozen, they need norm 'trained'; got 'frozen'"
            )
        if self.model.startswith("ssd") and (self.min_size, self.max_size) != SIZES[self.model]:
            raise ValueError(
                f"min_size, max_size: {self.model} has one size, {SIZES[self.model]}; "
                f"got {(self.min_size, self.max_size)}"
            )
        known = [
            name
            for name in inspect.signature(self.model_class).parameters
            if name not in NOT_OPTIONS
        ]
        for name in self.options:
            if name not in known:
                raise ValueError(
                    f"options.{name}: {self.model_class.__name__} has no such setting ({nearest(name, known)})"
                )
        return self

    @property
    def model_class(self) -> type[nn.Module]:
        """Of the model."""
        return CLASSES[self.model.split("_")[0]]

    @property
    def has_background(self) -> bool:
        """Whether output 0 of the classifier is the background."""
        return self.model_class in (detection.FasterRCNN, detection.ssd.SSD)

    def without_weights(self) -> "TorchvisionConfig":
        """The same network with random weights."""
        return self.with_coco_settings().model_copy(update={"weights": None})

    def with_coco_settings(self) -> "TorchvisionConfig":
        """What "coco" implies, spelt out: labels, outputs and the epsilon of batch norm."""
        if self.weights != "coco":
            return self
        names = get_model_weights(self.model)["DEFAULT"].meta["categories"]
        labels = tuple(index for index, name in enumerate(names) if name not in NO_CLASS)
        epsilon = 0.0 if self.model in NO_EPSILON else None
        implied = {"labels": labels, "outputs": len(names), "norm_epsilon": epsilon}
        missing = {name: value for name, value in implied.items() if getattr(self, name) is None}
        return self.model_copy(update=missing)


def build_torchvision(config: TorchvisionConfig, num_classes: int) -> Network:
    """The network of a torchvision detector. Raises UserError if its classes are not ``num_classes``."""
    config = config.with_coco_settings()
    needed = max(config.labels) + 1 if config.labels else num_classes + config.has_background
    sizes = (
        {}
        if config.model.startswith("ssd")
        else {"min_size": config.min_size, "max_size": config.max_size}
    )
    options = {**sizes, **config.options, "num_classes": config.outputs or needed}
    model = get_model(config.model, weights=None, weights_backbone=None, **options)
    if config.weights is not None:
        load_weights(model, _state(config, config.weights), f"detector.weights: {config.weights}")
    _set_norm(model.get_submodule("backbone"), config)
    network = network_of(model, config.labels)
    if network.num_classes != num_classes:
        raise UserError(
            f"detector.labels: expected a label of {config.model} for each of the {num_classes} classes of the data, "
            f"got {network.num_classes}"
        )
    return network


def _state(config: TorchvisionConfig, weights: str) -> dict[str, Tensor]:
    if weights != "coco":
        return read_state_dict(Path(weights), "detector.weights (if not 'coco')")
    try:
        return dict(
            get_model_weights(config.model)["DEFAULT"].get_state_dict(
                progress=False, check_hash=True
            )
        )
    except (URLError, OSError) as error:
        outputs, epsilon = config.outputs, config.norm_epsilon
        raise UserError(
            f"detector.weights: could not reach torchvision's COCO weights of {config.model} ({error}); fetch the file "
            f"elsewhere and pass --set detector.weights=FILE, .outputs={outputs}, .labels={list(config.labels or ())}"
            + ("" if epsilon is None else f", .norm_epsilon={epsilon}")
        ) from error


def _set_norm(module: nn.Module, config: TorchvisionConfig) -> None:
    """Give every batch norm its epsilon, and fixed statistics, with what it has learned, where the config says so."""
    for name, child in module.named_children():
        if not isinstance(child, nn.BatchNorm2d):
            _set_norm(child, config)
            continue
        child.eps = child.eps if config.norm_epsilon is None else config.norm_epsilon
        if config.norm == "frozen":
            frozen = FrozenBatchNorm2d(child.num_features, child.eps)
            frozen.load_state_dict(child.state_dict())
            setattr(module, name, frozen)
