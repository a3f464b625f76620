"""The row of a file of COCO results, of a run or of any other detector."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from postnms.data.dataset import Truth
from postnms.data.formats.fields import (
    check_object,
    is_number,
    read_bbox,
    read_field,
    read_id,
    read_whole,
)
from postnms.errors import UserError, shown
from postnms.files.json_stream import read_json_list
from postnms.viewers.rows import ViewedRow, view_row


def row_of_results(name: str, truth: Truth, path: Path) -> ViewedRow:
    """Return the detections of a file of results, plain or gzip, with their verdicts.

    Results of a class that the truth does not list are left out. Raises UserError that names the
    file and the field if an entry is not as COCO has it, or is of an image that the truth does not
    list.
    """
    return view_row(name, truth, list(_entries(truth, path)))


def _entries(truth: Truth, path: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries with the four fields of boxes."""
    images = {entry["id"] for entry in truth.images}
    for index, entry in enumerate(read_json_list(path)):
        where = f"{path.name}: [{index}]"
        check_object(entry, where)
        image_id = read_field(entry, "image_id", read_id, images, "the id of an image", where)
        category_id, score = read_whole(entry.get("category_id")), entry.get("score")
        if category_id is None:
            came = shown(entry.get("category_id"))
            raise UserError(f"{where}.category_id: expected an id, got {came}")
        if not is_number(score):
            raise UserError(f"{where}.score: expected a finite number, got {shown(score)}")
        bbox = read_bbox(entry.get("bbox"), f"{where}.bbox")
        yield {"image_id": image_id, "category_id": category_id, "bbox": bbox, "score": score}
