"""Networks of torchvision's detectors, built from the settings that a recipe holds."""

import inspect
import logging
from pathlib import Path
from typing import Any, Literal
from urllib.error import URLError

from pydantic import Field, model_validator
from torch import Tensor, nn
from torchvision.models import detection, get_model, get_model_weights

from postnms.config import Positive, nearest
from postnms.detectors.config import DetectorConfig
from postnms.detectors.parts.frame import FramedNetwork
from postnms.detectors.parts.frozen_norm import freeze_norms
from postnms.detectors.torchvision.adopt import network_of
from postnms.distributed.collectives import is_first_process
from postnms.errors import UserError
from postnms.files.fitting_weights import load_fitting_weights
from postnms.files.state_dicts import load_weights, read_state_dict

logger = logging.getLogger(__name__)

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
"""Names of torchvision's functions that build a detector."""
CLASSES: dict[str, type[nn.Module]] = {
    "fasterrcnn": detection.FasterRCNN,
    "retinanet": detection.RetinaNet,
    "fcos": detection.FCOS,
    "ssd300": detection.ssd.SSD,
    "ssdlite320": detection.ssd.SSD,
}
"""The class of the models, by the first word of a model's name."""
SIZES = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": (320, 640),
    "ssd300_vgg16": (300, 300),
    "ssdlite320_mobilenet_v3_large": (320, 320),
}
"""``min_size`` and ``max_size`` in pixels of models for which they are not 800 and 1333.

An SSD works at this size only."""
NOT_OPTIONS = ("min_size", "max_size")
"""Numbers of torchvision's classes that ``options`` cannot name: other fields of
:class:`TorchvisionConfig` set them."""
NO_CLASS = ("__background__", "N/A")
"""Names that the COCO weights give to outputs which stand for no class."""
NO_EPSILON = ("fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn")
"""Models whose COCO weights need a batch norm that adds 0 to the variance."""


class TorchvisionConfig(DetectorConfig):
    """Settings of a detector of ``torchvision.models.detection``.

    All of its layers are trained, unless the whole detector is frozen.

    Example:
        >>> from postnms import TorchvisionConfig
        >>> config = TorchvisionConfig(model="ssd300_vgg16", options={"score_thresh": 0.01})
        >>> config.input_size
        (300, 300)
    """

    kind: Literal["torchvision"] = "torchvision"
    model: ModelName = "fasterrcnn_resnet50_fpn"
    """Name of the function of torchvision that builds the detector."""
    weights: str | None = None
    """Weights of the detector. None: random. ``coco``: torchvision's file, from its server or
    cache. Any other text: path of a local state-dict file. If they are of another number of
    classes, the layers of the classes start anew, unless ``labels`` says what they mean."""
    norm: Literal["frozen", "trained"] = "trained"
    """``frozen``: batch norm of the backbone with fixed statistics and parameters, for weights that
    are loaded. ``trained``: ordinary batch norm."""
    norm_epsilon: float | None = None
    """Number that the backbone's batch norm adds to the variance. None: torchvision's, or that of
    the COCO weights."""
    labels: tuple[int, ...] | None = None
    """The model's label of each class 0..K-1. None: all of its labels. For the COCO weights and 80
    classes these are the 80 classes of COCO."""
    outputs: Positive | None = None
    """Number of outputs of the classifier, including a background class where the model has one.
    This is torchvision's ``num_classes``. None: as many as the labels need."""
    options: dict[str, int | float] = Field(default={})
    """Further parameters of the model's class, for example ``{"box_score_thresh": 0.01}``."""

    @model_validator(mode="after")
    def _sizes_of_the_model(self) -> "TorchvisionConfig":
        # A validator that runs before would take the values out of the JSON, and then a list would
        # no longer stand for a tuple. This one fills in fields that no one else has seen yet.
        sizes = SIZES.get(self.model, (self.min_size, self.max_size))
        for name, size in zip(("min_size", "max_size"), sizes, strict=True):
            if name not in self.model_fields_set:
                object.__setattr__(self, name, size)
        return self

    @model_validator(mode="after")
    def _consistent(self) -> "TorchvisionConfig":
        if self.norm == "frozen" and self.weights is None:
            raise ValueError(
                "norm: random weights (null) cannot be frozen, they need norm 'trained'; "
                "got 'frozen'"
            )
        if self.model.startswith("ssd") and (self.min_size, self.max_size) != SIZES[self.model]:
            raise ValueError(
                f"min_size, max_size: {self.model} has one size, {SIZES[self.model]}; "
                f"got {(self.min_size, self.max_size)}"
            )
        self._check_options()
        return self

    def _check_options(self) -> None:
        """Raise ValueError for an option that is no number of the model's class."""
        parameters = inspect.signature(self.model_class).parameters
        # Parameters without a number as their default take layers or lists.
        known = {
            name: parameter.default
            for name, parameter in parameters.items()
            if isinstance(parameter.default, int | float) and name not in NOT_OPTIONS
        }
        for name, value in self.options.items():
            if name not in known:
                raise ValueError(
                    f"options.{name}: {self.model_class.__name__} has no such setting "
                    f"({nearest(name, list(known))})"
                )
            if isinstance(known[name], int) and not isinstance(value, int):
                raise ValueError(f"options.{name}: expected an integer, got {value!r}")

    @property
    def model_class(self) -> type[nn.Module]:
        """The torchvision class of the model."""
        return CLASSES[self.model.split("_")[0]]

    @property
    def has_background(self) -> bool:
        """Whether output 0 of the classifier is the background class."""
        return self.model_class in (detection.FasterRCNN, detection.ssd.SSD)

    @property
    def has_weights(self) -> bool:
        """Whether the settings name weights of the whole detector."""
        return self.weights is not None

    def without_weights(self, num_classes: int) -> "TorchvisionConfig":
        """Return the settings of the same network with random weights.

        What the COCO weights imply for ``num_classes`` classes is kept, so that a state dict of the
        detector still fits.
        """
        return self.with_coco_settings(num_classes).model_copy(update={"weights": None})

    def with_coco_settings(self, num_classes: int) -> "TorchvisionConfig":
        """Return the settings with the values that the weights ``coco`` imply.

        These are ``labels``, ``outputs`` and ``norm_epsilon``, where they are None. For another
        number of classes than COCO's, the layers of the classes are not COCO's either, so only
        ``norm_epsilon`` is implied. Without the COCO weights nothing changes.
        """
        if self.weights != "coco":
            return self
        names = get_model_weights(self.model)["DEFAULT"].meta["categories"]
        labels = tuple(index for index, name in enumerate(names) if name not in NO_CLASS)
        implied: dict[str, Any] = {"norm_epsilon": 0.0 if self.model in NO_EPSILON else None}
        if self.labels is not None or num_classes == len(labels):
            implied |= {"labels": labels, "outputs": len(names)}
        missing = {name: value for name, value in implied.items() if getattr(self, name) is None}
        return self.model_copy(update=missing)


def build_torchvision(config: TorchvisionConfig, num_classes: int) -> FramedNetwork:
    """Build the network of a torchvision detector with random weights.

    Args:
        config: settings of the detector.
        num_classes: number of classes K, without a background class.

    Raises:
        UserError: the number of labels is not ``num_classes``.
    """
    config = config.with_coco_settings(num_classes)
    needed = max(config.labels) + 1 if config.labels else num_classes + config.has_background
    # An SSD has one size, and torchvision's function takes none for it.
    sizes = (
        {}
        if config.model.startswith("ssd")
        else {"min_size": config.min_size, "max_size": config.max_size}
    )
    options = {**sizes, **config.options, "num_classes": config.outputs or needed}
    model = get_model(config.model, weights=None, weights_backbone=None, **options)
    _set_norm(model.get_submodule("backbone"), config)
    network = network_of(model, config.labels)
    if network.num_classes != num_classes:
        raise UserError(
            f"detector.labels: expected a label of {config.model} for each of the {num_classes} "
            f"classes of the data, got {network.num_classes}"
        )
    return network


def load_torchvision_weights(
    network: FramedNetwork, config: TorchvisionConfig, *, exact: bool
) -> None:
    """Load the weights that the settings name, if they name any, into the network built from them.

    Weights of other classes are loaded except for the layers of the classes, and a warning is
    logged that names them. ``exact``: such weights are an error.

    Raises:
        UserError: the weights cannot be fetched or read, or they do not fit.
    """
    config = config.with_coco_settings(network.num_classes)
    if config.weights is None:
        return
    state = _state(config, config.weights)
    source = f"detector.weights: {config.weights}"
    if exact:
        load_weights(network, state, source)
        return
    # With labels that are chosen among the model's own, the layers of the classes must fit.
    layers = network.class_layers if config.labels is None else ()
    renew = config.weights == "coco"
    count = network.classes.count
    note = load_fitting_weights(network, state, source, layers, count, renew=renew)
    if note and is_first_process():
        logger.warning("%s: %s", source, note)


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
        named = {
            "outputs": config.outputs,
            "labels": config.labels and list(config.labels),
            "norm_epsilon": config.norm_epsilon,
        }
        further = "".join(f", .{name}={v}" for name, v in named.items() if v is not None)
        raise UserError(
            f"detector.weights: could not reach torchvision's COCO weights of {config.model} "
            f"({error}); fetch the file elsewhere and set detector.weights to its path{further}"
        ) from error


def _set_norm(network: nn.Module, config: TorchvisionConfig) -> None:
    """Set the epsilon of every batch norm in a network, and freeze it if the settings say so.

    The network is changed in place.
    """
    if config.norm_epsilon is not None:
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.eps = config.norm_epsilon
    if config.norm == "frozen":
        freeze_norms(network)
