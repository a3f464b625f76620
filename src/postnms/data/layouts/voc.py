"""Pascal VOC: ``Annotations/*.xml``, ``JPEGImages/``, and lists in ``ImageSets/Main``.

Roboflow writes the same XML files among the images of the folders ``train``, ``valid`` and
``test``. In both layouts an XML file and its image have the same name but for the ending.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from postnms.data.dataset import Category, Truth
from postnms.data.formats.annotated import AnnotatedBox, AnnotatedImage, sizes_of, truth_of
from postnms.data.formats.voc import VocFile, VocObject, counts_from_zero, read_voc
from postnms.data.image_files import EXTENSIONS
from postnms.data.layouts.found import FoundData, FoundSplit, by_usual_names
from postnms.errors import UserError, listed, shown, shown_name

LISTS = ("train", "val", "trainval", "test")
"""Lists in ``ImageSets/Main`` that are splits. The others tell which images have a class."""


@dataclass(frozen=True)
class _Set:
    """The annotations of all splits, and what they have in common."""

    root: Path
    files: dict[Path, VocFile]
    images: dict[Path, dict[Path, Path]]
    """For each folder of images, the files in it by their paths without the ending."""
    from_zero: bool
    categories: tuple[Category, ...]


def is_voc(root: Path) -> bool:
    """Return whether a folder has Pascal VOC's folders, or XML files in folders of splits."""
    return (root / "Annotations").is_dir() or bool(_flat_folders(root))


def find_voc(root: Path) -> FoundData:
    """Return the splits of a folder that :func:`is_voc` recognises.

    All XML files are read at once: the classes are the names in them, sorted, and all of them tell
    how pixels are counted. Raises UserError if one of them has another form, or if two
    folders are the same split.
    """
    flat = _flat_folders(root)
    listed = {name: _in_folder(root / name) for name in flat} if flat else _listed(root)
    images = {name: root / name if flat else root / "JPEGImages" for name in listed}
    there = {folder: _images_by_stem(folder) for folder in set(images.values())}
    files = {xml: read_voc(xml) for xml in sorted({x for of in listed.values() for x in of})}
    names = sorted({found.name for file in files.values() for found in file.objects})
    if not names:
        raise UserError(f"{root}: Pascal VOC: expected objects in the XML files, got none")
    from_zero = counts_from_zero(files.values())
    categories = tuple(Category(number, name) for number, name in enumerate(names, 1))
    whole = _Set(root, files, there, from_zero, categories)
    found = []
    for name, xmls in listed.items():
        source = str(root / name) if flat else str(root / "ImageSets" / "Main" / f"{name}.txt")
        read = cache(partial(_truth, whole, xmls, images[name], source))
        found.append(FoundSplit(name, read, root, len(xmls)))
    splits = by_usual_names(found, root)
    if "train" not in splits and "trainval" in splits:
        splits = {"train": splits.pop("trainval"), **splits}
    crowd = sum(found.difficult for file in files.values() for found in file.objects)
    return FoundData("Pascal VOC", root, splits, _notes(whole, crowd))


def _flat_folders(root: Path) -> list[str]:
    names = ("train", "valid", "val", "test")
    return [name for name in names if any((root / name).glob("*.xml"))]


def _in_folder(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.xml"))


def _listed(root: Path) -> dict[str, list[Path]]:
    """Return the XML files of each list, or all of them as ``train`` if there is no list."""
    lists = {name: root / "ImageSets" / "Main" / f"{name}.txt" for name in LISTS}
    there = {name: file for name, file in lists.items() if file.is_file()}
    if not there:
        found = sorted((root / "Annotations").rglob("*.xml"))
        if not found:
            raise UserError(f"{root / 'Annotations'}: expected XML files, got none")
        return {"train": found}
    return {name: _read_list(file, root / "Annotations") for name, file in there.items()}


def _read_list(file: Path, annotations: Path) -> list[Path]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 at byte {error.start}") from error
    # Names may have spaces. A list of one class has 1 or -1 behind each name; these are not read.
    names = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    paths = [annotations / f"{name.removesuffix('.xml')}.xml" for name in names]
    missing = [shown_name(path.name) for path in paths if not os.path.isfile(path)]
    if missing:
        raise UserError(
            f"{file}: of {len(paths)} images {len(missing)} have no file in {annotations.name}: "
            f"{listed(missing)}"
        )
    return paths


def _truth(whole: _Set, xmls: Sequence[Path], images: Path, source: str) -> Truth:
    base = whole.root / "Annotations"
    there = whole.images[images]
    paths = []
    for xml in xmls:
        inside = xml.relative_to(base) if xml.is_relative_to(base) else Path(xml.name)
        stem = inside.with_name(inside.stem)
        # Without its file the image is a record all the same, which the check of images names.
        paths.append(there.get(stem, images / f"{stem}.jpg"))
    files = [whole.files[xml] for xml in xmls]
    unsized = [path for path, file in zip(paths, files, strict=True) if file.size is None]
    sizes = dict(zip(unsized, sizes_of(unsized, source), strict=True))
    ids = {category.name: category.id for category in whole.categories}
    found = []
    for path, file in zip(paths, files, strict=True):
        boxes = tuple(
            AnnotatedBox(_bbox(entry, whole.from_zero), ids[entry.name], entry.difficult)
            for entry in file.objects
        )
        found.append(AnnotatedImage(path, file.size or sizes[path], boxes))
    return truth_of(found, whole.categories, whole.root, source)


def _bbox(found: VocObject, from_zero: bool) -> list[float]:
    left, top, right, bottom = found.corners
    if not from_zero:
        left, top = left - 1, top - 1
    return [left, top, right - left, bottom - top]


def _images_by_stem(folder: Path) -> dict[Path, Path]:
    """Return the image files of a folder, at any depth, by their paths without the ending."""
    files = sorted(folder.rglob("*"))
    return {
        path.relative_to(folder).with_suffix(""): path
        for path in files
        if path.suffix.lower() in EXTENSIONS
    }


def _notes(whole: _Set, crowd: int) -> tuple[str, ...]:
    if whole.from_zero:
        notes = ["a corner is less than 1, so corners are read as edges counted from 0"]
    else:
        notes = ["corners are read as pixels counted from 1"]
    if crowd:
        notes.append(f"{crowd} difficult objects are crowd regions")
    # An image that no list names is left out on purpose. One without an XML file is a doubt.
    annotations = whole.root / "Annotations"
    described = {xml.stem for xml in (*whole.files, *annotations.rglob("*.xml"))}
    images = [path for of_folder in whole.images.values() for path in of_folder.values()]
    lost = [path.name for path in images if path.stem not in described]
    if lost:
        notes.append(f"{len(lost)} images have no XML file (first: {shown(lost[0])})")
    return tuple(notes)
