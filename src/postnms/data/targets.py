"""The truth of some images as the targets of a batch."""

from collections.abc import Sequence
from typing import Any

import torch

from postnms.data.dataset import Truth
from postnms.structures import Targets


def targets_of(
    truth: Truth, image_ids: Sequence[int], by_image: dict[int, list[dict[str, Any]]]
) -> Targets:
    """The objects of some images as a batch, in their original pixels; ``by_image``: of :func:`group_by_image`."""
    labels = {category.id: label for label, category in enumerate(truth.categories)}
    entries = [
        (place, entry)
        for place, number in enumerate(image_ids)
        for entry in by_image.get(number, [])
    ]
    boxes = torch.tensor([entry["bbox"] for _, entry in entries], dtype=torch.float64).view(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return Targets(
        boxes.float(),
        torch.tensor([labels[entry["category_id"]] for _, entry in entries], dtype=torch.int64),
        torch.tensor([place for place, _ in entries], dtype=torch.int64),
        torch.tensor([bool(entry["iscrowd"]) for _, entry in entries], dtype=torch.bool),
        len(image_ids),
    )


def group_by_image(truth: Truth) -> dict[int, list[dict[str, Any]]]:
    """Annotations by image id."""
    grouped: dict[int, list[dict[str, Any]]] = {}
    for entry in truth.content["annotations"]:
        grouped.setdefault(entry["image_id"], []).append(entry)
    return grouped
