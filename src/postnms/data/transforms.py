"""Resizing and augmentation of one image with its objects.

Every random decision comes from a generator that the caller passes in.

m: objects of an image.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import AfterValidator, PositiveFloat
from torch import Generator, Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from postnms.config import Config, Fraction
from postnms.data.dataset import ImageId
from postnms.data.resizing import InputSize, resized_size

FILL = (124, 116, 104)
"""Colour around an image that has become smaller: the mean of ImageNet's pixels."""
LEAST_CROP = 16
"""Shortest side, in pixels, of an image that is cropped."""
LEAST_SIDE = 1.0
"""Shortest side, in pixels, of what a crop leaves of a box. Boxes with less are left out."""


def _ordered(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError(f"expected the smaller limit first, got {limits}")
    return limits


class AugmentationConfig(Config):
    """Random changes of training images. Each change is drawn independently for each image."""

    horizontal_flip: Fraction = 0.5
    """Probability of mirroring left and right, in [0, 1]."""
    vertical_flip: Fraction = 0.0
    """Probability of mirroring top and bottom, in [0, 1]."""
    transpose: Fraction = 0.0
    """Probability of swapping x and y, in [0, 1].

    Together with both flips it gives all eight orientations. It suits images without an upright
    direction, such as aerial images.
    """
    brightness: Fraction = 0.0
    """Largest relative change of the brightness, in [0, 1].

    The factor is drawn uniformly from [1 - brightness, 1 + brightness]. 0: no change.
    """
    contrast: Fraction = 0.0
    """Largest relative change of the contrast, in [0, 1]. It is drawn as for ``brightness``."""
    saturation: Fraction = 0.0
    """Largest relative change of the saturation, in [0, 1]. It is drawn as for ``brightness``."""
    scale: Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_ordered)] = (1.0, 1.0)
    """Smallest and largest factor of the size of the objects.

    This is large-scale jitter (arXiv 2012.07177). The factor is drawn uniformly on a logarithmic
    scale. The image keeps its size: a random part of a larger image is cut out, and a smaller one
    is put at a random place on grey."""
    crop: Fraction = 0.0
    """Probability of a crop with a lower limit of the overlap with an object, as for SSD
    (arXiv 1512.02325, section 2.2). It is enlarged to the limits of the image size."""

    @property
    def turns(self) -> "AugmentationConfig":
        """The changes of the orientation alone."""
        return AugmentationConfig(
            horizontal_flip=self.horizontal_flip,
            vertical_flip=self.vertical_flip,
            transpose=self.transpose,
        )

    @property
    def turns_only(self) -> bool:
        """Whether images change in their orientation alone, so that the same ones come again."""
        return self == self.turns

    @property
    def largest_scale(self) -> float:
        """Largest factor by which an image is enlarged, at least 1."""
        return max(self.scale[1], 1.0)


@dataclass(frozen=True)
class Sample:
    """One image with its objects, in pixels of ``image``."""

    image: Tensor
    """(3, height, width) uint8, RGB."""
    boxes: Tensor
    """(m, 4) float32, xyxy."""
    labels: Tensor
    """(m,) int64, 0..K-1."""
    crowd: Tensor
    """(m,) bool. True: the box covers a group of objects."""
    image_id: ImageId
    """The id of the image in the annotations."""
    original_size: tuple[int, int]
    """(height, width) in pixels before resizing."""


def augment(
    sample: Sample, config: AugmentationConfig, generator: Generator, size: InputSize | None = None
) -> Sample:
    """Return the sample after random changes of place, size and colour.

    Args:
        sample: the image with its objects. Where ``config.scale`` enlarges, it is larger than the
            result by ``config.largest_scale``.
        config: the random changes.
        generator: the source of all random numbers. Flips and colours draw the same count of them
            whatever the settings are. So a change of one setting leaves the decisions for others
            as they are.
        size: limits of the size of the result. None: crops keep the size that they have.
    """
    flip, flip_vertical, swap, brightness, contrast, saturation = torch.rand(
        6, generator=generator
    ).tolist()
    if config.scale != (1.0, 1.0):
        sample = jitter_scale(sample, config, generator)
    if config.crop:
        sample = crop(sample, config.crop, generator, size)
    if flip < config.horizontal_flip:
        sample = hflip(sample)
    if flip_vertical < config.vertical_flip:
        sample = vflip(sample)
    if swap < config.transpose:
        sample = transpose(sample)
    image = sample.image
    for change, strength, draw in (
        (v2.functional.adjust_brightness, config.brightness, brightness),
        (v2.functional.adjust_contrast, config.contrast, contrast),
        (v2.functional.adjust_saturation, config.saturation, saturation),
    ):
        if strength:
            image = change(image, 1 + strength * (2 * draw - 1))
    return dataclasses.replace(sample, image=image)


def jitter_scale(sample: Sample, config: AugmentationConfig, generator: Generator) -> Sample:
    """Return the sample with objects of another size, in an image of the size without enlargement.

    The image of ``sample`` is larger than that by ``config.largest_scale``, so that enlarged
    objects are as sharp as the file is.
    """
    low, high = (math.log(limit) for limit in config.scale)
    draw, across, down = torch.rand(3, generator=generator).tolist()
    factor = math.exp(low + (high - low) * draw)
    height, width = sample.image.shape[1:]
    canvas = [max(round(side / config.largest_scale), 1) for side in (height, width)]
    scaled = [max(round(side * factor), 1) for side in canvas]
    image = v2.functional.resize(tv_tensors.Image(sample.image), scaled)
    boxes = v2.functional.resize(_boxes(sample), scaled)
    # Cut out where the scaled image is larger than the canvas, and fill up where it is smaller.
    top, left = (
        round((there - here) * draw)
        for there, here, draw in zip(scaled, canvas, (down, across), strict=True)
    )
    part = (max(top, 0), max(left, 0), min(scaled[0], canvas[0]), min(scaled[1], canvas[1]))
    place = [max(-left, 0), max(-top, 0)]
    rest = [canvas[1] - part[3] - place[0], canvas[0] - part[2] - place[1]]
    image = v2.functional.pad(v2.functional.crop(image, *part), [*place, *rest], fill=list(FILL))
    boxes = v2.functional.pad(v2.functional.crop(boxes, *part), [*place, *rest])
    return _with_boxes(sample, image, boxes)


def crop(
    sample: Sample, probability: float, generator: Generator, size: InputSize | None = None
) -> Sample:
    """Return, with a probability, a random crop of the sample, resized to the limits ``size``."""
    draw = torch.rand(1, generator=generator).item()
    seed = int(torch.randint(2**62, (1,), generator=generator))
    if draw >= probability or not len(sample.labels) or min(sample.image.shape[1:]) < LEAST_CROP:
        return sample
    image, boxes = tv_tensors.Image(sample.image), _boxes(sample)
    # The transform draws from torch's own generator, which is as before behind this block.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        image, boxes = v2.RandomIoUCrop()(image, boxes)
    if size is not None:
        target = list(resized_size(image.shape[1], image.shape[2], *size))
        image, boxes = (v2.functional.resize(part, target) for part in (image, boxes))
    return _with_boxes(sample, image, boxes)


def hflip(sample: Sample) -> Sample:
    """Return the sample with left and right mirrored."""
    image, boxes = tv_tensors.Image(sample.image), _boxes(sample)
    flip = v2.functional.horizontal_flip
    return dataclasses.replace(
        sample, image=flip(image).as_subclass(Tensor), boxes=flip(boxes).as_subclass(Tensor)
    )


def vflip(sample: Sample) -> Sample:
    """Return the sample with top and bottom mirrored."""
    image, boxes = tv_tensors.Image(sample.image), _boxes(sample)
    flip = v2.functional.vertical_flip
    return dataclasses.replace(
        sample, image=flip(image).as_subclass(Tensor), boxes=flip(boxes).as_subclass(Tensor)
    )


def transpose(sample: Sample) -> Sample:
    """Return the sample with x and y swapped, in the image, the boxes and the original size.

    torchvision has no such transform.
    """
    height, width = sample.original_size
    return dataclasses.replace(
        sample,
        image=sample.image.transpose(1, 2),
        boxes=sample.boxes[:, [1, 0, 3, 2]],
        original_size=(width, height),
    )


def _boxes(sample: Sample) -> tv_tensors.BoundingBoxes:
    """Return the boxes of a sample as the transforms of torchvision take them."""
    size = (sample.image.shape[1], sample.image.shape[2])
    xyxy = tv_tensors.BoundingBoxFormat.XYXY
    return tv_tensors.BoundingBoxes(sample.boxes, format=xyxy, canvas_size=size)  # pyright: ignore


def _with_boxes(sample: Sample, image: Tensor, boxes: Tensor) -> Sample:
    """Return a sample with a part of its image, and with those boxes of which enough is left."""
    left = boxes.as_subclass(Tensor)
    keep = ((left[:, 2:] - left[:, :2]) >= LEAST_SIDE).all(dim=1)
    return dataclasses.replace(
        sample,
        image=image.as_subclass(Tensor).contiguous(),
        boxes=left[keep],
        labels=sample.labels[keep],
        crowd=sample.crowd[keep],
        original_size=(image.shape[1], image.shape[2]),
    )
