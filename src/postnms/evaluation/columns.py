"""The results of one row as columns: a few arrays in place of a dict for each detection.

A row of COCO's size has half a million results. As dicts they take some 600 bytes each, as columns
56 bytes. :class:`postnms.data.columns.Entries` shows columns as a list of dicts.

N: results, B: images, K: classes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from postnms.data.dataset import Category, ImageId, Truth
from postnms.errors import shown
from postnms.evaluation.numbering import (
    category_positions,
    check_boxes,
    check_scores,
    image_positions,
    number_entries,
    renumber,
)
from postnms.evaluation.results import Result, as_result_boxes, as_result_scores
from postnms.structures import Detections

_FIELDS = frozenset({"image_id", "category_id", "bbox", "score"})
"""The fields that every result has."""


@dataclass(frozen=True, eq=False)
class ResultColumns:
    """Results in the order given.

    Raises ValueError if columns differ in length, if a position is out of range, or if a box or a
    score is not what its column says.
    """

    image_ids: Sequence[ImageId]
    """The ids of B images, no two of them equal."""
    category_ids: Sequence[int]
    """The ids of K classes, no two of them equal."""
    image: NDArray[np.int64]
    """(N,) 0..B-1: position in ``image_ids``."""
    label: NDArray[np.int64]
    """(N,) 0..K-1: position in ``category_ids``."""
    boxes: NDArray[np.float64]
    """(N, 4) x, y, width, height, in original pixels: finite, with sides of at least 0."""
    scores: NDArray[np.float64]
    """(N,) finite."""

    def __post_init__(self) -> None:
        count = len(self.scores)
        shapes = {"image": (count,), "label": (count,), "boxes": (count, 4), "scores": (count,)}
        for name, shape in shapes.items():
            came = getattr(self, name).shape
            if came != shape:
                raise ValueError(f"results: {name}: expected the shape {shape}, got {came}")
        for name, ids in (("image", self.image_ids), ("label", self.category_ids)):
            column = getattr(self, name)
            wrong = (column < 0) | (column >= len(ids))
            if wrong.any():
                raise ValueError(
                    f"results: {name}: expected positions from 0 to {len(ids) - 1}, "
                    f"got {column[wrong][0]}"
                )
        check_boxes("results", self.boxes)
        check_scores(self.scores)

    def __len__(self) -> int:
        return len(self.scores)

    def dicts(self, rows: slice) -> Iterator[Result]:
        """Yield a new dict for each of some results, as COCO has them."""
        columns = (self.image, self.label, self.boxes, self.scores)
        parts = (column[rows].tolist() for column in columns)
        for image, label, box, score in zip(*parts, strict=True):
            yield {
                "image_id": self.image_ids[image],
                "category_id": self.category_ids[label],
                "bbox": box,
                "score": score,
            }


Results = dict[str, ResultColumns]
"""The results of each row of a detector, by the name of the row."""


def to_columns(
    detections: Detections,
    image_ids: Sequence[ImageId],
    to_original: Tensor,
    category_ids: Sequence[int],
) -> ResultColumns:
    """Return the detections of a batch as the columns of their results, in their order.

    The arguments are those of :func:`postnms.evaluation.results.to_results`, and so are the boxes
    and scores, digit by digit.
    """
    return ResultColumns(
        image_ids,
        category_ids,
        detections.image.cpu().numpy(),
        detections.labels.cpu().numpy(),
        as_result_boxes(detections, to_original),
        np.array(as_result_scores(detections), np.float64),
    )


def concatenate_columns(
    parts: Sequence[ResultColumns], category_ids: Sequence[int]
) -> ResultColumns:
    """Return the results of several parts one after another.

    Args:
        parts: results of different images, all of the classes ``category_ids``. There may be none.
        category_ids: the ids of the K classes.
    """
    starts = np.cumsum([0, *(len(part.image_ids) for part in parts)])
    images = [part.image + start for part, start in zip(parts, starts[:-1], strict=True)]
    return ResultColumns(
        [image_id for part in parts for image_id in part.image_ids],
        category_ids,
        np.concatenate([np.empty(0, np.int64), *images]),
        np.concatenate([np.empty(0, np.int64), *(part.label for part in parts)]),
        np.concatenate([np.empty((0, 4)), *(part.boxes for part in parts)]),
        np.concatenate([np.empty(0), *(part.scores for part in parts)]),
    )


def read_results(truth: Truth, results: Sequence[Result] | ResultColumns) -> ResultColumns:
    """Return results as columns with the positions of images and classes in the truth.

    Images have the order of :func:`postnms.evaluation.numbering.image_positions`, classes that of
    ``truth.content["categories"]``. Results of a class that the truth does not list are left out.

    Raises ValueError for a result that lacks a field or is of an image that the truth does not
    list, and for a box or a score that is not finite.
    """
    images, categories = image_positions(truth), category_positions(truth)
    if isinstance(results, ResultColumns):
        known, image, label = renumber(
            "results", results.image, results.label, results.image_ids, results.category_ids, truth
        )
        boxes, scores = results.boxes[known], results.scores[known]
        return ResultColumns(tuple(images), tuple(categories), image, label, boxes, scores)
    for number, entry in enumerate(results):
        if not isinstance(entry, Mapping) or not entry.keys() >= _FIELDS:
            raise ValueError(
                f"results: entry {number}: expected {', '.join(sorted(_FIELDS))}, got "
                f"{shown(entry)}"
            )
    known = [entry for entry in results if entry["category_id"] in categories]
    numbered = number_entries("results", known, images, categories)
    scores = np.array([entry["score"] for entry in known], np.float64)
    return ResultColumns(
        tuple(images), tuple(categories), numbered.image, numbered.label, numbered.boxes, scores
    )


def columns_of(
    truth: Truth,
    detections: Detections,
    image_ids: Sequence[ImageId],
    categories: Sequence[Category],
) -> ResultColumns:
    """Return detections in original pixels as the columns that :func:`read_results` gives.

    They give the figures that the results of :func:`postnms.evaluation.results.to_results` give,
    whose scores are rounded, but so that neither their order nor their ties change.

    Args:
        truth: the annotations.
        detections: the detections of one row.
        image_ids: id of each image of the detections.
        categories: class of each label. Detections of a class that the truth does not list are left
            out.

    Raises:
        ValueError: a detection is in an image that the truth does not list.
    """
    columns = ResultColumns(
        image_ids,
        [category.id for category in categories],
        detections.image.cpu().numpy(),
        detections.labels.cpu().numpy(),
        as_result_boxes(detections, torch.ones(len(image_ids), 2)),
        detections.scores.cpu().double().numpy(),
    )
    return read_results(truth, columns)
