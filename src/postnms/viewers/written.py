"""Rows in the form of a viewer, in a folder of its own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from postnms.data.dataset import Truth
from postnms.errors import UserError
from postnms.files.atomic import write_json
from postnms.files.folders import Marker
from postnms.files.json_files import read_json
from postnms.viewers.coco import write_row, write_truth
from postnms.viewers.cvat import check_texts, write_labels, write_xml
from postnms.viewers.rows import ViewedRow, check_names
from postnms.viewers.table import write_table

Viewer = Literal["fiftyone", "supervision", "cvat"]
MARKER = Marker("convert.json", ("viewer", "rows", "files"))
"""The file that marks a folder of files for a viewer."""
_ENDINGS = {"fiftyone": (".json", write_row), "supervision": (".csv", write_table)}
_ENDINGS["cvat"] = (".xml", write_xml)


def check_images(truth: Truth) -> None:
    """Raise UserError unless every image has a name and a size, which viewers need."""
    for index, entry in enumerate(truth.images):
        for field, kind in (("file_name", str), ("height", int), ("width", int)):
            if not isinstance(entry.get(field), kind):
                wanted = "a string" if kind is str else "a whole number"
                raise UserError(f"{truth.source}: images[{index}].{field}: expected {wanted}")


def write_for_viewer(
    viewer: Viewer,
    truth: Truth,
    rows: Sequence[ViewedRow],
    folder: Path,
    about: Mapping[str, Any],
) -> list[str]:
    """Write one file for each row, and what the viewer needs besides; return their names.

    ``fiftyone``: ``truth.json`` and ``ROW.json`` in COCO's form. ``supervision``: ``truth.json``
    and ``ROW.csv``. ``cvat``: ``labels.json`` and ``ROW.xml``. The files that an earlier call has
    left in the folder are removed. ``convert.json`` says where all comes from; it is written first.

    Raises:
        UserError: an image has no name or no size, two rows have one name, the viewer cannot have
            a name, or a file cannot be written. The first three are told before anything is
            removed.
    """
    check_images(truth)
    check_names(rows)
    if viewer == "cvat":
        check_texts(truth)
    ending, write = _ENDINGS[viewer]
    shared = "labels.json" if viewer == "cvat" else "truth.json"
    files = [shared, *(row.name + ending for row in rows)]
    _remove_earlier(folder)
    named = {"viewer": viewer, "rows": [row.name for row in rows], "files": files}
    write_json(folder / MARKER.name, {**about, **named})
    if viewer == "cvat":
        write_labels(folder / shared, truth)
    else:
        write_truth(folder / shared, truth, rows)
    for row, name in zip(rows, files[1:], strict=True):
        write(folder / name, truth, row)
    return files


def _remove_earlier(folder: Path) -> None:
    """Remove the files that an earlier call has written."""
    marker = folder / MARKER.name
    if not marker.is_file():
        return
    names = read_json(marker).get("files")
    for name in names if isinstance(names, list) else ():
        # A name that leads out of the folder is none that this library has written.
        if isinstance(name, str) and name == Path(name).name and name not in ("", "..", "."):
            (folder / name).unlink(missing_ok=True)
