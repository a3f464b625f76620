"""The two borders of the network: images and targets into its pixels, detections back into the image's.

B: images of the batch.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from postnms.detectors.config import DetectorConfig
from postnms.distributed.collectives import max_over_processes
from postnms.structures import Candidates, Detections, Targets

Found = TypeVar("Found", Candidates, Detections)

IMAGE_MEAN, IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, red green blue, for pixels in [0, 1]."""


@dataclass(frozen=True)
class ImageBatch:
    """Normalised, resized images padded to one size."""

    pixels: Tensor
    """(B, 3, H, W)."""
    sizes: list[tuple[int, int]]
    """(height, width) of each image after resizing, before padding."""
    given: list[tuple[int, int]]
    """(height, width) of each image as it came."""
    generators: Sequence[torch.Generator] | None = None
    """Of each image, where its random draws come from; None: torch's own generator."""

    @property
    def scales(self) -> Tensor:
        """(B, 2) float32: (x, y) factors from the image as given to the network's input."""
        factors = [
            (w / gw, h / gh) for (h, w), (gh, gw) in zip(self.sizes, self.given, strict=True)
        ]
        return torch.tensor(factors, device=self.pixels.device).view(-1, 2)

    def anchors(self, generator: nn.Module, levels: Sequence[Tensor]) -> list[Tensor]:
        """Anchors (A, 4) of each image by one of torchvision's generators, float32 whatever the levels are.

        The generators take the dtype of the levels, and bfloat16 would round anchors to several pixels.
        """
        exact = [torch.empty((), device=level.device).expand(level.shape) for level in levels]
        return generator(ImageList(self.pixels.float(), self.sizes), exact)


def build_transform(config: DetectorConfig) -> GeneralizedRCNNTransform:
    """Normalising, resizing and padding as the settings say."""
    return GeneralizedRCNNTransform(
        config.min_size, config.max_size, list(IMAGE_MEAN), list(IMAGE_STD)
    )


def check_images(images: Sequence[Tensor]) -> None:
    """Raise ValueError unless there is an image, and all are (3, h, w), uint8 or float."""
    if not len(images):
        raise ValueError("images: expected at least one image, got none")
    for index, image in enumerate(images):
        if (
            not isinstance(image, Tensor)
            or image.ndim != 3
            or image.shape[0] != 3
            or 0 in image.shape
        ):
            came = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
            raise ValueError(f"images[{index}]: expected a tensor (3, height, width), got {came}")
        if image.dtype != torch.uint8 and not image.is_floating_point():
            raise ValueError(
                f"images[{index}]: expected uint8 or float in [0, 1], got {image.dtype}"
            )


def prepare_images(transform: GeneralizedRCNNTransform, images: Sequence[Tensor]) -> ImageBatch:
    """(3, h, w) images, uint8 or float in [0, 1], of any sizes -> one batch, as torchvision makes it at test time.

    In training its transform would choose among several sizes at random; here augmentation is a matter of the data.
    """
    floats = [image / 255 if image.dtype == torch.uint8 else image for image in images]
    mode = transform.training
    try:
        batch, _ = transform.eval()(floats)
    finally:
        transform.train(mode)
    return ImageBatch(
        batch.tensors, batch.image_sizes, [(image.shape[1], image.shape[2]) for image in images]
    )


def pad_alike(batch: ImageBatch) -> ImageBatch:
    """Pad to the largest batch of all processes, which must call this together.

    Padding decides what a convolution sees at an image's edge and which anchors there are, so it must not depend on
    how a batch is spread; and the process with the largest images is the one that all others wait for.
    """
    height, width = batch.pixels.shape[2:]
    tallest, widest = max_over_processes([height, width], batch.pixels.device)
    return dataclasses.replace(
        batch, pixels=pad(batch.pixels, (0, widest - width, 0, tallest - height))
    )


def to_network(targets: Targets, batch: ImageBatch, num_classes: int) -> Targets:
    """Targets in the pixels of the images as given -> in the network's.

    Raises ValueError for another number of images, labels that are no class, and boxes without an area.
    """
    if targets.num_images != len(batch.sizes):
        raise ValueError(f"targets: expected {len(batch.sizes)} images, got {targets.num_images}")
    if len(targets.labels) and int(targets.labels.max()) >= num_classes:
        raise ValueError(
            f"targets.labels: expected 0 to {num_classes - 1}, got {int(targets.labels.max())}"
        )
    empty = (targets.boxes[:, 2:] <= targets.boxes[:, :2]).any(dim=1)
    if bool(empty.any()):
        row = int(empty.nonzero()[0, 0])
        raise ValueError(
            f"targets.boxes: expected positive width and height, got {targets.boxes[row].tolist()} in row {row}"
        )
    return dataclasses.replace(
        targets, boxes=targets.boxes * batch.scales[targets.image].repeat(1, 2)
    )


def to_given(found: Found, batch: ImageBatch) -> Found:
    """Detections or candidates in the network's pixels -> in those of the images as given."""
    return dataclasses.replace(found, boxes=found.boxes / batch.scales[found.image].repeat(1, 2))
