"""Conversion of images of any mode to 8-bit RGB, with one rule for values of more than 8 bits."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL import TiffImagePlugin as TiffTags

from postnms.errors import UserError

_RANGES = (255, 4095, 65535, 2**32 - 1)
"""Largest values of integers of 8, 12, 16 and 32 bits. Those of signed types are smaller."""
_FLOAT_RANGES = (1.0, 255.0, 65535.0)
"""Largest values of floats in the scales that are in use."""
_STRIP = 2**22
"""Number of pixels of more than 8 bits that are converted at once, to use little memory."""
_WHITE_IS_ZERO = 0
"""Value of the TIFF tag ``PhotometricInterpretation`` for grey images that are stored inverted."""
_SIGNED = 2
"""Value of the TIFF tag ``SampleFormat`` for signed integers."""


def to_rgb(file: Image.Image) -> Image.Image:
    """Convert a loaded image file of any of Pillow's modes to 8-bit RGB, in a new image.

    Values of more than 8 bits are scaled to 8. Their scale is the smallest that holds the largest
    value: for integers that of 8, 12, 16 or 32 bits, for floats 1, 255 or 65535. Negative values
    are black. An alpha channel is dropped.

    Raises:
        ValueError: a value is not finite, or is beyond every scale.
    """
    tiff = getattr(file, "tag_v2", {})
    signed = tiff.get(TiffTags.SAMPLEFORMAT, ()) == (_SIGNED,)
    if file.mode == "F":
        grey = _in_8_bits(file, np.dtype(np.float32), _FLOAT_RANGES)
    elif file.mode.startswith("I") or (file.mode == "L" and signed):
        stored = _integers_of(file, signed)
        most = np.iinfo(stored).max
        grey = _in_8_bits(file, stored, tuple(min(top, most) for top in _RANGES))
    else:
        # Pillow warns when it converts a palette with transparency to RGB without this step.
        has_clear_colour = file.mode == "P" and "transparency" in file.info
        return (file.convert("RGBA") if has_clear_colour else file).convert("RGB")
    # Pillow does this itself for images of 8 bits alone.
    if tiff.get(TiffTags.PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO and file.mode != "L":
        grey = ImageOps.invert(grey)
    return grey.convert("RGB")


def pillow_to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Return an image that a user holds in memory as 8-bit RGB, see :func:`to_rgb`.

    Raises UserError that begins with ``name`` if it has no pixels, or cannot be read.
    """
    if 0 in image.size:
        raise UserError(f"{name}: expected an image with pixels, got {image.size}")
    try:
        image.load()
        return to_rgb(image)
    except (OSError, ValueError) as error:
        raise UserError(f"{name}: cannot be read as an image ({error})") from error


def _integers_of(file: Image.Image, signed: bool) -> np.dtype[Any]:
    """Return the type of the integers of a grey image as they were stored.

    Pillow has one type of 32 bits, the signed one: to it belong signed integers of 16 bits, and
    unsigned ones of 32 bits, of which the large ones come out as negative.
    """
    bits = getattr(file, "tag_v2", {}).get(TiffTags.BITSPERSAMPLE, (0,))[0]
    if signed:
        return np.dtype({8: np.int8, 16: np.int16}.get(bits, np.int32))
    return np.dtype(np.uint32 if bits == 32 else np.uint16 if ";16" in file.mode else np.int32)


def _in_8_bits(image: Image.Image, stored: np.dtype[Any], scales: tuple[float, ...]) -> Image.Image:
    """Return a grey image of 8 bits from values in the scale that :func:`to_rgb` describes.

    Raises ValueError if a value is not finite or is beyond every scale.
    """
    rows = max(1, _STRIP // image.width)
    most = max(float(strip.max(initial=0)) for _, strip in _strips(image, stored, rows))
    top = next((float(scale) for scale in scales if most <= scale), None)
    if top is None:
        raise ValueError(f"expected finite values up to {scales[-1]:g}, got up to {most:g}")
    grey = Image.new("L", image.size)
    for start, strip in _strips(image, stored, rows):
        values = (strip.clip(0) * (255 / top) + 0.5).astype(np.uint8)
        grey.paste(Image.fromarray(values), (0, start))
    return grey


def _strips(
    image: Image.Image, stored: np.dtype[Any], rows: int
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield the first row and the values of each strip of some rows. Each value must be finite."""
    for start in range(0, image.height, rows):
        strip = image.crop((0, start, image.width, min(start + rows, image.height)))
        values = np.asarray(strip)
        if stored.itemsize == values.dtype.itemsize:
            values = values.view(stored.newbyteorder(values.dtype.byteorder))
        values = values.astype(np.float64)
        if not np.isfinite(values).all():
            raise ValueError("expected finite values up to 65535, got NaN or infinity")
        yield start, values
