"""The detections of a prediction job in the forms of other tools."""

import csv

from postnms.data.dataset import Category
from postnms.inference.exports import FORMATS, Exports
from postnms.inference.journal import Journal

RESULT = {"image_id": 1, "category_id": 7, "bbox": [1.0, 2.0, 3.0, 4.0], "score": 0.5}
LINE = {"id": 1, "picture": "a.png", "height": 10, "width": 20, "results": {"nms": [RESULT]}}


def test_a_table_has_the_escape_of_a_byte_that_is_not_utf_8(tmp_path):
    """A name of a file in Latin-1, as Python has it where names are UTF-8."""
    name = b"Gr\xf6\xdfe \xc3\xa4.jpg".decode("utf-8", "surrogateescape")
    line = {**LINE, "file_name": name}
    Exports(("csv",)).write(tmp_path, ["nms"], lambda: iter([line]), [Category(7, "Käfer")])
    with (tmp_path / "detections_nms.csv").open(newline="", encoding="utf-8") as file:
        (found,) = csv.DictReader(file)
    assert (found["file_name"], found["name"]) == (r"Gr\udcf6\udcdfe ä.jpg", "Käfer")


def test_files_of_rows_that_are_gone_are_removed_and_those_of_the_user_stay(tmp_path):
    for rows in (["nms", "post_nms"], ["nms"]):
        with Journal(tmp_path, rows, {"weights": len(rows)}) as journal:
            results = {row: [RESULT] for row in rows}
            journal.add({**LINE, "file_name": "a.jpg", "stamp": [1, 2], "results": results})
            journal.remove_exports()
            Exports(FORMATS).write(tmp_path, rows, journal.finished, [Category(7, "Käfer")])
        (tmp_path / "labels_nms" / "classes.txt").write_text("mine")
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")) == [
        *("classes.txt", "coco_nms.json", "detections_nms.csv", "journal.jsonl"),
        *("labels_nms/a.txt", "labels_nms/classes.txt", "predict.json"),
    ]
