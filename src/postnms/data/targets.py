"""Annotations as the targets of a batch, in the pixels of the original images."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from postnms.data.dataset import ImageId, Truth
from postnms.structures import Targets


def group_by_image(truth: Truth) -> dict[ImageId, list[dict[str, Any]]]:
    """Return the annotations of each image by its id. An image without annotations has no entry."""
    grouped: dict[ImageId, list[dict[str, Any]]] = {}
    for entry in truth.annotations:
        grouped.setdefault(entry["image_id"], []).append(entry)
    return grouped


def targets_of(
    truth: Truth,
    image_ids: Sequence[ImageId],
    by_image: Mapping[ImageId, list[dict[str, Any]]],
) -> Targets:
    """Return the objects of the given images as one batch, in the order of ``image_ids``.

    Labels are positions in ``truth.categories``. ``by_image`` is the result of
    :func:`group_by_image`, which is made once for many batches.
    """
    labels = {category.id: label for label, category in enumerate(truth.categories)}
    entries = [
        (position, entry)
        for position, number in enumerate(image_ids)
        for entry in by_image.get(number, [])
    ]
    # In float64 until the corners are added up, so that they are rounded once.
    boxes = torch.tensor([entry["bbox"] for _, entry in entries], dtype=torch.float64).view(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return Targets(
        boxes.float(),
        torch.tensor([labels[entry["category_id"]] for _, entry in entries], dtype=torch.int64),
        torch.tensor([position for position, _ in entries], dtype=torch.int64),
        torch.tensor([bool(entry["iscrowd"]) for _, entry in entries], dtype=torch.bool),
        len(image_ids),
    )
