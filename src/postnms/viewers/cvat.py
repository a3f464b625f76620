"""Rows as "CVAT for images 1.1", the XML that CVAT takes up into a task, and labels for a task."""

import re
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np

from postnms.data.dataset import Truth
from postnms.errors import UserError, shown
from postnms.evaluation.tide import VERDICTS
from postnms.files.atomic import atomic_path, write_json
from postnms.viewers.coco import facts_of
from postnms.viewers.rows import ViewedRow

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""A character that XML cannot hold."""


def write_labels(path: Path, truth: Truth) -> None:
    """Write the labels of a task with their attributes, for the field "Raw" of its form.

    CVAT refuses boxes of labels, and attributes of labels, that the task does not have.
    """
    attributes = [
        _attribute("score", "text", ["0"]),
        _attribute("error", "select", ["unknown", *VERDICTS]),
        _attribute("cluster", "text", ["0"]),
        _attribute("key", "checkbox", ["false"]),
    ]
    labels = [
        {"name": entry["name"], "type": "rectangle", "attributes": attributes}
        for entry in truth.content["categories"]
    ]
    write_json(path, labels)


def _attribute(name: str, kind: str, values: list[str]) -> dict[str, Any]:
    return {
        "name": name,
        "input_type": kind,
        "mutable": False,
        "values": values,
        "default_value": values[0],
    }


def write_xml(path: Path, truth: Truth, row: ViewedRow) -> None:
    """Write the boxes of a row, image by image. CVAT finds an image of the task by its name.

    The truth must have passed :func:`check_texts`.
    """
    columns = row.columns
    # CVAT numbers the images of a task in the order of their names.
    images = sorted(truth.images, key=lambda entry: entry["file_name"])
    order = np.argsort(columns.image, kind="stable")
    position = {image_id: place for place, image_id in enumerate(columns.image_ids)}
    ends = np.append(0, np.bincount(columns.image, minlength=len(position)).cumsum())
    classes = [entry["name"] for entry in truth.content["categories"]]
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n')
        file.write("<version>1.1</version>\n")
        for number, entry in enumerate(images):
            sizes = {side: str(entry[side]) for side in ("width", "height")}
            about = {"id": str(number), "name": entry["file_name"], **sizes}
            image = Element("image", about)
            place = position[entry["id"]]
            for detection in order[ends[place] : ends[place + 1]].tolist():
                image.append(_box(row, detection, classes[int(columns.label[detection])]))
            indent(image)
            file.write(tostring(image, encoding="unicode") + "\n")
        file.write("</annotations>\n")


def _box(row: ViewedRow, number: int, name: str) -> Element:
    x, y, width, height = row.columns.boxes[number].tolist()
    corners = {"xtl": x, "ytl": y, "xbr": x + width, "ybr": y + height}
    edges = {edge: f"{value:.2f}" for edge, value in corners.items()}
    fixed = {"label": name, "source": "auto", "occluded": "0", "z_order": "0"}
    box = Element("box", fixed | edges)
    facts = {"score": f"{row.columns.scores[number]:.4f}", **facts_of(row, number)}
    for field, value in facts.items():
        attribute = SubElement(box, "attribute", {"name": field})
        attribute.text = str(value).lower() if isinstance(value, bool) else str(value)
    return box


def check_texts(truth: Truth) -> None:
    """Raise UserError for a name of a class or an image that XML cannot hold."""
    names = [entry["name"] for entry in truth.content["categories"]]
    for name in (*names, *(entry["file_name"] for entry in truth.images)):
        if _NO_XML.search(name):
            raise UserError(f"{shown(name)}: expected a name of characters that XML can hold")
