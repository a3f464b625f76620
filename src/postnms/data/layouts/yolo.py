"""YOLO: ``data.yaml`` with the names of the classes and the places of the images of each split.

The label file of an image has its path with ``labels`` in place of the last folder ``images``, and
the ending ``.txt``. If no folder on the way to the image is called ``images``, the label file lies
beside it. An image without a label file has no object.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from postnms.data.dataset import Category, Truth
from postnms.data.formats.annotated import AnnotatedImage, sizes_of, truth_of
from postnms.data.formats.yolo import read_labels
from postnms.data.layouts.found import FoundData, FoundSplit, canonical
from postnms.data.layouts.yolo_places import NamedPlace, Place, find_place, listed_images
from postnms.errors import UserError, shown
from postnms.files.yaml_texts import read_yaml_texts

SPLITS = ("train", "val", "valid", "validation", "test")
"""Fields of ``data.yaml`` that name images."""
USUAL = ("data.yaml", "data.yml", "dataset.yaml")
"""Names of the file, in the order in which they are looked for."""

MOVED = "the file names places on another machine; the images were found beside it"
"""The note for a ``data.yaml`` that was moved here."""
_NAMES = re.compile(rb"^names[ \t]*:", re.MULTILINE)
"""The field of a YAML file of any name that describes YOLO data."""


@dataclass(frozen=True)
class _Images:
    """The images of a split with their label files."""

    paths: tuple[Path, ...]
    labels: dict[Path, Path]
    """For each image, the path that its label file would have."""

    def strays(self) -> list[Path]:
        """Return the label files in the folders of labels that belong to no image."""
        folders = {label.parent: image.parent for image, label in self.labels.items()}
        strays = []
        for folder, images in folders.items():
            # Among the images, a text file may be anything. Other images may be of other splits.
            if folder != images:
                stems = {path.stem for path in images.iterdir() if path.suffix != ".txt"}
                strays += [label for label in folder.glob("*.txt") if label.stem not in stems]
        return sorted(strays)


def yaml_file(root: Path) -> Path | None:
    """Return the file that describes YOLO data: ``root`` itself, or the one in this folder."""
    if root.is_file():
        return root if root.suffix in (".yaml", ".yml") else None
    named = [root / name for name in USUAL if (root / name).is_file()]
    if named:
        return named[0]
    files = sorted([*root.glob("*.yaml"), *root.glob("*.yml")])
    others = [file for file in files if _NAMES.search(_head(file))]
    return others[0] if len(others) == 1 else None


def _head(file: Path) -> bytes:
    """Return the beginning of a file."""
    with file.open("rb") as opened:
        return opened.read(2**16)


def is_yolo(root: Path) -> bool:
    """Return whether a file or folder is, or has, a ``data.yaml``."""
    return yaml_file(root) is not None


def find_yolo(root: Path) -> FoundData:
    """Return the splits of a folder or file that :func:`is_yolo` recognises.

    A split whose images are not there is named in a note, and reading it is an error.

    Raises UserError if the file has another form, or if no split is there.
    """
    file = yaml_file(root)
    assert file is not None
    content = read_yaml_texts(file)
    if not isinstance(content, dict):
        raise UserError(f"{file}: expected fields such as names and train, got {shown(content)}")
    names = _names(content, file)
    categories = tuple(Category(number, name) for number, name in sorted(names.items()))
    top, notes = _top(content, file)
    named = _named_places(content, file, top)
    splits: dict[str, FoundSplit] = {}
    absent: dict[str, str] = {}
    for title, places in named.items():
        if canonical(title) in splits.keys() | absent.keys():
            raise UserError(f"{file}: {title}: is the second name of the split {canonical(title)}")
        others = [place for other in named if other != title for place in named[other]]
        lost = next((place for place in places if place.is_lost(others)), None)
        if lost is not None:
            notes.append(f"{title}: {shown(lost.text)} is not there")
            absent[canonical(title)] = _absence(lost, f"{file}: {title}", top, file)
            continue
        paths, said = _paths(places, title, file, top)
        images = _Images(paths, _label_files(paths, top))
        notes += said + _doubts(title, images)
        read = cache(partial(_truth, images, categories, top, f"{file}: {title}"))
        splits[canonical(title)] = FoundSplit(title, read, top, len(paths))
    if not splits:
        none = f"{file}: expected the images of train, val or test, got none of them"
        raise UserError(next(iter(absent.values()), none))
    return FoundData("YOLO", root, splits, tuple(dict.fromkeys(notes)), absent)


def _top(content: dict[Any, Any], file: Path) -> tuple[Path, list[str]]:
    """Return the folder that the places of the images begin in, and a note if it has moved."""
    base = content.get("path") or ""
    if not isinstance(base, str):
        raise UserError(f"{file}: path: expected a folder, got {shown(base)}")
    found = find_place(base, [file.parent]) if base else Place(file.parent, moved=False)
    if found is None or not found.path.is_dir():
        return file.parent, [MOVED]
    return found.path, [MOVED] * found.moved


def _names(content: dict[Any, Any], file: Path) -> dict[int, str]:
    """Return the names of the classes by their numbers."""
    names = content.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise UserError(f"{file}: names: expected a list or a map of names, got {shown(names)}")
    read: dict[int, str] = {}
    for number, name in names.items():
        if not str(number).isdecimal() or not isinstance(name, str) or not name.strip():
            raise UserError(
                f"{file}: names: expected texts by the numbers of the classes, got "
                f"{shown(number)}: {shown(name)}"
            )
        read[int(number)] = name.strip()
    count = content.get("nc")
    if count is not None and str(count).strip() != str(len(read)):
        raise UserError(
            f"{file}: nc: expected {len(read)}, the number of names, got {shown(count)}"
        )
    return read


def _named_places(content: dict[Any, Any], file: Path, top: Path) -> dict[str, list[NamedPlace]]:
    """Return the places of the images of each split that the file has."""
    named: dict[str, list[NamedPlace]] = {}
    for title in SPLITS:
        places = content.get(title)
        if not places:
            continue
        if isinstance(places, str):
            places = [places]
        if not isinstance(places, list) or not all(isinstance(place, str) for place in places):
            raise UserError(
                f"{file}: {title}: expected a folder, a list of folders, or a text file with a "
                f"list of images, got {shown(places)}"
            )
        named[title] = [NamedPlace(text, find_place(text, [top, file.parent])) for text in places]
    return named


def _absence(place: NamedPlace, where: str, top: Path, file: Path) -> str:
    """Return the message about a place that is not there. ``where`` is the field of the file."""
    inside = "" if top == file.parent else f" in {top} or"
    beside = ""
    if place.found is not None:
        beside = f"; {place.found.path} has the images of another split"
    return (
        f"{where}: expected a folder or a list of images, got {shown(place.text)}, which is not "
        f"there,{inside} beside the file{beside}"
    )


def _paths(
    places: Iterable[NamedPlace], title: str, file: Path, top: Path
) -> tuple[tuple[Path, ...], list[str]]:
    """Return the images of a split, and what is odd about the places that the file names."""
    paths: list[Path] = []
    notes = []
    for place in places:
        assert place.found is not None
        if place.found.moved:
            notes.append(MOVED)
        paths += listed_images(place.found.path, [top, file.parent], f"{file.name}: {title}")
    once = tuple(dict.fromkeys(paths))
    if len(once) < len(paths):
        notes.append(f"{title}: {len(paths) - len(once)} images are listed twice")
    return once, notes


def _label_files(paths: Iterable[Path], root: Path) -> dict[Path, Path]:
    folders: dict[Path, Path] = {}
    labels = {}
    for path in paths:
        if path.parent not in folders:
            folders[path.parent] = _label_folder(path.parent, root)
        labels[path] = folders[path.parent] / f"{path.stem}.txt"
    return labels


def _label_folder(images: Path, root: Path) -> Path:
    """Return the folder of the labels of a folder of images.

    Only the folders inside the data folder count, as long as one of them is called ``images``: the
    data may lie in a folder of this name.
    """
    for top in (root, Path(images.anchor)):
        inside = images.relative_to(top).parts if images.is_relative_to(top) else ()
        if "images" in inside:
            at = len(inside) - 1 - inside[::-1].index("images")
            return top.joinpath(*inside[:at], "labels", *inside[at + 1 :])
    return images


def _doubts(title: str, images: _Images) -> list[str]:
    strays = images.strays()
    without = [path for path, label in images.labels.items() if not label.is_file()]
    notes = []
    if strays:
        first = shown(strays[0].name)
        notes.append(f"{title}: {len(strays)} label files have no image (first: {first})")
    if without and len(without) < len(images.paths):
        first = shown(without[0].name)
        notes.append(f"{title}: {len(without)} images have no label file (first: {first})")
    return notes


def _truth(images: _Images, categories: tuple[Category, ...], top: Path, source: str) -> Truth:
    classes = [category.id for category in categories]
    sizes = sizes_of(images.paths, source)
    found = []
    annotated = not images.paths
    for path, size in zip(images.paths, sizes, strict=True):
        labels = images.labels[path]
        has_labels = labels.is_file()
        annotated |= has_labels
        boxes = tuple(read_labels(labels, size, classes)) if has_labels else ()
        found.append(AnnotatedImage(path, size, boxes))
    return truth_of(found, categories, top, source, annotated=annotated)
