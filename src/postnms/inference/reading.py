"""A user's image files, read ahead by worker processes in the order of the files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from postnms.data.image_files import MAX_PIXELS, load_image, read_size
from postnms.data.workers import load_ahead, worth_starting
from postnms.errors import UserError
from postnms.inference.journal import stamp_of

LARGE = 2**24
"""Number of pixels from which on an image is read by the process that needs it.

Several images are read ahead, so that much larger ones could fill the memory.
"""


@dataclass(frozen=True)
class ReadImage:
    """An image file that was read, or why it could not be."""

    stamp: list[int]
    """Size and time of the file before it was read, see :func:`stamp_of`."""
    image: Image.Image | None
    """The image in RGB. None: it could not be read."""
    error: str = ""
    """Why it could not be read."""


def read_files(
    paths: Sequence[Path], workers: int, max_pixels: int = MAX_PIXELS
) -> Iterator[ReadImage]:
    """Yield the images of some files in their order. One that cannot be read raises nothing.

    Args:
        paths: the files.
        workers: number of processes that read ahead. 0: each file is read when it is asked for. Few
            files are read so in any case.
        max_pixels: an image with more pixels is not read.
    """
    workers = worth_starting(workers, len(paths))
    if not workers:
        yield from (_read(path, max_pixels) for path in paths)
        return
    loaded = load_ahead(partial(_read_pixels, max_pixels=max_pixels), paths, workers)
    for path, found in zip(paths, loaded, strict=True):
        if found is None:
            yield _read(path, max_pixels)
        else:
            stamp, pixels, error = found
            image = None if pixels is None else Image.fromarray(pixels.numpy())
            yield ReadImage(stamp, image, error)


def _read(path: Path, max_pixels: int) -> ReadImage:
    # The stamp is taken first, so that a file that changes meanwhile is done again later.
    stamp = stamp_of(path)
    try:
        return ReadImage(stamp, load_image(path, max_pixels=max_pixels))
    except UserError as error:
        return ReadImage(stamp, None, str(error))


def _read_pixels(path: Path, max_pixels: int) -> tuple[list[int], Tensor | None, str] | None:
    """Return the parts of a :class:`ReadImage`, with the pixels (height, width, 3) as a tensor.

    torch passes tensors on in shared memory. None: the image is :data:`LARGE`.
    """
    try:
        height, width = read_size(path)
    except UserError as error:
        return stamp_of(path), None, str(error)
    if height * width >= LARGE:
        return None
    found = _read(path, max_pixels)
    if found.image is None:
        return found.stamp, None, found.error
    return found.stamp, torch.from_numpy(np.array(found.image)), ""
