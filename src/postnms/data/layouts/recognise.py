"""The one function that says what a data folder is."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from postnms.data.layouts.coco import find_coco, is_coco
from postnms.data.layouts.found import FoundData
from postnms.data.layouts.image_folder import find_image_folder, is_image_folder
from postnms.data.layouts.voc import find_voc, is_voc
from postnms.data.layouts.yolo import find_yolo, is_yolo
from postnms.errors import UserError, listed, shown_name

MOST_NAMED = 8
"""Number of entries of a folder that a message names."""


@dataclass(frozen=True)
class _Layout:
    looked_for: str
    fits: Callable[[Path], bool]
    find: Callable[[Path], FoundData]


LAYOUTS = {
    "COCO": _Layout(
        "instances_NAME.json beside images/ or in annotations/, or NAME/_annotations.coco.json",
        is_coco,
        find_coco,
    ),
    "YOLO": _Layout("data.yaml", is_yolo, find_yolo),
    "Pascal VOC": _Layout("Annotations/*.xml", is_voc, find_voc),
    "Hugging Face": _Layout("NAME/metadata.jsonl", is_image_folder, find_image_folder),
}
"""All layouts, in the order in which they are tried."""


def recognise(path: Path) -> FoundData:
    """Return what a data folder, or a ``data.yaml``, holds.

    If a folder has several layouts, the first of :data:`LAYOUTS` is taken, and a note in the
    description names the others.

    Raises:
        UserError: the path is not there, or it has none of the layouts. The message says what was
            looked for, what is there, and what may be meant. Or a file of the layout is broken.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     root = Path(folder)
        ...     file = root / "instances_train.json"
        ...     _ = file.write_text('{"images": [], "categories": [{"id": 1, "name": "cat"}]}')
        ...     recognise(root).describe()
        'COCO: train 0 images, 1 classes'
    """
    if not path.exists():
        raise UserError(f"{path}: no such folder", argument="data")
    if path.is_file():
        if not is_yolo(path):
            raise UserError(
                f"expected a folder or a data.yaml, got {path}; name its folder", argument="data"
            )
        return find_yolo(path)
    fitting = fitting_layouts(path)
    if not fitting:
        raise UserError(_unknown(path), argument="data")
    found = LAYOUTS[fitting[0]].find(path)
    if len(fitting) == 1:
        return found
    note = f"the files of {' and '.join(fitting[1:])} in it are not read"
    return replace(found, notes=(*found.notes, note))


def fitting_layouts(folder: Path) -> list[str]:
    """Return the names of the layouts that a folder has, in the order of :data:`LAYOUTS`."""
    return [name for name, layout in LAYOUTS.items() if layout.fits(folder)]


def _unknown(path: Path) -> str:
    """Return the message for a folder that has none of the layouts."""
    entries = sorted(path.iterdir())
    names = [shown_name(entry.name) + ("/" if entry.is_dir() else "") for entry in entries]
    there = listed(names, MOST_NAMED) or "nothing"
    looked_for = ", ".join(f"{name} ({layout.looked_for})" for name, layout in LAYOUTS.items())
    return (
        f"{path}: no known layout of a data set; looked for {looked_for}; there is {there}"
        f"{_advice(path, entries)}"
    )


def _advice(path: Path, entries: list[Path]) -> str:
    """Return the nearest thing to do, after a semicolon."""
    inside = [entry for entry in entries[:100] if entry.is_dir()]
    for entry in [*inside, path.absolute().parent]:
        if fitting := fitting_layouts(entry):
            return f"; {entry} looks like {fitting[0]}: name that folder"
    if any(entry.suffix == ".json" for entry in entries):
        return (
            "; if its JSON is COCO's, name the files: --set data.train_annotations=FILE "
            "--set data.train_images=FOLDER, and the same for val"
        )
    if any((path / name).is_dir() for name in ("labels", "train", "images")):
        return "; if these are YOLO's labels, write a data.yaml with names, train and val"
    return ""
