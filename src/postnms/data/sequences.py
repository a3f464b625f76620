"""Data that a user holds as a sequence of images and targets, as torchvision's references do.

An item is ``(image, target)``, and the target is a dict with ``boxes``, ``labels`` and, if there
are any, ``iscrowd`` and ``area``. The items are read once for their boxes. Images are read again
when they are needed, in the processes that load batches.

m: objects of an image.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from postnms.config import Progress, no_progress
from postnms.data.columns import Entries, ImageColumns, ObjectRows
from postnms.data.dataset import Category, Dataset, Record, Truth
from postnms.data.formats.coco import LEAST_SIDE, clip_boxes
from postnms.data.ids import Ids, Texts
from postnms.data.image_objects import to_image
from postnms.data.records import sizes_of_records
from postnms.errors import UserError, shown

logger = logging.getLogger(__name__)


class ItemSequence(Protocol):
    """A list, a ``torch.utils.data.Dataset``, or anything else with a length and an index."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def __getitem__(self, index: int, /) -> Any:
        """Return ``(image, target)``. It is the same each time."""
        ...


@dataclass(frozen=True)
class Objects:
    """The objects of an item as the user gives them."""

    boxes: NDArray[np.float64]
    """(m, 4) xyxy, pixels."""
    labels: NDArray[np.int64]
    """(m,) in the user's numbering."""
    crowd: NDArray[np.bool_]
    """(m,)."""
    areas: NDArray[np.float64]
    """(m,) square pixels: those of the item, or of the boxes."""


@dataclass(frozen=True)
class ItemImage:
    """The image of one item, which is read when it is called."""

    data: ItemSequence
    index: int
    name: str
    """How the user calls the sequence."""
    objects: Objects
    """The objects that the item had when it was first read."""

    def __call__(self) -> Image.Image:
        """Return the image in RGB. Raises UserError if the item has other boxes than before."""
        image, objects = read_item(self.data, self.index, self.name)
        same = np.array_equal(objects.boxes, self.objects.boxes)
        if not same or not np.array_equal(objects.labels, self.objects.labels):
            raise UserError(
                f"{self.name}[{self.index}]: the boxes are others than when they were first read; "
                "give the data without random changes, which data.augmentation of the recipe makes"
            )
        return image


def read_item(data: ItemSequence, index: int, name: str) -> tuple[Image.Image, Objects]:
    """Return the image and the objects of an item. Raises UserError unless it has its form."""
    where = f"{name}[{index}]"
    item = data[index]
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise UserError(f"{where}: expected (image, target), got {_form(item)}")
    image, target = item
    if not isinstance(target, Mapping) or not {"boxes", "labels"} <= target.keys():
        raise UserError(f"{where}: expected a dict with boxes and labels, got {_form(target)}")
    picture = to_image(image, f"{where}: image")
    labels = _column(target["labels"], f"{where}['labels']", (None,), integers=True)
    count = len(labels)
    boxes = _column(target["boxes"], f"{where}['boxes']", (count, 4))
    if (boxes[:, 2:] < boxes[:, :2]).any():
        row = int(np.flatnonzero((boxes[:, 2:] < boxes[:, :2]).any(axis=1))[0])
        raise UserError(
            f"{where}['boxes']: expected corners x1, y1, x2, y2 in this order, "
            f"got {boxes[row].tolist()} in row {row}"
        )
    crowd, areas = np.zeros(count, np.bool_), (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    if target.get("iscrowd") is not None:
        crowd = _column(target["iscrowd"], f"{where}['iscrowd']", (count,)) != 0
    if target.get("area") is not None:
        areas = _column(target["area"], f"{where}['area']", (count,))
        if (areas < 0).any():
            raise UserError(f"{where}['area']: expected values >= 0, got {areas.min():g}")
    return picture, Objects(boxes, labels.astype(np.int64), crowd, areas)


def dataset_of(
    data: ItemSequence,
    name: str,
    classes: Sequence[str] | None = None,
    labels_from: int = 0,
    done: Progress = no_progress,
) -> Dataset:
    """Return a sequence of the user as a split of a data set. Every item is read once.

    Ids of images are their positions in the sequence. Ids of categories are the user's labels.
    Boxes of the records are clipped to the image. Those with a side under
    :data:`postnms.data.formats.coco.LEAST_SIDE` pixels are not trained on, with a warning in the
    log. The truth has all boxes as they are.

    Args:
        data: the sequence.
        name: how the user calls it, for messages.
        classes: names of the classes, the first one for label ``labels_from``. None: ``class 0``,
            ``class 1``, ... up to the largest label, numbered by the label.
        labels_from: the label of the first class.
        done: called with 1 after every item.

    Raises:
        UserError: there is no item, an item has another form, a label is no class, or the boxes
            look like shares of the image.

    Example:
        >>> import numpy as np
        >>> target = {"boxes": [[10, 10, 40, 30]], "labels": [1]}
        >>> data = [(np.zeros((48, 64, 3), np.uint8), target)]
        >>> dataset = dataset_of(data, "data", ["cat", "dog"])
        >>> dataset.records[0].labels.tolist(), dataset.categories[1].name
        ([1], 'dog')
    """
    if not hasattr(data, "__len__") or not hasattr(data, "__getitem__"):
        raise UserError(f"{name}: expected a sequence of (image, target), got {_form(data)}")
    items: list[tuple[tuple[int, int], Objects]] = []
    for index in range(len(data)):
        image, objects = read_item(data, index, name)
        items.append(((image.height, image.width), objects))
        done(1)
    if not items:
        raise UserError(f"{name}: expected at least one image, got none")
    _check_pixels([objects for _, objects in items], name)
    categories = _categories([objects for _, objects in items], name, classes, labels_from)
    records = [
        _record(data, index, name, size, objects, labels_from)
        for index, (size, objects) in enumerate(items)
    ]
    lost = sum(len(o.labels) for _, o in items) - sum(len(record.labels) for record in records)
    if lost:
        least = f"{LEAST_SIDE} px in their image"
        logger.warning("%s: %d boxes with a side under %s are not trained on", name, lost, least)
    return Dataset(_truth(records, [o for _, o in items], categories, name), tuple(records))


def _check_pixels(items: Sequence[Objects], name: str) -> None:
    boxes = np.concatenate([objects.boxes for objects in items])
    if len(boxes) and boxes.max() <= 1:
        raise UserError(
            f"{name}: expected boxes in pixels, got none over 1; "
            "multiply x by the width of the image and y by its height"
        )


def _categories(
    items: Sequence[Objects], name: str, classes: Sequence[str] | None, labels_from: int
) -> tuple[Category, ...]:
    """Return the classes. Raises UserError for a label of no class."""
    least = min((int(o.labels.min()) for o in items if len(o.labels)), default=labels_from)
    most = max((int(o.labels.max()) for o in items if len(o.labels)), default=labels_from)
    if classes is None:
        if least > labels_from:
            raise UserError(
                f"{name}: no object has the label {labels_from} of the first class, the least is "
                f"{least}; pass labels_from={least}, or the names of all classes as classes"
            )
        classes = [f"class {label}" for label in range(labels_from, most + 1)]
    last = labels_from + len(classes) - 1
    for index, objects in enumerate(items):
        wrong = objects.labels[(objects.labels < labels_from) | (objects.labels > last)]
        if len(wrong):
            hint = "; labels_from=1 reads labels from 1 on" if labels_from == 0 < least else ""
            raise UserError(
                f"{name}[{index}]['labels']: expected {labels_from} to {last}, the labels of "
                f"{len(classes)} classes, got {int(wrong[0])}{hint}"
            )
    return tuple(Category(labels_from + i, text) for i, text in enumerate(classes))


def _record(
    data: ItemSequence,
    index: int,
    name: str,
    size: tuple[int, int],
    objects: Objects,
    labels_from: int,
) -> Record:
    height, width = size
    boxes, solid = clip_boxes(objects.boxes, np.array(size, np.int32))
    return Record(
        index,
        Path(f"{name}_{index}"),
        height,
        width,
        boxes[solid],
        objects.labels[solid] - labels_from,
        objects.crowd[solid],
        source=ItemImage(data, index, name, objects),
    )


def _truth(
    records: Sequence[Record],
    items: Sequence[Objects],
    categories: tuple[Category, ...],
    name: str,
) -> Truth:
    ids = Ids.of(record.id for record in records)
    numbers = {category.id: number for number, category in enumerate(categories)}
    rows = ObjectRows(ids, list(numbers))
    for position, objects in enumerate(items):
        columns = (objects.boxes, objects.labels, objects.crowd, objects.areas)
        for box, label, crowd, area in zip(*(c.tolist() for c in columns), strict=True):
            bbox = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            rows.add(position, numbers[label], bbox, area, crowd)
    images = ImageColumns(
        ids, Texts.of(record.path.name for record in records), sizes_of_records(records)
    )
    content = {
        "images": Entries(images),
        "annotations": Entries(rows.columns(range(1, len(rows) + 1))),
        "categories": [{"id": category.id, "name": category.name} for category in categories],
    }
    return Truth(categories, content, name)


def _column(
    value: Any, where: str, shape: tuple[int | None, ...], *, integers: bool = False
) -> NDArray[Any]:
    """Return a column of a target as an array. Raises UserError for another shape or type."""
    try:
        column = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
        if column.size == 0:
            # An image without objects may have boxes of the shape (0,), and lists have no type.
            column = column.reshape([side or 0 for side in shape]).astype(np.int64)
        column = column if integers else column.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: expected numbers, got {shown(value)}") from error
    fits = len(column.shape) == len(shape) and all(
        side is None or side == own for side, own in zip(shape, column.shape, strict=True)
    )
    if not fits:
        expected = "(m,)" if None in shape else shape
        raise UserError(f"{where}: expected the shape {expected}, got {column.shape}")
    if integers and column.dtype.kind not in "iu":
        raise UserError(f"{where}: expected integers, got {column.dtype}")
    if not integers and not np.isfinite(column).all():
        raise UserError(f"{where}: expected finite numbers, got NaN or infinity")
    return column


def _form(value: object) -> str:
    if isinstance(value, tuple | list):
        return f"{type(value).__name__} of {len(value)}"
    if isinstance(value, Mapping):
        return f"a dict with {shown(list(value))}"
    return type(value).__name__
