"""The order and the number of the entries of each image of a batch.

n: entries, B: images.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from postnms.devices import number_of_each


def sort_by_image(scores: Tensor, image: Tensor) -> Tensor:
    """Return all rows (n,) ordered by image, then by falling score, then by row."""
    order = torch.argsort(scores, descending=True, stable=True)
    return order[torch.argsort(image[order], stable=True)]


def top_per_image(
    scores: Tensor,
    image: Tensor,
    num_images: int,
    most: int,
    counts: Sequence[int] | None = None,
) -> Tensor:
    """Return the rows of the ``most`` best-scored entries of each image.

    The rows are ordered by image, then by falling score, then by row. ``counts`` is the number of
    entries of each image, if the host knows it. Otherwise it waits for a GPU.
    """
    order = sort_by_image(scores, image)
    if torch.compiler.is_compiling():
        # In a graph the host knows no counts, so each row is compared with the start of its image.
        of_images = number_of_each(image, num_images)
        starts = of_images.cumsum(0) - of_images
        rank = torch.arange(len(order), device=order.device) - starts[image[order]]
        return order[rank < most]
    if counts is None:
        counts = number_of_each(image, num_images).tolist()
    if max(counts, default=0) <= most:
        return order
    return torch.cat([part[:most] for part in order.split(list(counts))])


def cut_images(image: Tensor, num_images: int, most: int) -> Tensor:
    """Return for each image whether more than ``most`` entries are of it: (B,) bool.

    ``image`` (n,) int64 is the image of each entry, 0..B-1.
    """
    return number_of_each(image, num_images) > most
