"""Images as text in a page: JPEG files as data URIs."""

import base64
import io

from PIL import Image

LONGEST_SIDE = 800
"""Largest side in pixels of an embedded picture."""
QUALITY = 80
"""Quality of the JPEG files, 1 to 95."""


def as_data_uri(image: Image.Image) -> str:
    """Return an RGB image as the data URI of a JPEG file, made smaller if it is large.

    Example:
        >>> as_data_uri(Image.new("RGB", (4, 3)))[:23]
        'data:image/jpeg;base64,'
    """
    small = image.copy()
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    data = io.BytesIO()
    small.save(data, format="JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
