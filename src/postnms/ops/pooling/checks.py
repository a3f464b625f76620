"""Checks of the arguments of pooling. Every message begins with the name of the argument.

r: boxes, C: channels, B: images.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from torch import Tensor

from postnms.boxes import at_least_float32
from postnms.checks import check_boxes
from postnms.ops.checks import (
    FLOATING,
    INTEGER,
    check_column,
    check_dense,
    check_device,
    is_number,
    plain,
)


def check_pooling(
    features: Mapping[str, Tensor], boxes: Tensor, image: Tensor, strides: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Raise ValueError unless the pyramid and the boxes are as ``pool_pyramid`` describes them.

    The values of boxes and images are read on a CPU only, where the kernel would read any memory
    for a wrong one. On other devices the host would have to wait for them.

    Returns:
        The boxes (r, 4), float32 or float64, and the image of each, (r,) int64. Both are without a
        gradient and of torch's own class.
    """
    _check_features(features)
    _check_strides(strides, len(features))
    first = next(iter(features.values()))
    check_dense("boxes", boxes)
    check_column("boxes", boxes, ("r", 4), FLOATING)
    check_device("boxes", boxes, first.device, "features")
    check_dense("image", image)
    check_column("image", image, boxes.shape[:1], INTEGER)
    check_device("image", image, first.device, "features")
    boxes, image = at_least_float32(plain(boxes)), plain(image).long()
    if first.device.type == "cpu":
        boxes, image = boxes.contiguous().resolve_neg(), image.contiguous()
        _check_values(boxes, image, len(first))
    return boxes, image


def _check_values(boxes: Tensor, image: Tensor, images: int) -> None:
    """Raise ValueError unless boxes are finite and in order, and all images exist."""
    from postnms.ops.pooling import cpu

    if cpu.is_sound(boxes.numpy(), image.numpy(), images):
        return
    # Compiled code says at once whether a value is wrong. This code names it.
    check_boxes("boxes", boxes)
    raise ValueError(
        f"image: expected values from 0 to {images - 1}, "
        f"got {int(image.min())} to {int(image.max())}"
    )


def _check_features(features: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless all levels are (B, C, H, W), not empty, and of one kind."""
    if not isinstance(features, Mapping) or not features:
        came = "an empty one" if isinstance(features, Mapping) else type(features).__name__
        raise ValueError(f"features: expected a dict of levels, got {came}")
    names = [f"features[{key!r}]" for key in features]
    levels = list(features.values())
    for name, level in zip(names, levels, strict=True):
        check_dense(name, level)
        check_column(name, level, ("B", "C", "H", "W"), FLOATING)
        if not (level.shape[2] and level.shape[3]):
            raise ValueError(f"{name}: expected H and W >= 1, got {tuple(level.shape)}")
        check_device(name, level, levels[0].device, names[0])
        if level.shape[:2] != levels[0].shape[:2] or level.dtype != levels[0].dtype:
            raise ValueError(
                f"{name}: expected {levels[0].dtype} and (B, C) {tuple(levels[0].shape[:2])} "
                f"as {names[0]}, got {level.dtype} and {tuple(level.shape[:2])}"
            )


def _check_strides(strides: Sequence[float], levels: int) -> None:
    """Raise ValueError unless there is a stride for each level, from fine to coarse."""
    if not isinstance(strides, Sequence):
        raise ValueError(f"strides: expected a list of numbers, got {type(strides).__name__}")
    for stride in strides:
        if not is_number(stride):
            raise ValueError(f"strides: expected numbers, got {type(stride).__name__}")
    if len(strides) != levels:
        raise ValueError(f"strides: expected {levels} of them, one a level, got {len(strides)}")
    # A box is pooled from the level of log2(stride / strides[0]), which has to exist.
    grow = all(earlier <= later <= 2 * earlier for earlier, later in pairwise(strides))
    if not (strides[0] > 0 and strides[-1] < math.inf and grow):
        raise ValueError(
            "strides: expected numbers > 0, each one to two times the one before, "
            f"got {list(strides)}"
        )
