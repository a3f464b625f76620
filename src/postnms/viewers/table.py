"""Rows as tables with the columns of supervision's ``CSVSink``."""

import csv
from pathlib import Path
from typing import Any

from postnms.data.dataset import Truth
from postnms.files.atomic import atomic_path
from postnms.viewers.coco import facts_of
from postnms.viewers.rows import ViewedRow

SINK = ("x_min", "y_min", "x_max", "y_max", "class_id", "confidence", "tracker_id")
"""The columns that ``CSVSink`` always has."""
FURTHER = ("class_name", "cluster", "error", "file_name", "image_id", "key")
"""Further columns, by name as ``CSVSink`` has them. A field that is not known is empty."""


def write_table(path: Path, truth: Truth, row: ViewedRow) -> None:
    """Write a line for each detection, image by image, by falling score.

    ``class_id`` counts the classes from 0 in the order of their ids, as supervision does where it
    reads COCO's annotations. ``tracker_id`` is empty. What UTF-8 cannot hold of a name, half of a
    surrogate pair, is written as its escape.
    """
    categories = truth.content["categories"]
    by_id = sorted(range(len(categories)), key=lambda place: categories[place]["id"])
    class_id = {place: number for number, place in enumerate(by_id)}
    names = {entry["id"]: entry["file_name"] for entry in truth.images}
    columns = row.columns
    order = sorted(
        range(len(columns)), key=lambda number: (columns.image[number], -columns.scores[number])
    )
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        writer = csv.DictWriter(file, [*SINK, *FURTHER], restval="", lineterminator="\n")
        writer.writeheader()
        for number in order:
            x, y, width, height = columns.boxes[number].tolist()
            label = int(columns.label[number])
            image_id = columns.image_ids[int(columns.image[number])]
            corners = (x, y, round(x + width, 3), round(y + height, 3))
            line: dict[str, Any] = dict(zip(SINK, (*corners, class_id[label]), strict=False))
            line["confidence"] = f"{columns.scores[number]:.9g}"
            line["class_name"] = categories[label]["name"]
            line |= {"file_name": names[image_id], "image_id": image_id}
            writer.writerow(line | facts_of(row, number))
