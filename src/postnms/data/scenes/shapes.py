"""Anti-aliased textured shapes: signed distances, and colour patches on them.

A signed distance is negative inside, in pixels; x and y are pixel centres in the shape's own, rotated frame.
h, w: sides of the patch that a shape covers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating]
Distance = Callable[[Field, Field, float], Field]


@dataclass(frozen=True)
class Shape:
    """A placed shape: where it covers the image, how much, and in what colours."""

    label: int
    rows: slice
    columns: slice
    cover: Field
    """(h, w) in [0, 1]: the share of each pixel inside the shape."""
    colour: Field
    """(h, w, 3) in [0, 1]."""


def disc(x: Field, y: Field, radius: float) -> Field:
    """A filled circle."""
    return np.hypot(x, y) - radius


def ring(x: Field, y: Field, radius: float) -> Field:
    """A circle with a hole of about half its radius."""
    return np.abs(np.hypot(x, y) - 0.75 * radius) - 0.25 * radius


def square(x: Field, y: Field, radius: float) -> Field:
    """A square whose corners lie on the circle."""
    return np.maximum(np.abs(x), np.abs(y)) - 0.78 * radius


def triangle(x: Field, y: Field, radius: float) -> Field:
    """An equilateral triangle whose corners lie on the circle."""
    slanted = np.maximum(0.866 * x + 0.5 * y, -0.866 * x + 0.5 * y)
    return np.maximum(slanted, -y) - 0.55 * radius


def star(x: Field, y: Field, radius: float) -> Field:
    """A star with five points."""
    angle = np.arctan2(y, x) * 5 / (2 * np.pi)
    edge = 1 - 1.1 * np.abs(angle - np.round(angle))
    return (np.hypot(x, y) - radius * edge) * 0.75


SHAPES: dict[str, Distance] = {
    "disc": disc,
    "ring": ring,
    "square": square,
    "triangle": triangle,
    "star": star,
}

_BASE_COLOURS = np.array(
    [
        [0.86, 0.33, 0.28],
        [0.25, 0.52, 0.85],
        [0.95, 0.74, 0.25],
        [0.35, 0.70, 0.43],
        [0.66, 0.42, 0.78],
    ],
    np.float32,
)


def place(
    label: int, centre: tuple[float, float], radius: float, size: int, random: np.random.Generator
) -> Shape:
    """A shape of a class, with its own rotation, colour and texture, as far as it lies in a size x size image."""
    margin = radius + 2
    left, top = (max(int(c - margin), 0) for c in centre)
    right, bottom = (min(int(c + margin) + 1, size) for c in centre)
    x, y = np.meshgrid(
        np.arange(left, right, dtype=np.float32) + 0.5 - centre[0],
        np.arange(top, bottom, dtype=np.float32) + 0.5 - centre[1],
    )
    angle = random.uniform(0, 2 * np.pi)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = cos * x + sin * y, cos * y - sin * x
    distance = list(SHAPES.values())[label](u, v, radius)
    cover = np.clip(0.5 - distance, 0, 1)
    return Shape(
        label,
        slice(top, bottom),
        slice(left, right),
        cover,
        _paint(label, u, v, distance, radius, random),
    )


def background(size: int, random: np.random.Generator) -> Field:
    """A smooth, grainy (size, size, 3) ground in [0, 1]."""
    coarse = (
        random.normal(0, 0.09, (7, 7, 3)) + random.uniform(0.25, 0.75) + random.normal(0, 0.06, 3)
    )
    knots = np.linspace(0, 6, size)
    low = np.minimum(knots.astype(int), 5)
    share = (knots - low)[:, None]
    tall = coarse[low] * (1 - share[..., None]) + coarse[low + 1] * share[..., None]
    return (tall[:, low] * (1 - share) + tall[:, low + 1] * share).astype(np.float32)


def _paint(
    label: int, u: Field, v: Field, distance: Field, radius: float, random: np.random.Generator
) -> Field:
    """Base colour of the class with a jitter; stripes, rings or a gradient; a darker rim."""
    base = _BASE_COLOURS[label] * random.uniform(0.75, 1.15) + random.normal(0, 0.07, 3).astype(
        np.float32
    )
    wave = random.uniform(0.6, 1.4) * 6 / radius
    pattern = (
        np.sin(wave * u * 2),
        np.sin(wave * np.hypot(u, v) * 2),
        v / radius,
    )[random.integers(3)]
    rim = np.where(distance > -max(1.0, 0.08 * radius), 0.6, 1.0)
    return (base * ((1 + 0.16 * pattern) * rim)[..., None]).astype(np.float32)
