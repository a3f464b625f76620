"""Hugging Face's image folders: ``train/metadata.jsonl`` among the images of each split.

The names of the classes are those of a ``ClassLabel`` in the header of ``README.md``. Without them,
the classes are the names in the lines, sorted, or the numbers in them.
"""

from functools import cache
from pathlib import Path
from typing import Any

from postnms.data.dataset import Category, Truth
from postnms.data.formats.annotated import AnnotatedBox, AnnotatedImage, sizes_of, truth_of
from postnms.data.formats.metadata_lines import MetadataLine, read_metadata
from postnms.data.layouts.found import FoundData, FoundSplit, by_usual_names
from postnms.errors import UserError, shown
from postnms.files.yaml_texts import parse_yaml_texts

METADATA = "metadata.jsonl"
MOST_BYTES = 2**24
"""Largest number of bytes of a ``README.md``."""


def is_image_folder(root: Path) -> bool:
    """Return whether a folder, or a folder in it, has ``metadata.jsonl``."""
    return bool(_files(root))


def find_image_folder(root: Path) -> FoundData:
    """Return the splits of a folder that :func:`is_image_folder` recognises.

    Raises UserError if a line has another form, or if two folders are the same split.
    """
    lines = {file: read_metadata(file) for file in _files(root)}
    categories = _categories(root, [line for of_file in lines.values() for line in of_file])
    splits = []
    for file, of_file in lines.items():
        title = "train" if file.parent == root else file.parent.name
        read = cache(lambda file=file, of_file=of_file: _truth(root, file, of_file, categories))
        splits.append(FoundSplit(title, read, root, len(of_file)))
    return FoundData("Hugging Face image folder", root, by_usual_names(splits, root))


def _files(root: Path) -> list[Path]:
    places = [root / METADATA, *root.glob(f"*/{METADATA}"), *root.glob(f"data/*/{METADATA}")]
    return sorted(file for file in places if file.is_file())


def _truth(
    root: Path, file: Path, lines: list[MetadataLine], categories: tuple[Category, ...]
) -> Truth:
    ids: dict[int | str, int] = {category.name: category.id for category in categories}
    ids |= {category.id: category.id for category in categories}
    paths = [file.parent / line.file_name for line in lines]
    unsized = [path for path, line in zip(paths, lines, strict=True) if line.size is None]
    sizes = dict(zip(unsized, sizes_of(unsized, str(file)), strict=True))
    images = []
    for path, line in zip(paths, lines, strict=True):
        boxes = tuple(
            AnnotatedBox(box, ids[value])
            for box, value in zip(line.boxes, line.classes, strict=True)
        )
        images.append(AnnotatedImage(path, line.size or sizes[path], boxes))
    annotated = not lines or any(line.annotated for line in lines)
    return truth_of(images, categories, root, str(file), annotated=annotated)


def _categories(root: Path, lines: list[MetadataLine]) -> tuple[Category, ...]:
    """Return the classes of all splits. Raise UserError if a line has another class."""
    used = {value for line in lines for value in line.classes}
    numbers = {value for value in used if isinstance(value, int)}
    names = {value for value in used if isinstance(value, str)}
    if numbers and names:
        raise UserError(
            f"{root / METADATA}: expected classes that are all numbers or all names, got both: "
            f"{min(numbers)} and {shown(min(names))}"
        )
    if listed := _class_label(root / "README.md"):
        known = {*listed, *listed.values()}
        if strangers := sorted(map(str, used - known)):
            raise UserError(
                f"{root / 'README.md'}: names: expected every class of {METADATA}, "
                f"got not {shown(strangers[0])}"
            )
        return tuple(Category(number, name) for number, name in sorted(listed.items()))
    if names:
        return tuple(Category(number, name) for number, name in enumerate(sorted(names), 1))
    if not numbers:
        raise UserError(f"{root}: {METADATA}: expected objects in at least one line, got none")
    return tuple(Category(number, str(number)) for number in sorted(numbers))


def _class_label(readme: Path) -> dict[int, str]:
    """Return the names of a ``ClassLabel`` in the header of a data card by their numbers."""
    if not readme.is_file() or readme.stat().st_size > MOST_BYTES:
        return {}
    text = readme.read_bytes().removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    if not text.startswith(b"---\n"):
        return {}
    header = text[4:].partition(b"\n---")[0]
    names = _find_names(parse_yaml_texts(header, str(readme)), levels=20)
    if isinstance(names, list):
        names = dict(enumerate(names))
    listed = {}
    for number, name in (names or {}).items():
        if not str(number).isdecimal() or not isinstance(name, str):
            raise UserError(
                f"{readme}: class_label: names: expected texts by their numbers, got "
                f"{shown(number)}: {shown(name)}"
            )
        listed[int(number)] = name
    return listed


def _find_names(content: Any, levels: int) -> Any:
    """Return the names of the first ``class_label`` at any depth, or None."""
    if not levels:
        return None
    if isinstance(content, dict):
        label = content.get("class_label")
        if isinstance(label, dict) and isinstance(label.get("names"), dict | list):
            return label["names"]
        content = list(content.values())
    for part in content if isinstance(content, list) else ():
        if (names := _find_names(part, levels - 1)) is not None:
            return names
    return None
