"""Resizing and augmentation of one sample. Random decisions come from the generator that is passed in."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated

import torch
from PIL import Image
from pydantic import Field
from torch import Generator, Tensor
from torchvision.transforms import v2

from postnms.config import Config

Fraction = Annotated[float, Field(ge=0, le=1)]


class AugmentationConfig(Config):
    """Random changes of training images."""

    horizontal_flip: Fraction = 0.5
    """Probability."""
    vertical_flip: Fraction = 0.0
    transpose: Fraction = 0.0
    """Probability of swapping x and y; for pictures without an up, with both flips: all eight orientations."""
    brightness: Fraction = 0.0
    """Largest relative change, up or down."""
    contrast: Fraction = 0.0
    saturation: Fraction = 0.0


@dataclass(frozen=True)
class Sample:
    """One image with its objects, in pixels of ``image``."""

    image: Tensor
    """(3, height, width) uint8."""
    boxes: Tensor
    """(m, 4) float32, xyxy."""
    labels: Tensor
    """(m,) int64."""
    crowd: Tensor
    """(m,) bool."""
    image_id: int
    original_size: tuple[int, int]
    """(height, width) before resizing."""


def resized_size(height: int, width: int, min_size: int, max_size: int) -> tuple[int, int]:
    """(height, width) with the shorter side ``min_size``, or less so that the longer is at most ``max_size``.

    One side is met exactly, so torchvision's detection transform with the same sizes then changes nothing.
    """
    short, long = min(height, width), max(height, width)
    if long * min_size <= max_size * short:
        short, long = min_size, min(round(long * min_size / short), max_size)
    else:
        short, long = max(round(short * max_size / long), 1), max_size
    return (short, long) if height <= width else (long, short)


def resize(image: Image.Image, min_size: int, max_size: int) -> Image.Image:
    """The image in :func:`resized_size`, bilinear and anti-aliased."""
    height, width = resized_size(image.height, image.width, min_size, max_size)
    return (
        image
        if image.size == (width, height)
        else image.resize((width, height), Image.Resampling.BILINEAR)
    )


def augment(sample: Sample, config: AugmentationConfig, generator: Generator) -> Sample:
    """Random flips, transposition and colour changes; always draws the same count of random numbers."""
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
    """Mirror left and right."""
    left, top, right, bottom = sample.boxes.unbind(1)
    width = sample.image.shape[2]
    boxes = torch.stack([width - right, top, width - left, bottom], dim=1)
    return dataclasses.replace(sample, image=sample.image.flip(2), boxes=boxes)


def vflip(sample: Sample) -> Sample:
    """Mirror top and bottom."""
    left, top, right, bottom = sample.boxes.unbind(1)
    height = sample.image.shape[1]
    boxes = torch.stack([left, height - bottom, right, height - top], dim=1)
    return dataclasses.replace(sample, image=sample.image.flip(1), boxes=boxes)


def transpose(sample: Sample) -> Sample:
    """Swap x and y."""
    height, width = sample.original_size
    return dataclasses.replace(
        sample,
        image=sample.image.transpose(1, 2),
        boxes=sample.boxes[:, [1, 0, 3, 2]],
        original_size=(width, height),
    )
