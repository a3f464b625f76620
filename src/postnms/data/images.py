"""Image files of any kind -> 8-bit RGB."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from postnms.errors import UserError

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
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: cannot be read as an image ({error})") from error
    if size is not None and (rgb.height, rgb.width) != size:
        raise UserError(f"{path}: expected {size[1]} x {size[0]} px as annotated, got {stored[1]} x {stored[0]}")
    return rgb


def find_images(inputs: list[Path]) -> list[Path]:
    """Image files named or lying in named folders (at any depth), folders in alphabetical order. UserError if none."""
    found: list[Path] = []
    for path in inputs:
        if path.is_dir():
            found += sorted(p for p in path.rglob("*") if p.suffix.lower() in EXTENSIONS)
        elif path.is_file():
            found.append(path)
        else:
            raise UserError(f"{path}: no such file or folder")
    if not found:
        raise UserError(f"no image in {', '.join(map(str, inputs))} (known endings: {', '.join(EXTENSIONS)})")
    return found


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image).astype(np.float64)
        top = 65535.0 if image.mode.startswith("I") and values.max(initial=0) > 255 else 255.0
        return Image.fromarray((values.clip(0, top) * (255 / top) + 0.5).astype(np.uint8)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
