"""Image files of any kind -> 8-bit RGB."""

import struct
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from postnms.errors import UserError

_UNREADABLE = (
    OSError,
    UnidentifiedImageError,
    ValueError,
    SyntaxError,
    struct.error,
    Image.DecompressionBombError,
)
"""What Pillow raises for files that it cannot read, corrupt EXIF data among them."""

EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def load_image(path: Path, size: tuple[int, int] | None = None) -> Image.Image:
    """Read an image as RGB: grey, palette, alpha (dropped), CMYK and 16-bit (scaled) ones too.

    ``size``: (height, width) that the image must have. Its EXIF rotation is applied if ``size`` is None or fits
    only the rotated image: annotations are in the stored pixel grid in some data sets, in the shown one in others.
    Raises UserError that names the file.
    """
    try:
        with Image.open(path) as file:
            file.load()
            image = file
            stored = (file.height, file.width)
            if size is None or stored != size:
                image = ImageOps.exif_transpose(file)
            rgb = _to_rgb(image)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such image") from error
    except _UNREADABLE as error:
        raise UserError(f"{path}: cannot be read as an image ({error})") from error
    if size is not None and (rgb.height, rgb.width) != size:
        raise UserError(
            f"{path}: expected {size[1]} x {size[0]} px as annotated, got {stored[1]} x {stored[0]}"
        )
    return rgb


def find_images(inputs: list[Path], leave_out: Path | None = None) -> list[Path]:
    """Image files named or lying in named folders (at any depth), folders in alphabetical order. UserError if none.

    A folder ``leave_out`` inside one of these is not searched.
    """
    found: list[Path] = []
    for path in inputs:
        if path.is_dir():
            files = sorted(
                p for p in path.rglob("*") if p.suffix.lower() in EXTENSIONS and p.is_file()
            )
            apart = leave_out if leave_out is not None and _lies_in(leave_out, path) else None
            found += [file for file in files if apart is None or not _lies_in(file, apart)]
        elif path.is_file():
            found.append(path)
        else:
            raise UserError(f"{path}: no such file or folder")
    if not found:
        raise UserError(
            f"no image in {', '.join(map(str, inputs))} (known endings: {', '.join(EXTENSIONS)})"
        )
    return found


def _lies_in(path: Path, folder: Path) -> bool:
    return folder.resolve() in path.resolve().parents


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image).astype(np.float64)
        deep = image.mode.startswith("I;16") or (image.mode == "I" and values.max(initial=0) > 255)
        top = 65535.0 if deep else 255.0
        return Image.fromarray((values.clip(0, top) * (255 / top) + 0.5).astype(np.uint8)).convert(
            "RGB"
        )
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
