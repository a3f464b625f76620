"""The detections of a folder of predictions in the forms of other tools, with class names.

They are made of the finished lines of the journal, one image at a time.
"""

import csv
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from postnms.data.dataset import Category
from postnms.errors import UserError, shown
from postnms.files.atomic import atomic_path, write_text
from postnms.inference.least_scores import MinScore, least_score
from postnms.inference.records import COLUMNS, records_of, yolo_text

Line = Mapping[str, Any]
"""A finished line of the journal, with its results."""
FORMATS = ("coco", "csv", "yolo")
"""Forms that a user may ask for."""


@dataclass(frozen=True)
class Exports:
    """What is written beside the COCO results, and what is left out of it."""

    formats: Collection[str] = ()
    """Some of :data:`FORMATS`.

    ``coco``: ``coco_ROW.json``, one file with images, classes and detections. ``csv``:
    ``detections_ROW.csv``, a line for each detection. ``yolo``: ``labels_ROW/NAME.txt`` for each
    picture ``NAME.png``, and ``classes.txt``.
    """
    min_score: MinScore = 0.0
    """Detections that score less are not in ``csv`` and ``yolo``."""

    def __post_init__(self) -> None:
        for name in self.formats:
            if name not in FORMATS:
                raise UserError(
                    f"expected some of {', '.join(FORMATS)}, got {shown(name)}", argument="formats"
                )

    def write(
        self,
        folder: Path,
        rows: Iterable[str],
        lines: Callable[[], Iterator[Line]],
        categories: Sequence[Category],
    ) -> None:
        """Write all formats of every row.

        ``lines`` begins anew with the finished lines each time it is called.
        """
        names = "".join(category.name + "\n" for category in categories)
        if "yolo" in self.formats:
            write_text(folder / "classes.txt", names)
        for row in rows:
            if "coco" in self.formats:
                _write_coco(folder / f"coco_{row}.json", row, lines(), categories)
            if "csv" in self.formats:
                self._write_csv(folder / f"detections_{row}.csv", row, lines(), categories)
            if "yolo" in self.formats:
                self._write_yolo(folder / f"labels_{row}", row, lines(), categories)

    def _write_csv(
        self, path: Path, row: str, lines: Iterator[Line], categories: Sequence[Category]
    ) -> None:
        least = least_score(self.min_score, row)
        # A name of a file may have bytes that are not UTF-8. Their escapes are written.
        form: Any = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
        with atomic_path(path) as temporary, temporary.open("w", **form) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["image_id", "file_name", *COLUMNS])
            for line in lines:
                for record in detections_of(line, row, categories, least):
                    writer.writerow([line["id"], line["file_name"], *record.values()])

    def _write_yolo(
        self, folder: Path, row: str, lines: Iterator[Line], categories: Sequence[Category]
    ) -> None:
        least = least_score(self.min_score, row)
        for line in lines:
            boxes, scores, labels = _columns_of(line, row, categories, least)
            text = yolo_text(boxes, scores, labels, (line["height"], line["width"]))
            write_text(folder / f"{Path(line['picture']).stem}.txt", text)


ONLY_RESULTS = Exports()
"""Nothing beside the COCO results."""


def remove_exports(folder: Path, rows: Iterable[str], pictures: Iterable[str]) -> None:
    """Remove what :meth:`Exports.write` has written for some rows and pictures, and nothing else.

    Other text files may lie among those of YOLO: some tools want the names of the classes there.
    """
    stems = [Path(picture).stem for picture in pictures]
    (folder / "classes.txt").unlink(missing_ok=True)
    for row in rows:
        labels = [f"labels_{row}/{stem}.txt" for stem in stems]
        for file in (f"coco_{row}.json", f"detections_{row}.csv", *labels):
            (folder / file).unlink(missing_ok=True)


def detections_of(
    line: Line, row: str, categories: Sequence[Category], min_score: float
) -> list[dict[str, Any]]:
    """Return the records of the detections of an image that score enough."""
    names = [category.name for category in categories]
    return records_of(*_columns_of(line, row, categories, min_score), names)


def json_line(file_name: str, about: Mapping[str, Any]) -> str:
    """Return one line of JSON about an image, which ends with a line break."""
    return json.dumps({"file_name": file_name, **about}, allow_nan=False) + "\n"


def _write_coco(
    path: Path, row: str, lines: Iterator[Line], categories: Sequence[Category]
) -> None:
    images, annotations = [], []
    for line in lines:
        size = {"height": line["height"], "width": line["width"]}
        images.append({"id": line["id"], "file_name": line["file_name"], **size})
        for entry in line["results"][row]:
            area = entry["bbox"][2] * entry["bbox"][3]
            number = len(annotations) + 1
            annotations.append({"id": number, **entry, "area": area, "iscrowd": 0})
    named = [{"id": category.id, "name": category.name} for category in categories]
    content = {"images": images, "categories": named, "annotations": annotations}
    write_text(path, json.dumps(content, allow_nan=False) + "\n")


def _columns_of(
    line: Line, row: str, categories: Sequence[Category], min_score: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return boxes (d, 4) xyxy, scores and labels of the detections that score enough."""
    label_of = {category.id: label for label, category in enumerate(categories)}
    entries = [entry for entry in line["results"][row] if entry["score"] >= min_score]
    boxes = np.array([entry["bbox"] for entry in entries], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    scores = np.array([entry["score"] for entry in entries], np.float64)
    labels = np.array([label_of[entry["category_id"]] for entry in entries], np.int64)
    return boxes, scores, labels
