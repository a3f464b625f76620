"""What was found in a data folder: its splits, and one line that describes them."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from postnms.data.dataset import Category, Dataset, Truth
from postnms.data.formats.coco import add_images
from postnms.errors import UserError, shown_name

ALIASES = {
    "training": "train",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "testing": "test",
}
"""Other names of the splits ``train``, ``val`` and ``test``."""

SMALL = 2**26
"""Size in bytes up to which an annotation file is read to count its images."""


def canonical(name: str) -> str:
    """Return the usual name of a split.

    Example:
        >>> canonical("valid"), canonical("test"), canonical("night")
        ('val', 'test', 'night')
    """
    return ALIASES.get(name.lower(), name)


@dataclass(frozen=True)
class FoundSplit:
    """One split that was found and is not read yet."""

    title: str
    """Its name in the folder, for example ``valid``."""
    read: Callable[[], Truth]
    """Reads the annotations."""
    images: Path
    """Folder that the file names of the annotations begin in."""
    count: int | None = None
    """Number of images. None: it is that of the annotations."""
    size: int = 0
    """Size in bytes of the file to read."""


def by_usual_names(splits: Iterable[FoundSplit], where: Path) -> dict[str, FoundSplit]:
    """Return splits by their usual names: train, val and test first, then the others.

    Raises UserError that begins with ``where`` if two of them have the same usual name, such as
    ``val`` and ``valid``: one would hide the other.
    """
    named: dict[str, FoundSplit] = {}
    for split in splits:
        name = canonical(split.title)
        if name in named:
            both = " and ".join(map(shown_name, (named[name].title, split.title)))
            raise UserError(f"{where}: expected one {name} split, got two: {both}")
        named[name] = split
    first = {name: named[name] for name in ("train", "val", "test") if name in named}
    return first | named


@dataclass(frozen=True)
class FoundData:
    """A data set of one of the layouts, whatever its format is."""

    kind: str
    """The layout, for example ``Roboflow COCO``."""
    root: Path
    """The data folder, or the file that was named."""
    splits: Mapping[str, FoundSplit]
    """By their usual names ``train``, ``val``, ``test``, and by their own names otherwise."""
    notes: tuple[str, ...] = ()
    """What was found and looks like a mistake."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """Why splits that the data name cannot be read, by their usual names."""
    _read: dict[str, Truth] = field(default_factory=dict, repr=False, compare=False)
    """The annotations that were read."""

    def truth(self, split: str) -> Truth:
        """Return the annotations of a split, whose images need not be there.

        A class that has no object in any split, and that all other classes name as their
        supercategory, is left out. Roboflow writes such a class for the group of all classes.

        Raises UserError if there is no such split, or if a file is not as it must be.
        """
        truth = self._as_written(split)
        for group in self._left_out(truth):
            truth = truth.without_category(group.id)
        return truth

    def read(self, split: str) -> Dataset:
        """Return a split with its images. Raises UserError as :meth:`truth` does."""
        truth = self.truth(split)
        return add_images(truth, self.splits[canonical(split)].images)

    def describe(self) -> str:
        """Return one line that says what was found.

        Example: ``Roboflow COCO: train 448, valid 127, test 63 images, 7 classes; 'creatures' has
        no object and is left out``. Large annotation files are read for it only if they are read
        anyway; their images are not counted otherwise.
        """
        counts = []
        for name, split in self.splits.items():
            count = split.count
            if count is None and (name in self._read or split.size <= SMALL):
                count = len(self._as_written(name).images)
            counts.append(
                f"{shown_name(split.title)} {'(not counted)' if count is None else count}"
            )
        said = f"{self.kind}: {', '.join(counts)} images"
        name = next((name for name in self.splits if name in self._read), None)
        name = name or next((n for n, split in self.splits.items() if split.size <= SMALL), None)
        parts = list(self.notes)
        if name is not None:
            truth = self._as_written(name)
            left_out = self._left_out(truth)
            said += f", {len(truth.categories) - len(left_out)} classes"
            parts = [f"{group.name!r} has no object and is left out" for group in left_out] + parts
        return "; ".join([said, *parts])

    def set_aside(self, name: str, fraction: float, seed: int) -> "FoundData":
        """Return the data with a share of the training images as the split ``name``.

        The file name of an image and the seed decide, so the same images are set aside again
        whatever other images there are. Raises UserError if the data have such a split.
        """
        if name in self.splits:
            raise UserError(
                f"data.{name}_fraction: expected data without a {name} split, got {self.root}, "
                f"which has '{self.splits[name].title}'; "
                f"data.{name}_fraction=null uses that one"
            )
        whole = self._find("train")

        def part(is_aside: bool) -> Callable[[], Truth]:
            def read() -> Truth:
                truth = self.truth("train").part(
                    lambda entry: (_share(entry, f"{name} {seed}") < fraction) is is_aside
                )
                return replace(truth, source=f"{truth.source} ({name if is_aside else 'train'})")

            return read

        splits = {
            "train": FoundSplit(whole.title, part(False), whole.images, size=whole.size),
            name: FoundSplit(
                f"{name} ({fraction:g} of it)", part(True), whole.images, size=whole.size
            ),
        }
        return replace(self, splits={**self.splits, **splits}, _read={})

    def _find(self, split: str) -> FoundSplit:
        """Return a split. Raise UserError that says how to name one if there is none."""
        if (name := canonical(split)) in self.splits:
            return self.splits[name]
        missing = self.absent.get(name)
        there = ", ".join(shown_name(found.title) for found in self.splits.values())
        advice = ""
        if name == "val" and "train" in self.splits:
            advice = (
                "; set a share of train aside with --set data.val_fraction=0.2, or name COCO files "
                "with --set data.val_annotations=FILE --set data.val_images=FOLDER"
            )
        elif name == "train":
            advice = (
                "; name COCO files with --set data.train_annotations=FILE "
                "--set data.train_images=FOLDER"
            )
        if missing is None:
            only = f"has no split {shown_name(split)}, only {there}"
            missing = f"{self.root}: {self.kind}: {only}"
        raise UserError(f"{missing}{advice}")

    def _as_written(self, split: str) -> Truth:
        found = self._find(split)
        name = canonical(split)
        if name not in self._read:
            self._read[name] = found.read()
        return self._read[name]

    def _left_out(self, truth: Truth) -> tuple[Category, ...]:
        """Return the class that is left out, if there is one."""
        group = _group(truth)
        if group is None or any(_has_object(self._as_written(n), group) for n in self.splits):
            return ()
        return (group,)


def _group(truth: Truth) -> Category | None:
    """Return the class that all other classes name as their supercategory."""
    entries: list[dict[str, Any]] = truth.content["categories"]
    for entry in entries if len(entries) > 1 else []:
        others = [other.get("supercategory") for other in entries if other is not entry]
        if all(above == entry["name"] for above in others):
            return Category(entry["id"], entry["name"])
    return None


def _has_object(truth: Truth, group: Category) -> bool:
    """Return whether a split has an object of the group of another split."""
    own = _group(truth)
    # A class may have the name of the group: a data set of fish has the class fish.
    if own is not None and own.name == group.name:
        ids = {own.id}
    else:
        ids = {category.id for category in truth.categories if category.name == group.name}
    objects = truth.objects
    named = [number for number, own in enumerate(objects.category_ids) if own in ids]
    return bool(np.isin(objects.category, named).any())


def _share(entry: dict[str, Any], seed: str) -> float:
    """Return a number in [0, 1) that depends on the seed and the file name of an image alone.

    The seed has the name of the split in it, so that one split says nothing of another.
    """
    name = str(entry.get("file_name", entry["id"])).replace("\\", "/").rpartition("/")[2]
    digest = hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6]) / 2**48
