"""The order in which images are measured, and the ids that results may have."""

from collections.abc import Container, Mapping, Sequence
from typing import Any

from postnms.data.dataset import Truth


def image_positions(truth: Truth) -> dict[int, int]:
    """Return the position of each image by its id. Positions 0..B-1 are in the order of the ids."""
    image_ids = sorted(entry["id"] for entry in truth.images)
    return {image_id: position for position, image_id in enumerate(image_ids)}


def check_image_ids(name: str, entries: Sequence[Mapping[str, Any]], known: Container[int]) -> None:
    """Raise ValueError, which begins with ``name``, for an entry of an image that is not known."""
    for entry in entries:
        if entry["image_id"] not in known:
            raise ValueError(f"{name}: expected image ids of the truth, got {entry['image_id']}")
