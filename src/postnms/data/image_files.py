"""Image files: finding them, and reading them as 8-bit RGB.

Every image of the library is read here: in the formats that are named, up to a number of pixels,
and with one rule for images of more than 8 bits.
"""

import glob
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import ExifTags, Image, ImageOps

from postnms.data.image_modes import to_rgb
from postnms.errors import UserError, shown_path

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are read, by Pillow's names. The content of a file decides, not its ending.

Others are left out on purpose: for example, Pillow starts Ghostscript for a PostScript file.
"""

EXTENSIONS = (
    *(".apng", ".avif", ".avifs", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg"),
    *(".jpg", ".jpx", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)
"""Endings of the image files that are searched for in folders, in lower case."""

MAX_PIXELS = 200_000_000
"""Default of the largest number of pixels of an image: that of 14,000 x 14,000.

A small file can hold a much larger image. While it is read, a pixel takes up to 8 bytes: 4 as RGB
and 4 as it was stored. So an image takes at most 1.6 GB.
"""

_TURNED = (5, 6, 7, 8)
"""Values of the EXIF orientation that swap width and height."""
_BACK = {6: 8, 8: 6}
"""Values of the EXIF orientation that undo another one. All others undo themselves."""
_LIMIT = threading.Lock()
"""Held while Pillow's own limit of pixels, which belongs to the whole process, is switched off."""


@dataclass(frozen=True)
class FoundImages:
    """The image files in some folders."""

    paths: list[Path]
    left_out: Counter[str]
    """Number of the other files by their ending, in lower case."""


def load_image(
    path: Path, size: tuple[int, int] | None = None, *, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Read an image file as 8-bit RGB.

    The format is one of :data:`FORMATS`. Of a file with several images the first one is read. Grey,
    palette, CMYK and other images are converted, and an alpha channel is dropped.

    Values of more than 8 bits are scaled to 8. Their scale is the smallest that holds the largest
    value: for integers that of 8, 12, 16 or 32 bits, for floats 1, 255 or 65535. So 12 bits that
    are stored in 16 are as bright as they should be. Negative values are black.

    The EXIF rotation is applied if ``size`` is None, or if the stored image does not have this
    size. Annotations refer to the stored pixels in some data sets and to the rotated image in
    others, and the size tells which. EXIF data that are damaged say nothing.

    Args:
        path: the image file.
        size: (height, width) in pixels that the image must have. None: any size.
        max_pixels: largest number of pixels that the image may have.

    Returns:
        The image, in Pillow's mode ``RGB``.

    Raises:
        UserError: the file does not exist, cannot be read, has more pixels than ``max_pixels``, or
            has another size. The message begins with the path.
    """
    with _open_image(path, max_pixels) as file:
        stored = _sizes(file)[0]
        turn = _turn_after_loading(file, as_stored=size == stored)
        file.load()
        rgb = to_rgb(file)
        if turn != 1:
            rgb.getexif()[ExifTags.Base.Orientation] = turn
            ImageOps.exif_transpose(rgb, in_place=True)
    if size is not None and (rgb.height, rgb.width) != size:
        raise UserError(_wrong_size(path, size, stored))
    return rgb


def check_image(path: Path, size: tuple[int, int], *, max_pixels: int = MAX_PIXELS) -> None:
    """Look at the header of an image file, without decoding its pixels.

    Raises UserError where :func:`load_image` would, as far as the header tells.
    """
    with _open_image(path, max_pixels) as file:
        sizes = _sizes(file)
    if size not in sizes:
        raise UserError(_wrong_size(path, size, sizes[0]))


def read_size(path: Path) -> tuple[int, int]:
    """Return (height, width) of an image in pixels, as it is shown: after its EXIF rotation.

    The header alone is read. Raises UserError if the file is missing or is no image.
    """
    # The limit of pixels belongs to whoever decodes the image.
    with _open_image(path, max_pixels=sys.maxsize) as file:
        return _sizes(file)[1]


def _sizes(file: Image.Image) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return (height, width) of a file that is not loaded: as it is stored, and as it is shown."""
    opened = (file.height, file.width)
    other = (file.width, file.height) if _orientation(file) in _TURNED else opened
    # Pillow says of a TIFF file how it is shown, and of all others how they are stored.
    return (other, opened) if file.format == "TIFF" else (opened, other)


def _turn_after_loading(file: Image.Image, *, as_stored: bool) -> int:
    """Return the EXIF orientation to apply to the pixels of a file when they are loaded.

    ``as_stored``: the image is wanted as it is stored, and not as it is shown.
    """
    orientation = _orientation(file)
    if file.format == "TIFF":  # Pillow turns it while it loads.
        return _BACK.get(orientation, orientation) if as_stored else 1
    return 1 if as_stored else orientation


def _orientation(file: Image.Image) -> int:
    """Return the EXIF orientation of a file. 1: it is shown as it is stored.

    So is an image whose EXIF data are damaged, by this library as by others.
    """
    try:
        return file.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow's parser raises errors of many kinds.
        return 1


class _QuietDecoders:
    """Silences Pillow's warnings in a ``with`` block, in several threads at once.

    Decoders warn of odd files that they can read. ``warnings.catch_warnings`` alone would restore
    another thread's filters, so that a filter could stay for ever.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.blocks = 0
        """Number of blocks that are open."""
        self.before = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self.lock:
            if self.blocks == 0:
                self.before = warnings.catch_warnings()
                self.before.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self.blocks += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.blocks -= 1
            if self.blocks == 0:
                self.before.__exit__(None, None, None)


_QUIET = _QuietDecoders()


@contextmanager
def _open_image(path: Path, max_pixels: int) -> Iterator[Image.Image]:
    """Open an image file for the ``with`` block. Raise UserError for whatever goes wrong in it."""
    try:
        with _QUIET, _header(path) as file:
            if file.width * file.height > max_pixels:
                raise UserError(
                    f"{shown_path(path)}: expected at most {max_pixels:,} pixels, got "
                    f"{file.width} x {file.height}; if you trust the file, raise max_pixels"
                )
            yield file
    except FileNotFoundError as error:
        raise UserError(f"{shown_path(path)}: no such image") from error
    except UserError:
        raise
    except Exception as error:
        # The decoders are those of many authors. For broken files they raise exceptions of any
        # kind, and one broken file must not end the work on all others.
        about = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{shown_path(path)}: cannot be read as an image ({about:.200})") from error


def _header(path: Path) -> Image.Image:
    """Open an image file, whatever its number of pixels is. The header alone is read."""
    with _LIMIT:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            return Image.open(path, formats=_readable_formats())
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _wrong_size(path: Path, size: tuple[int, int], stored: tuple[int, int]) -> str:
    expected, got = (f"{width} x {height}" for height, width in (size, stored))
    return f"{shown_path(path)}: expected {expected} px as annotated, got {got}"


@cache
def _readable_formats() -> tuple[str, ...]:
    """Return those of ``FORMATS`` that this build of Pillow can read."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def find_images(inputs: list[Path], leave_out: Path | None = None) -> FoundImages:
    """List the image files that are named, and those in folders and of patterns that are named.

    Args:
        inputs: files, folders and patterns. A file is taken whatever its ending is. A folder is
            searched at any depth for files with one of the endings in :data:`EXTENSIONS`. A pattern
            such as ``images/*.jpg`` names the files that match it and have one of these endings.
            ``**`` stands for folders at any depth. A file of that very name comes first.
        leave_out: a folder whose files are skipped if it lies inside one of the searched folders.
            It has no effect if it is the searched folder itself or lies above it.

    Returns:
        The paths in the order of ``inputs``, those of one folder or pattern in alphabetical order,
        and what else is there.

    Raises:
        UserError: an input does not exist, a pattern matches nothing, or there is no image at all.
    """
    images: list[Path] = []
    left_out: Counter[str] = Counter()
    for path in inputs:
        if path.is_file():
            images.append(path)
            continue
        searched, files = _files_of(path)
        skipped = leave_out if leave_out is not None and _lies_in(leave_out, searched) else None
        for file in files:
            if skipped is not None and _lies_in(file, skipped):
                continue
            if file.suffix.lower() in EXTENSIONS:
                images.append(file)
            else:
                left_out[file.suffix.lower()] += 1
    if not images:
        raise UserError(
            f"no image in {', '.join(map(str, inputs))} (known endings: {', '.join(EXTENSIONS)})"
        )
    return FoundImages(images, left_out)


def _files_of(path: Path) -> tuple[Path, list[Path]]:
    """Return the folder that is searched, and the files in it or of a pattern, in order."""
    if path.is_dir():
        return path, sorted(file for file in path.rglob("*") if file.is_file())
    if not glob.has_magic(str(path)):
        raise UserError(f"{shown_path(path)}: no such file or folder")
    found = sorted(map(Path, glob.iglob(str(path), recursive=True)))
    files = [file for file in found if file.is_file()]
    if not files:
        raise UserError(f"{shown_path(path)}: no file matches this pattern")
    return next(folder for folder in path.parents if not glob.has_magic(str(folder))), files


def _lies_in(path: Path, folder: Path) -> bool:
    """Return whether a path lies inside a folder, at any depth."""
    return folder.resolve() in path.resolve().parents
