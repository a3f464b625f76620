"""COCO's format in three layouts: this library's, that of COCO itself, and Roboflow's.

- ``images/`` beside ``instances_NAME.json``;
- ``annotations/instances_NAMEyear.json`` or ``image_info_NAMEyear.json`` beside ``NAMEyear/``;
- ``NAME/_annotations.coco.json`` among the images of each split.
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from postnms.data.formats.coco import read_truth
from postnms.data.layouts.found import FoundData, FoundSplit, by_usual_names, canonical

ROBOFLOW = "_annotations.coco.json"
_NAME = re.compile(r"(?:instances|image_info)_(?P<name>.+?)(?P<year>(?:19|20)\d\d)?\.json")


def is_coco(root: Path) -> bool:
    """Return whether a folder has annotations in one of COCO's layouts."""
    return bool(_roboflow_files(root)) or any(_named_files(root))


def find_coco(root: Path) -> FoundData:
    """Return the splits of a folder that :func:`is_coco` recognises.

    Raises UserError if two of them are the same split.
    """
    if files := _roboflow_files(root):
        # A folder without splits has its only annotations beside the images.
        splits = [
            _split("train" if file.parent == root else file.parent.name, file, file.parent)
            for file in files
        ]
        return FoundData("Roboflow COCO", root, by_usual_names(splits, root))
    splits = []
    first_years: dict[str, str] = {}
    years = set()
    for file, name, year in sorted(_named_files(root), key=lambda found: found[1:]):
        years.add(year)
        is_first_year = first_years.setdefault(canonical(name), year) == year
        title = name if is_first_year else f"{name}{year}"
        splits.append(_split(title, file, _images(root, name, year)))
    kind = " ".join(["COCO", *sorted(years - {""})])
    return FoundData(kind, root, by_usual_names(splits, root))


def _roboflow_files(root: Path) -> list[Path]:
    return sorted([*root.glob(ROBOFLOW), *root.glob(f"*/{ROBOFLOW}")])


def _named_files(root: Path) -> Iterator[tuple[Path, str, str]]:
    """Yield the annotation files with the name of their split and its year or an empty text."""
    for folder in (root, root / "annotations"):
        for file in folder.glob("*.json"):
            if match := _NAME.fullmatch(file.name):
                yield file, match["name"], match["year"] or ""


def _images(root: Path, name: str, year: str) -> Path:
    """Return the folder of the images of a split: the first that is there of the usual ones."""
    # The images of COCO's test-dev are among those of its test split.
    names = [f"{name}{year}", f"{name.partition('-')[0]}{year}", name]
    folders = [root / part for part in names] + [root / "images" / part for part in names]
    folders += [root / "images"]
    return next((folder for folder in folders if folder.is_dir()), root / "images")


def _split(title: str, file: Path, images: Path) -> FoundSplit:
    return FoundSplit(title, partial(read_truth, file), images, size=file.stat().st_size)
