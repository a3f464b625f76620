"""The results of one row as columns: a few arrays in place of a dict for each detection.

A row of COCO's size has half a million results. As dicts they take some 400 bytes each, and to read
them takes longer than to match them, so they are read once.

N: results, B: images, K: classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from postnms.data.dataset import Category, ImageId, Truth
from postnms.errors import shown
from postnms.evaluation.numbering import (
    category_positions,
    image_positions,
    number_entries,
    read_scores,
)
from postnms.evaluation.results import Result, as_result_boxes
from postnms.structures import Detections


@dataclass(frozen=True)
class ResultColumns:
    """Results of the classes that the truth lists, in the order given."""

    image: NDArray[np.int64]
    """(N,) 0..B-1: position of the image, see :func:`postnms.evaluation.numbering`."""
    label: NDArray[np.int64]
    """(N,) 0..K-1: position of the class in ``truth.content["categories"]``."""
    boxes: NDArray[np.float64]
    """(N, 4) x, y, width, height, in original pixels."""
    scores: NDArray[np.float64]
    """(N,)."""


def read_results(truth: Truth, results: Sequence[Result]) -> ResultColumns:
    """Return results as columns. Those of a category that the truth does not list are left out.

    Raises ValueError for a result of an image that the truth does not list, and for a box or a
    score that is not finite.
    """
    categories = category_positions(truth)
    known = [entry for entry in results if entry["category_id"] in categories]
    numbered = number_entries("results", known, image_positions(truth), categories)
    return ResultColumns(numbered.image, numbered.label, numbered.boxes, read_scores(known))


def columns_of(
    truth: Truth,
    detections: Detections,
    image_ids: Sequence[ImageId],
    categories: Sequence[Category],
) -> ResultColumns:
    """Return detections in original pixels as the columns of their results, without the results.

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
    position = image_positions(truth)
    label = category_positions(truth)
    image_of = np.array([position.get(image_id, -1) for image_id in image_ids], np.int64)
    label_of = np.array([label.get(category.id, -1) for category in categories], np.int64)
    labels = label_of[detections.labels.cpu().numpy()]
    known = labels >= 0
    image = image_of[detections.image.cpu().numpy()][known]
    if (image < 0).any():
        strangers = detections.image.cpu().numpy()[known][image < 0]
        came = shown(image_ids[int(strangers[0])])
        raise ValueError(f"detections: expected images of the truth, got {came}")
    boxes = as_result_boxes(detections, torch.ones(len(image_ids), 2))
    return ResultColumns(
        image,
        labels[known],
        boxes[known],
        detections.scores.cpu().double().numpy()[known],
    )
