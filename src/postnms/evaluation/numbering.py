"""The order in which images are measured, and the positions that stand for the user's ids.

Figures depend on positions alone, so no id of the user's file can change them.

N: entries of one list, B: images, K: classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from postnms.data.dataset import ImageId, Truth
from postnms.errors import shown


@dataclass(frozen=True)
class NumberedEntries:
    """Annotations or results as columns, in the order of the list that they come from."""

    image: NDArray[np.int64]
    """(N,) 0..B-1: position of the image, see :func:`image_positions`."""
    label: NDArray[np.int64]
    """(N,) 0..K-1: position of the class in ``truth.content["categories"]``."""
    boxes: NDArray[np.float64]
    """(N, 4) x, y, width, height, in pixels."""


def image_positions(truth: Truth) -> dict[ImageId, int]:
    """Return the position of each image by its id, 0..B-1.

    Images are in the order of their ids if all ids are numbers, as in COCO's evaluation. If one of
    them is a string, they are in the order of the file: such a file has the figures that it would
    have with the ids 1, 2, ... in that order.
    """
    image_ids = [entry["id"] for entry in truth.images]
    if not any(isinstance(image_id, str) for image_id in image_ids):
        image_ids.sort()
    return {image_id: position for position, image_id in enumerate(image_ids)}


def category_positions(truth: Truth) -> dict[int, int]:
    """Return the position of each category by its id, in the order of the file."""
    return {category["id"]: i for i, category in enumerate(truth.content["categories"])}


def number_entries(
    name: str,
    entries: Sequence[Mapping[str, Any]],
    images: Mapping[ImageId, int],
    categories: Mapping[int, int],
) -> NumberedEntries:
    """Return entries as columns. All of them must be of known categories.

    Args:
        name: what the list is called in errors.
        entries: annotations or results.
        images: from :func:`image_positions`.
        categories: from :func:`category_positions`.

    Raises:
        ValueError: an entry is of an image that is not known, or has a box that is not four finite
            numbers with sides of at least 0.
    """
    image = np.array([images.get(entry["image_id"], -1) for entry in entries], np.int64)
    if (image < 0).any():
        raise _stranger(name, entries[int(np.argmin(image))]["image_id"])
    label = np.array([categories[entry["category_id"]] for entry in entries], np.int64)
    boxes = [entry["bbox"] for entry in entries]
    odd = next((box for box in boxes if len(box) != 4), None)
    if odd is not None:
        raise ValueError(f"{name}: expected boxes [x, y, width, height], got {shown(odd)}")
    boxes = np.array(boxes, np.float64).reshape(-1, 4)
    check_boxes(name, boxes)
    return NumberedEntries(image, label, boxes)


def renumber(
    name: str,
    image: NDArray[np.integer],
    label: NDArray[np.integer],
    image_ids: Sequence[ImageId],
    category_ids: Sequence[int],
    truth: Truth,
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions in the truth of columns with positions in lists of their own.

    Args:
        name: what the entries are called in errors.
        image: (N,) position of the image of each entry in ``image_ids``.
        label: (N,) position of the class of each entry in ``category_ids``.
        image_ids: ids of images.
        category_ids: ids of classes.
        truth: the annotations.

    Returns:
        (N,) which entries are of a class that the truth lists, and for these n entries (n,) the
        position of the image, see :func:`image_positions`, and (n,) that of the class.

    Raises:
        ValueError: one of these entries is of an image that the truth does not list.
    """
    images, categories = image_positions(truth), category_positions(truth)
    image_of = np.array([images.get(own, -1) for own in image_ids], np.int64)
    label_of = np.array([categories.get(own, -1) for own in category_ids], np.int64)
    labels = label_of[label]
    known = labels >= 0
    own = image[known]
    places = image_of[own]
    if (places < 0).any():
        raise _stranger(name, image_ids[int(own[places < 0][0])])
    return known, places, labels[known]


def _stranger(name: str, image_id: ImageId) -> ValueError:
    return ValueError(f"{name}: expected image ids of the truth, got {shown(image_id)}")


def check_boxes(name: str, boxes: NDArray[np.float64]) -> None:
    """Raise ValueError unless boxes (N, 4) are finite and have sides of at least 0."""
    wrong = ~np.isfinite(boxes).all(axis=1) | (boxes[:, 2:] < 0).any(axis=1)
    if wrong.any():
        raise ValueError(
            f"{name}: expected boxes of finite numbers with sides >= 0, "
            f"got {boxes[wrong][0].tolist()}"
        )


def check_scores(scores: NDArray[np.float64]) -> None:
    """Raise ValueError unless all scores of results are finite."""
    if not np.isfinite(scores).all():
        raise ValueError(f"results: expected finite scores, got {scores[~np.isfinite(scores)][0]}")
