"""The row of a file of COCO results, of a run or of any other detector."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from postnms.data.dataset import Truth
from postnms.data.formats.fields import check_object, is_number, read_bbox, read_id, read_whole
from postnms.errors import UserError, shown
from postnms.files.json_stream import read_json_list
from postnms.viewers.rows import ViewedRow, view_row


def row_of_results(name: str, truth: Truth, path: Path) -> ViewedRow:
    """Return the detections of a file of results, plain or gzip, with their verdicts.

    Raises UserError that names the file and the field if an entry is not as COCO has it.
    """
    return view_row(name, truth, list(_entries(path)))


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries with the four fields of boxes."""
    for index, entry in enumerate(read_json_list(path)):
        where = f"{path.name}: [{index}]"
        check_object(entry, where)
        bbox = read_bbox(entry.get("bbox"), f"{where}.bbox")
        ids = {"image_id": read_id, "category_id": read_whole}
        fields = {field: read(entry.get(field)) for field, read in ids.items()}
        score = entry.get("score") if is_number(entry.get("score")) else None
        for field, value in {**fields, "score": score}.items():
            if value is None:
                expected = "a finite number" if field == "score" else "an id"
                came = shown(entry.get(field))
                raise UserError(f"{where}.{field}: expected {expected}, got {came}")
        yield {**fields, "bbox": bbox, "score": score}
