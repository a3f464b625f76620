"""The two borders of a network: images and targets into its pixels, results back out of them.

B: images of the batch, A: anchors of an image over all levels.
"""

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from postnms.data.image_objects import check_pixels
from postnms.devices import constant
from postnms.distributed.collectives import max_over_processes
from postnms.structures import Scored, Targets, derive, rescale


@dataclass(frozen=True)
class ImageBatch:
    """Normalised and resized images, padded to one size."""

    pixels: Tensor
    """(B, 3, H, W)."""
    sizes: list[tuple[int, int]]
    """(height, width) of each image after resizing, before padding."""
    given: list[tuple[int, int]]
    """(height, width) of each image as it was given."""
    generators: Sequence[torch.Generator] | None = None
    """The source of the random draws for each image. None: torch's own generator."""

    @property
    def from_given(self) -> Tensor:
        """(B, 2) float32: factors of x and y from the images as given to the network's input."""
        factors = [
            (w / gw, h / gh) for (h, w), (gh, gw) in zip(self.sizes, self.given, strict=True)
        ]
        return constant(factors, torch.float32, self.pixels.device).view(-1, 2)

    def anchors(self, generator: nn.Module, levels: Sequence[Tensor]) -> list[Tensor]:
        """Return the anchors (A, 4) of each image, made by one of torchvision's generators.

        The anchors are float32 whatever the dtype of the levels (B, C, H, W) is. The generators
        take over the dtype of the levels, and bfloat16 would round anchors to several pixels.
        """
        exact = [
            torch.empty((), dtype=torch.float32, device=level.device).expand(level.shape)
            for level in levels
        ]
        # The generator of SSD makes some of its tensors on the default device, and takes it for the
        # CPU.
        with torch.device("cpu"):
            return generator(ImageList(self.pixels.float(), self.sizes), exact)


def check_images(images: Sequence[Tensor]) -> None:
    """Raise ValueError unless there is an image, and all are (3, h, w), uint8 or in [0, 1]."""
    if not len(images):
        raise ValueError("images: expected at least one image, got none")
    for index, image in enumerate(images):
        is_tensor = isinstance(image, Tensor)
        if not is_tensor or image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
            came = tuple(image.shape) if is_tensor else type(image).__name__
            raise ValueError(f"images[{index}]: expected a tensor (3, height, width), got {came}")
    check_pixels({f"images[{index}]": image for index, image in enumerate(images)})


def check_targets(targets: object, num_images: int) -> None:
    """Raise ValueError unless these are :class:`postnms.Targets` of ``num_images`` images."""
    if not isinstance(targets, Targets):
        raise ValueError(
            f"targets: expected postnms.Targets or a list of dicts, got {type(targets).__name__}"
        )
    if targets.num_images != num_images:
        raise ValueError(f"targets: expected {num_images} images, got {targets.num_images}")


def prepare_images(transform: GeneralizedRCNNTransform, images: Sequence[Tensor]) -> ImageBatch:
    """Make one batch of images (3, h, w) of any sizes, uint8 or float in [0, 1].

    The transform runs in evaluation mode. In training mode it would choose among several sizes at
    random, but in this library augmentation belongs to the data.
    """
    floats = [image.float() / 255 if image.dtype == torch.uint8 else image for image in images]
    first = floats[0]
    mean, std = (
        constant(values, first.dtype, first.device)
        for values in (transform.image_mean, transform.image_std)
    )
    # A copy, so that the module stays as it is. It has the constants on the device of the images:
    # the module would copy them for each image, and the host would wait for a GPU each time.
    ready = copy.copy(transform)
    ready.__dict__.update(training=False, image_mean=mean, image_std=std)
    batch, _ = ready(floats)
    given = [(image.shape[1], image.shape[2]) for image in images]
    return ImageBatch(batch.tensors, batch.image_sizes, given)


def pad_alike(batch: ImageBatch) -> ImageBatch:
    """Pad to the size of the largest batch of all processes, which must call this together.

    Padding decides which values a convolution sees at the edge of an image and which anchors there
    are. So it must not depend on how a batch is spread over the processes. It costs little: all
    processes wait for the one with the largest images anyway.
    """
    height, width = batch.pixels.shape[2:]
    tallest, widest = max_over_processes([height, width], batch.pixels.device)
    padded = pad(batch.pixels, (0, widest - width, 0, tallest - height))
    return dataclasses.replace(batch, pixels=padded)


def to_network(targets: Targets, batch: ImageBatch, num_classes: int) -> Targets:
    """Move targets from the pixels of the images as given to those of the network's input.

    Raises ValueError for another device than that of the batch, for labels that are no class, and
    for boxes without an area.
    """
    if targets.boxes.device != batch.pixels.device:
        raise ValueError(
            f"targets: expected device {batch.pixels.device} as the images, "
            f"got {targets.boxes.device}"
        )
    no_class = targets.labels >= num_classes
    empty = (targets.boxes[:, 2:] <= targets.boxes[:, :2]).any(dim=1)
    if bool((no_class | empty).any()):
        _name_wrong_target(targets, no_class, empty, num_classes)
    factors = batch.from_given[targets.image].repeat(1, 2)
    return derive(targets, boxes=targets.boxes * factors)


def _name_wrong_target(
    targets: Targets, no_class: Tensor, empty: Tensor, num_classes: int
) -> NoReturn:
    """Raise ValueError for a row whose label is no class, or whose box has no area."""
    if bool(no_class.any()):
        raise ValueError(
            f"targets.labels: expected 0 to {num_classes - 1}, got {int(targets.labels.max())}"
        )
    row = int(empty.nonzero()[0, 0])
    raise ValueError(
        f"targets.boxes: expected positive width and height, "
        f"got {targets.boxes[row].tolist()} in row {row}"
    )


def to_given(structure: Scored, batch: ImageBatch) -> Scored:
    """Move detections or candidates from the network's pixels to those of the images as given.

    The extra columns are moved with the boxes.
    """
    return rescale(structure, batch.from_given, undo=True)
