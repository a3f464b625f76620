"""What a user may give a model to look at: a list of images, each read when its turn comes."""

from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from postnms.data.image_files import find_images, load_image
from postnms.data.image_objects import ImageObject, to_image
from postnms.errors import UserError

ImageInput = str | PathLike[str] | ImageObject
"""A file, a folder, a pattern such as ``"images/*.jpg"``, or an image in memory."""


@dataclass(frozen=True)
class Source:
    """One image that a model looks at."""

    name: str
    """How messages call it."""
    path: Path | None = None
    """The image file, if it is one."""
    image: ImageObject | None = None
    """The image, if it is in memory."""

    def read(self, max_pixels: int) -> Image.Image:
        """Return the image in RGB. Raises UserError if it cannot be read."""
        if self.path is not None:
            return load_image(self.path, max_pixels=max_pixels)
        return to_image(self.image, self.name)


def sources_of(images: ImageInput | Iterable[ImageInput]) -> list[Source]:
    """Return the images that a user means, in their order. Files are not opened yet.

    Args:
        images: an image, or several: a list of any of them mixed, an array (B, H, W, 3) or a tensor
            (B, 3, H, W). A folder and a pattern stand for their image files in alphabetical order.

    Raises:
        UserError: a file does not exist, a folder or a pattern has no image, or an element is of
            another type.
    """
    if isinstance(images, str | PathLike | Image.Image) or _is_one(images):
        return _of_one(images, "images")
    if not isinstance(images, Iterable):
        raise UserError(
            f"expected images or their paths, got {type(images).__name__}", argument="images"
        )
    return [
        source
        for index, image in enumerate(images)
        for source in _of_one(image, f"images[{index}]")
    ]


def _is_one(images: Any) -> bool:
    """Return whether an array or a tensor is one image rather than a batch of them."""
    return isinstance(images, Tensor | np.ndarray) and images.ndim != 4


def _of_one(image: Any, name: str) -> list[Source]:
    if isinstance(image, str | PathLike):
        return [Source(str(path), path) for path in find_images([Path(image)]).paths]
    if not isinstance(image, Image.Image | np.ndarray | Tensor):
        raise UserError(
            f"{name}: expected a path, an image of Pillow, an array or a tensor, "
            f"got {type(image).__name__}"
        )
    return [Source(name, image=image)]
