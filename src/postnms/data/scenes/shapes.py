"""Anti-aliased textured shapes.

A shape is defined by a function that gives the signed distance of points from its edge, in pixels.
The distance is negative inside. It is approximate away from the edge. The points are pixel centres
(x, y) in the coordinates of the shape, whose origin is its centre and whose axes are rotated.

h, w: sides of the patch that a shape covers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating]
"""An array of numbers over the pixels of a patch."""
Distance = Callable[[Field, Field, float], Field]
"""A function of x (h, w), y (h, w) and the radius, which returns signed distances (h, w).

All values are in pixels.
"""


@dataclass(frozen=True)
class Shape:
    """A shape at its position in an image: its patch, and its cover and colours there."""

    label: int
    """0..K-1, the position in :data:`SHAPES`."""
    rows: slice
    """Rows of the image in the patch, a half-open range of h pixels."""
    columns: slice
    """Columns of the image in the patch, a half-open range of w pixels."""
    cover: Field
    """(h, w) in [0, 1]: the fraction of each pixel inside the shape."""
    colour: Field
    """(h, w, 3) in [0, 1], RGB."""


def disc(x: Field, y: Field, radius: float) -> Field:
    """Return the signed distances from a filled circle."""
    return np.hypot(x, y) - radius


def ring(x: Field, y: Field, radius: float) -> Field:
    """Return the signed distances from a circle with a hole of half its radius."""
    return np.abs(np.hypot(x, y) - 0.75 * radius) - 0.25 * radius


def square(x: Field, y: Field, radius: float) -> Field:
    """Return the signed distances from a square whose corners are 1.1 radii from its centre."""
    return np.maximum(np.abs(x), np.abs(y)) - 0.78 * radius


def triangle(x: Field, y: Field, radius: float) -> Field:
    """Return the signed distances from an equilateral triangle.

    Its corners are 1.1 radii from its centre.
    """
    slanted = np.maximum(0.866 * x + 0.5 * y, -0.866 * x + 0.5 * y)
    return np.maximum(slanted, -y) - 0.55 * radius


def star(x: Field, y: Field, radius: float) -> Field:
    """Return the signed distances from a star.

    Its five points are 1 radius from its centre.
    """
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
"""The distance function of each class by its name, in the order of the labels."""

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
"""(K, 3) RGB in [0, 1]: the base colour of each class, in the order of the labels."""


def place(
    label: int, centre: tuple[float, float], radius: float, size: int, random: np.random.Generator
) -> Shape:
    """Return a shape of a class with random rotation, colour and texture.

    Args:
        label: the class, a position in :data:`SHAPES`.
        centre: x and y of the centre, in pixels of the image.
        radius: radius in pixels.
        size: side of the square image in pixels. The patch is limited to the image.
        random: generator of the random numbers.
    """
    margin = radius + 2
    left, top = (max(int(c - margin), 0) for c in centre)
    right, bottom = (min(int(c + margin) + 1, size) for c in centre)
    x, y = np.meshgrid(
        np.arange(left, right, dtype=np.float32) + 0.5 - centre[0],
        np.arange(top, bottom, dtype=np.float32) + 0.5 - centre[1],
    )
    # Rotate the points into the coordinates of the shape.
    angle = random.uniform(0, 2 * np.pi)
    cos = np.float32(np.cos(angle))
    sin = np.float32(np.sin(angle))
    u = cos * x + sin * y
    v = cos * y - sin * x
    distance = list(SHAPES.values())[label](u, v, radius)
    # The cover falls from 1 to 0 within one pixel across the edge. This is the anti-aliasing.
    cover = np.clip(0.5 - distance, 0, 1)
    return Shape(
        label,
        slice(top, bottom),
        slice(left, right),
        cover,
        _paint(label, u, v, distance, radius, random),
    )


def background(size: int, random: np.random.Generator) -> Field:
    """Return a background (size, size, 3) of smoothly varying colour, RGB around [0, 1].

    Values may lie slightly outside that range. ``generate_scene`` clips them at the end.
    """
    coarse = (
        random.normal(0, 0.09, (7, 7, 3)) + random.uniform(0.25, 0.75) + random.normal(0, 0.06, 3)
    )
    # 7 x 7 random colours are interpolated bilinearly, first along the rows' axis, then across.
    knots = np.linspace(0, 6, size)
    low = np.minimum(knots.astype(int), 5)
    share = (knots - low)[:, None]
    tall = coarse[low] * (1 - share[..., None]) + coarse[low + 1] * share[..., None]
    return (tall[:, low] * (1 - share) + tall[:, low + 1] * share).astype(np.float32)


def _paint(
    label: int, u: Field, v: Field, distance: Field, radius: float, random: np.random.Generator
) -> Field:
    """Return the colours (h, w, 3) of a shape.

    They are the base colour of the class with random changes, times a random pattern (stripes,
    rings or a gradient). The rim is darker.
    """
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
