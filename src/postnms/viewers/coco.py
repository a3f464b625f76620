"""Rows and annotations as COCO JSON with further fields, which FiftyOne and supervision read."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from postnms.data.dataset import Truth
from postnms.files.atomic import atomic_path
from postnms.viewers.rows import ViewedRow, listed_annotations

FIELDS = ("image_id", "category_id", "bbox", "area", "iscrowd")
"""The fields of an annotation that are written as they are."""


def write_truth(path: Path, truth: Truth, rows: Sequence[ViewedRow]) -> None:
    """Write the annotations. ``missed_by_ROW`` says whether a row has not found an object."""
    _write(path, truth, _annotations(truth, rows))


def write_row(path: Path, truth: Truth, row: ViewedRow) -> None:
    """Write the detections of a row with ``score``, ``error``, ``cluster`` and ``key``."""
    _write(path, truth, _detections(truth, row))


def _annotations(truth: Truth, rows: Sequence[ViewedRow]) -> Iterator[dict[str, Any]]:
    entries = listed_annotations(truth) if truth.annotated else []
    numbered = all("id" in entry for entry in entries)
    missed = {f"missed_by_{row.name}": row.missed for row in rows if row.missed is not None}
    for number, entry in enumerate(entries):
        fields = {name: bool(column[number]) for name, column in missed.items()}
        own = entry["id"] if numbered else number + 1
        yield {"id": own, **{name: entry[name] for name in FIELDS}, "segmentation": [], **fields}


def _detections(truth: Truth, row: ViewedRow) -> Iterator[dict[str, Any]]:
    for number, entry in enumerate(row.columns.dicts(slice(None))):
        area = entry["bbox"][2] * entry["bbox"][3]
        yield {
            "id": number + 1,
            **entry,
            "area": area,
            "iscrowd": 0,
            "segmentation": [],
            **facts_of(row, number),
        }


def facts_of(row: ViewedRow, number: int) -> dict[str, Any]:
    """Return what is known of a detection: ``error``, ``cluster`` and ``key``."""
    facts: dict[str, Any] = {}
    if row.verdicts is not None:
        facts["error"] = str(row.verdicts[number])
    if row.clusters is not None and row.clusters[number] > 0:
        facts["cluster"] = int(row.clusters[number])
    if row.keys is not None:
        facts["key"] = bool(row.keys[number])
    return facts


def _write(path: Path, truth: Truth, annotations: Iterable[dict[str, Any]]) -> None:
    """Write a file of COCO, one entry a line, without holding its text in memory."""
    categories = [
        {"id": entry["id"], "name": entry["name"], "supercategory": "object"}
        for entry in truth.content["categories"]
    ]
    fields = ("id", "file_name", "height", "width")
    images = ({name: entry[name] for name in fields} for entry in truth.images)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for opening, entries in (
            ('{"categories": [', categories),
            ('], "images": [', images),
            ('], "annotations": [', annotations),
        ):
            file.write(opening)
            separator = "\n"
            for entry in entries:
                file.write(separator + json.dumps(entry, allow_nan=False))
                separator = ",\n"
        file.write("]}\n")
