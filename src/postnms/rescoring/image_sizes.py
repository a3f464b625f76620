"""The sizes of the images of a file of candidates, which the annotations know."""

from collections.abc import Sequence

import torch
from torch import Tensor

from postnms.data.columns import ImageColumns, columns_of
from postnms.data.dataset import ImageId, Truth
from postnms.data.formats.fields import read_whole
from postnms.errors import UserError, shown


def image_sizes(truth: Truth, image_ids: Sequence[ImageId]) -> Tensor:
    """Return height and width of images in pixels: (B, 2) float32, in the order of ``image_ids``.

    Raises UserError that names the annotations and the field if an image has no size there.
    """
    positions = {entry_id: row for row, entry_id in enumerate(_ids(truth))}
    rows = [positions[image_id] for image_id in image_ids]
    columns = columns_of(truth.images, ImageColumns)
    if columns is not None:
        return torch.from_numpy(columns.sizes[rows]).float().view(-1, 2)
    sizes = [[_side(truth, row, field) for field in ("height", "width")] for row in rows]
    return torch.tensor(sizes, dtype=torch.float32).view(-1, 2)


def _ids(truth: Truth) -> Sequence[ImageId]:
    columns = columns_of(truth.images, ImageColumns)
    return [entry["id"] for entry in truth.images] if columns is None else columns.ids


def _side(truth: Truth, row: int, field: str) -> int:
    came = truth.images[row].get(field)
    side = read_whole(came)
    if side is None or side < 1:
        got = "nothing" if came is None else shown(came)
        raise UserError(
            f"{truth.source}: images[{row}].{field}: expected an integer >= 1, as boxes are "
            f"re-scored by their place in the image, got {got}"
        )
    return side
