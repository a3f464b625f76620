"""Resizing and augmentation of one image with its objects.

Every random decision comes from a generator that the caller passes in.

m: objects of an image.
"""

import dataclasses
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Generator, Tensor
from torchvision.transforms import v2

from postnms.config import Config, Fraction
from postnms.data.dataset import ImageId

InputSize = tuple[int, int]
"""(min_size, max_size) in pixels, the limits of :func:`resized_size`.

``min_size`` is the length of the shorter side after resizing. ``max_size`` is the largest length
of the longer side. Where both cannot be met, the shorter side becomes shorter than ``min_size``.
"""


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


def resized_size(height: int, width: int, min_size: int, max_size: int) -> tuple[int, int]:
    """Return the (height, width) to which an image of the given size is resized.

    The aspect ratio stays, up to rounding. The shorter side becomes ``min_size``, or less where
    the longer side would otherwise exceed ``max_size``. All values are in pixels.

    One of the two limits is always met exactly. The detection transform of torchvision with the
    same limits therefore leaves the resized image as it is.

    Example:
        >>> resized_size(480, 640, min_size=800, max_size=1333)
        (800, 1067)
        >>> resized_size(480, 1920, min_size=800, max_size=1333)
        (333, 1333)
    """
    short, long = min(height, width), max(height, width)
    # In whole numbers, so that rounding cannot decide which of the two limits applies.
    if long * min_size <= max_size * short:
        short, long = min_size, min(round(long * min_size / short), max_size)
    else:
        short, long = max(round(short * max_size / long), 1), max_size
    return (short, long) if height <= width else (long, short)


def resize(image: Image.Image, min_size: int, max_size: int) -> Image.Image:
    """Return the image in the size of :func:`resized_size`, bilinear and anti-aliased.

    An image that has this size already is returned itself.
    """
    height, width = resized_size(image.height, image.width, min_size, max_size)
    return (
        image
        if image.size == (width, height)
        else image.resize((width, height), Image.Resampling.BILINEAR)
    )


def augment(sample: Sample, config: AugmentationConfig, generator: Generator) -> Sample:
    """Return the sample after random flips, transposition and changes of colour.

    It draws the same count of random numbers from ``generator`` whatever the settings are. So a
    change of one setting leaves the decisions for all others as they are.
    """
    flip, flip_vertical, swap, brightness, contrast, saturation = torch.rand(
        6, generator=generator
    ).tolist()
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


def hflip(sample: Sample) -> Sample:
    """Return the sample with left and right mirrored."""
    left, top, right, bottom = sample.boxes.unbind(1)
    width = sample.image.shape[2]
    boxes = torch.stack([width - right, top, width - left, bottom], dim=1)
    return dataclasses.replace(sample, image=sample.image.flip(2), boxes=boxes)


def vflip(sample: Sample) -> Sample:
    """Return the sample with top and bottom mirrored."""
    left, top, right, bottom = sample.boxes.unbind(1)
    height = sample.image.shape[1]
    boxes = torch.stack([left, height - bottom, right, height - top], dim=1)
    return dataclasses.replace(sample, image=sample.image.flip(1), boxes=boxes)


def transpose(sample: Sample) -> Sample:
    """Return the sample with x and y swapped, in the image, the boxes and the original size."""
    height, width = sample.original_size
    return dataclasses.replace(
        sample,
        image=sample.image.transpose(1, 2),
        boxes=sample.boxes[:, [1, 0, 3, 2]],
        original_size=(width, height),
    )
