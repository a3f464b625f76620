"""Images that a user holds in memory, as 8-bit RGB.

An image is one of Pillow's, an array or a tensor. Whatever it is, the same pixels give the same
result. The order of the colours is red, green, blue: an image in the order blue, green, red, as
OpenCV reads it, cannot be told from one in this order.

H: height, W: width, in pixels.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from postnms.data.image_modes import pillow_to_rgb
from postnms.errors import UserError, shown

ImageObject = Image.Image | np.ndarray[Any, Any] | Tensor
"""An image in memory, see :func:`to_image`."""


def to_image(value: object, name: str) -> Image.Image:
    """Return an image of the user as 8-bit RGB.

    Floats are rounded to 8 bits, as an image file has them.

    Args:
        value: one of these images. Its size is its own: no EXIF rotation is applied.

            - an image of Pillow of any mode. Values of more than 8 bits are scaled as those of
              files, and an alpha channel is dropped.
            - an array (H, W, 3), or grey (H, W) or (H, W, 1), uint8 or float in [0, 1].
            - a tensor (3, H, W), or grey (H, W) or (1, H, W), uint8 or float in [0, 1], on any
              device.
        name: how the user calls the image, for messages.

    Raises:
        UserError: the value is no image, has another shape or type, or holds floats that are not
            in [0, 1].

    Example:
        >>> import numpy as np
        >>> to_image(np.full((2, 3), 0.5), "image").getpixel((0, 0))
        (128, 128, 128)
    """
    if isinstance(value, Image.Image):
        return pillow_to_rgb(value, name)
    if isinstance(value, Tensor):
        return Image.fromarray(_in_8_bits(_of_tensor(value, name), name))
    if isinstance(value, np.ndarray):
        return Image.fromarray(_in_8_bits(_of_array(value, name), name))
    came = shown(value) if isinstance(value, str) else type(value).__name__
    raise UserError(f"{name}: expected an image of Pillow, an array or a tensor, got {came}")


def check_pixels(images: Mapping[str, Tensor]) -> None:
    """Raise UserError unless tensors of any shapes, not empty, are uint8, or float in [0, 1].

    The key of each is its name for messages. The host waits for a GPU once if there are floats.
    """
    ends = {}
    for name, image in images.items():
        if image.is_floating_point():
            ends[name] = torch.stack(image.detach().aminmax())
        elif image.dtype != torch.uint8:
            raise UserError(f"{name}: expected uint8 or float in [0, 1], got {image.dtype}")
    if ends:
        values = torch.stack(list(ends.values())).tolist()
        for name, (least, most) in zip(ends, values, strict=True):
            _check_range(least, most, name)


def _of_tensor(value: Tensor, name: str) -> NDArray[Any]:
    """Return a tensor as an array (H, W, 3)."""
    shape = tuple(value.shape)
    if value.ndim == 2:
        value = value[None]
    if value.ndim != 3 or value.shape[0] not in (1, 3) or 0 in shape:
        hint = ""
        if len(shape) == 3 and shape[2] in (1, 3):
            hint = "; image.permute(2, 0, 1) puts the channels first"
        elif len(shape) == 3 and shape[0] == 4:
            hint = "; image[:3] drops the alpha channel"
        raise UserError(f"{name}: expected a tensor (3, height, width), got {shape}{hint}")
    # bfloat16 has no type in numpy, and float64 would keep nothing more of it.
    value = value.detach().float() if value.is_floating_point() else value.detach()
    return value.expand(3, -1, -1).permute(1, 2, 0).cpu().numpy()


def _of_array(value: NDArray[Any], name: str) -> NDArray[Any]:
    """Return an array as (H, W, 3)."""
    shape = value.shape
    if value.ndim == 2:
        value = value[:, :, None]
    if value.ndim != 3 or value.shape[2] not in (1, 3) or 0 in shape:
        hint = ""
        if len(shape) == 3 and shape[0] in (1, 3):
            hint = "; image.transpose(1, 2, 0) puts the channels last"
        elif len(shape) == 3 and shape[2] == 4:
            hint = "; image[:, :, :3] drops the alpha channel"
        raise UserError(f"{name}: expected an array (height, width, 3), got {shape}{hint}")
    return np.broadcast_to(value, (*value.shape[:2], 3))


def _in_8_bits(values: NDArray[Any], name: str) -> NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    if not np.issubdtype(values.dtype, np.floating):
        raise UserError(f"{name}: expected uint8 or float in [0, 1], got {values.dtype}")
    _check_range(float(values.min()), float(values.max()), name)
    return (values * 255 + 0.5).astype(np.uint8)


def _check_range(least: float, most: float, name: str) -> None:
    """Raise UserError unless floats from ``least`` to ``most`` are in [0, 1]."""
    if not (np.isfinite(least) and np.isfinite(most)):
        raise UserError(f"{name}: expected finite pixels, got NaN or infinity")
    if least < 0:
        raise UserError(
            f"{name}: expected floats in [0, 1], got {least:g} to {most:g}; "
            "give the image as it was before it was normalised"
        )
    if most > 1:
        hint = "; divide by 255, or give uint8" if most <= 255 else ""
        raise UserError(f"{name}: expected floats in [0, 1], got {least:g} to {most:g}{hint}")
