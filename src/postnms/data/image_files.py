"""Image files: finding them, and reading them as 8-bit RGB."""

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from postnms.errors import UserError

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are read, by Pillow's names. The content of a file decides, not its ending.

Others are left out on purpose: for example, Pillow starts Ghostscript for a PostScript file.
"""

EXTENSIONS = (
    ".avif",
    ".bmp",
    ".gif",
    ".jfif",
    ".jp2",
    ".jpeg",
    ".jpg",
    ".png",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)
"""Endings of the image files that are searched for in folders, in lower case."""


def load_image(path: Path, size: tuple[int, int] | None = None) -> Image.Image:
    """Read an image file as 8-bit RGB.

    The format is one of :data:`FORMATS`. Grey, palette, CMYK and 16-bit images are converted.
    16-bit values are scaled to 8 bits, and an alpha channel is dropped.

    The EXIF rotation is applied if ``size`` is None, or if the stored image does not have this
    size. Annotations refer to the stored pixels in some data sets and to the rotated image in
    others, and the size tells which.

    Args:
        path: the image file.
        size: (height, width) in pixels that the image must have. None: any size.

    Returns:
        The image, in Pillow's mode ``RGB``.

    Raises:
        UserError: the file does not exist, cannot be read, or has another size. The message
            begins with the path.
    """
    try:
        with Image.open(path, formats=_readable_formats()) as file:
            file.load()
            image = file
            stored = (file.height, file.width)
            if size is None or stored != size:
                image = ImageOps.exif_transpose(file)
            rgb = _to_rgb(image)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such image") from error
    except Exception as error:
        # The decoders are those of many authors. For broken files they raise exceptions of any
        # kind, and one broken file must not end the work on all others.
        raise UserError(f"{path}: cannot be read as an image ({error})") from error
    if size is not None and (rgb.height, rgb.width) != size:
        raise UserError(
            f"{path}: expected {size[1]} x {size[0]} px as annotated, got {stored[1]} x {stored[0]}"
        )
    return rgb


@cache
def _readable_formats() -> tuple[str, ...]:
    """Return those of ``FORMATS`` that this build of Pillow can read."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def find_images(inputs: list[Path], leave_out: Path | None = None) -> list[Path]:
    """List the image files that are named, and those in folders that are named.

    Args:
        inputs: files and folders. A file is taken whatever its ending is. A folder is searched at
            any depth for files with one of the endings in :data:`EXTENSIONS`.
        leave_out: a folder whose files are skipped if it lies inside one of the searched folders.
            It has no effect if it is the searched folder itself or lies above it.

    Returns:
        The paths in the order of ``inputs``. The files of one folder are in alphabetical order.

    Raises:
        UserError: an input does not exist, or there is no image at all.
    """
    images: list[Path] = []
    for path in inputs:
        if path.is_dir():
            files = sorted(
                p for p in path.rglob("*") if p.suffix.lower() in EXTENSIONS and p.is_file()
            )
            skipped = leave_out if leave_out is not None and _lies_in(leave_out, path) else None
            images += [file for file in files if skipped is None or not _lies_in(file, skipped)]
        elif path.is_file():
            images.append(path)
        else:
            raise UserError(f"{path}: no such file or folder")
    if not images:
        raise UserError(
            f"no image in {', '.join(map(str, inputs))} (known endings: {', '.join(EXTENSIONS)})"
        )
    return images


def _lies_in(path: Path, folder: Path) -> bool:
    """Return whether a path lies inside a folder, at any depth."""
    return folder.resolve() in path.resolve().parents


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any of Pillow's modes to 8-bit RGB."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image).astype(np.float64)
        # Pillow opens some 16-bit files in the 32-bit mode "I". Only the values tell the range.
        deep = image.mode.startswith("I;16") or (image.mode == "I" and values.max(initial=0) > 255)
        top = 65535.0 if deep else 255.0
        return Image.fromarray((values.clip(0, top) * (255 / top) + 0.5).astype(np.uint8)).convert(
            "RGB"
        )
    # Pillow warns when it converts a palette with transparency to RGB without this step.
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
