"""The size that images have in a detector. Nothing here needs torch."""

from PIL import Image

InputSize = tuple[int, int]
"""(min_size, max_size) in pixels, the limits of :func:`resized_size`.

``min_size`` is the length of the shorter side after resizing. ``max_size`` is the largest length
of the longer side. Where both cannot be met, the shorter side becomes shorter than ``min_size``.
"""


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
