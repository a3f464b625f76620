"""What all networks of this library have in common: their input, their backbone, their limits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from postnms.detectors.image_batch import ImageBatch, prepare_images
from postnms.detectors.network import Selection
from postnms.detectors.parts.backbone import pyramid
from postnms.detectors.parts.classes import ClassOutputs
from postnms.distributed.collectives import CountedLoss
from postnms.structures import Candidates, Level, Targets


@dataclass(frozen=True)
class Frame:
    """The facts about a network that the pipeline around it needs."""

    levels: Mapping[str, Level]
    """Feature maps that RoIs are pooled from, by name, fine first."""
    classes: ClassOutputs
    """The outputs of the classifier that stand for classes."""
    nms_threshold: float
    """NMS suppresses boxes that overlap a key with an IoU over this."""
    max_detections: int
    """Largest number of detections for each image."""


class FramedNetwork(nn.Module):
    """Base of the networks: it prepares images and computes their features.

    A network overrides ``candidates``.

    ``transform`` and ``backbone`` are modules of torchvision and keep its state-dict names.
    """

    class_layers: tuple[str, ...]
    """Names of the layers whose size depends on the number of classes. ``*`` stands for any one
    part of a name."""
    added_layers: tuple[str, ...] = ()
    """Names of the layers that the weights of a detector without them may lack, as in
    ``class_layers``. They then keep their initial weights."""

    def __init__(
        self, transform: GeneralizedRCNNTransform, backbone: nn.Module, frame: Frame
    ) -> None:
        super().__init__()
        self.transform = transform
        self.backbone = backbone
        self.levels = frame.levels
        self.classes = frame.classes
        self.num_classes = len(frame.classes)
        self.nms_threshold = frame.nms_threshold
        self.max_detections = frame.max_detections

    def prepare(self, images: Sequence[Tensor]) -> ImageBatch:
        """Normalise, resize and pad images (3, h, w), uint8 or float in [0, 1]."""
        return prepare_images(self.transform, images)

    def features(self, images: ImageBatch) -> dict[str, Tensor]:
        """Return the levels (B, C, H, W) of the feature pyramid by name."""
        return pyramid(self.backbone, images.pixels)

    def candidates(
        self,
        features: dict[str, Tensor],
        images: ImageBatch,
        targets: Targets | None = None,
        selection: Selection = Selection(),
    ) -> tuple[Candidates, Mapping[str, Tensor | CountedLoss]]:
        """Return the candidates and the losses, see :class:`postnms.Network`."""
        raise NotImplementedError
