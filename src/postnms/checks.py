"""Checks of tensors; a message names the tensor, what was expected and what came.

Shapes, dtypes and devices are known to the host. To check values, the host has to wait for a GPU.
So values are checked where they come from a user, and not again where the library takes, moves or
computes from what it has checked: see :func:`trusted`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
import torch
from torch import Tensor

from postnms.errors import UserError

DTYPES = {
    "boxes": torch.float32,
    "scores": torch.float32,
    "labels": torch.int64,
    "image": torch.int64,
    "source": torch.int64,
    "crowd": torch.bool,
}
"""The dtype of every column of a structure, by its name."""
CHECKS_OWN_VALUES = False
"""Whether the values that the library itself has computed are checked too. Its tests set this."""
_is_trusted: ContextVar[bool] = ContextVar("_is_trusted", default=False)


@contextmanager
def trusted() -> Iterator[None]:
    """Build structures inside of this from values that the library has computed.

    They are not checked, unless :data:`CHECKS_OWN_VALUES` is set. Code of a user never runs inside.
    """
    if torch.compiler.is_compiling():  # A graph cannot change the context. It checks by operators.
        yield
        return
    token = _is_trusted.set(True)
    try:
        yield
    finally:
        _is_trusted.reset(token)


def values_are_checked() -> bool:
    """Tell whether values have to be checked at this point, with a wait of the host."""
    if torch.compiler.is_compiling():
        return False
    return CHECKS_OWN_VALUES or not _is_trusted.get()


def check_columns(kind: str, columns: Mapping[str, Tensor], num_images: int) -> None:
    """Raise ValueError unless the columns of a structure have their shapes and dtypes.

    ``kind`` is the name of the structure. All have the columns ``boxes``, ``labels``, ``image``.
    """
    boxes, labels = columns["boxes"], columns["labels"]
    if torch.compiler.is_compiling():
        _assert_columns(kind, columns, num_images)
        return
    if not isinstance(num_images, int | np.integer) or num_images < 0:
        raise ValueError(f"{kind}.num_images: expected an int >= 0, got {num_images!r}")
    rows = len(labels) if isinstance(labels, Tensor) and labels.ndim else 0
    for name, column in columns.items():
        shape = (rows, 4) if name == "boxes" else (rows,)
        check_column(f"{kind}.{name}", column, shape, DTYPES[name])
        if column.device != boxes.device:
            raise ValueError(
                f"{kind}.{name}: expected device {boxes.device} as boxes, got {column.device}"
            )


def _assert_columns(kind: str, columns: Mapping[str, Tensor], num_images: int) -> None:
    """Do the work of :func:`check_columns` in a graph, as far as it depends on values."""
    boxes = columns["boxes"]
    for column in columns.values():
        torch._check(column.shape[0] == boxes.shape[0])
    upright = (boxes[:, 2:] >= boxes[:, :2]) & torch.isfinite(boxes).view(-1, 2, 2).all(1)
    assert_all(upright, f"{kind}.boxes: expected finite values, x1 <= x2 and y1 <= y2")
    if "scores" in columns:
        assert_all(torch.isfinite(columns["scores"]), f"{kind}.scores: expected finite values")
    check_range(f"{kind}.image", columns["image"], num_images)
    assert_all(columns["labels"] >= 0, f"{kind}.labels: expected values >= 0")


def assert_all(sound: Tensor, message: str) -> None:
    """Make a graph raise RuntimeError with the message, when it runs, unless all are True.

    In a graph, values are not known. A check in Python would cut it in two.
    """
    torch._assert_async(sound.all(), message)  # pyright: ignore[reportPrivateImportUsage]


def check_extra(kind: str, extra: Mapping[str, Tensor], boxes: Tensor) -> None:
    """Raise ValueError unless the extra columns of a structure go with its boxes (n, 4)."""
    if torch.compiler.is_compiling():
        for name, column in extra.items():
            torch._check(column.shape[0] == boxes.shape[0])
            assert_all(torch.isfinite(column), f"{kind}.extra[{name!r}]: expected finite values")
        return
    for name, column in extra.items():
        where = f"{kind}.extra[{name!r}]"
        if name in DTYPES:
            raise ValueError(f"{where}: expected another name than that of a column")
        is_column = isinstance(column, Tensor) and column.ndim in (1, 2)
        if not is_column or column.dtype != torch.float32:
            is_tensor = isinstance(column, Tensor)
            came = (column.dtype, tuple(column.shape)) if is_tensor else type(column).__name__
            raise ValueError(f"{where}: expected torch.float32 of (n,) or (n, c), got {came}")
        check_column(where, column, (len(boxes), *column.shape[1:]), torch.float32)
        if column.device != boxes.device:
            raise ValueError(
                f"{where}: expected device {boxes.device} as boxes, got {column.device}"
            )


def check_values(
    kind: str, columns: Mapping[str, Tensor], extra: Mapping[str, Tensor], num_images: int
) -> None:
    """Raise ValueError unless the values of a structure are as its columns describe them.

    The columns have passed :func:`check_columns`, and the extra columns :func:`check_extra`. The
    host waits for a GPU once.
    """
    boxes, labels, image = columns["boxes"], columns["labels"], columns["image"]
    finite = [columns[name] for name in ("boxes", "scores") if name in columns]
    sound = [torch.isfinite(column).all() for column in (*finite, *extra.values())]
    sound += [(boxes[:, :2] <= boxes[:, 2:]).all(), (labels >= 0).all()]
    sound += [((image >= 0) & (image < num_images)).all()]
    if bool(torch.stack(sound).all()):
        return
    # A value is wrong. These checks name it.
    check_boxes(f"{kind}.boxes", boxes)
    if "scores" in columns:
        check_finite(f"{kind}.scores", columns["scores"])
    check_range(f"{kind}.image", image, num_images)
    if bool((labels < 0).any()):
        raise ValueError(f"{kind}.labels: expected values >= 0, got {int(labels.min())}")
    for name, column in extra.items():
        check_finite(f"{kind}.extra[{name!r}]", column)


def columns_of_dict(name: str, part: object, labels_from: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return boxes, labels from 0 on, and the crowd column of one of torchvision's dicts.

    Raises ValueError unless it is as :meth:`postnms.Targets.from_dicts` describes it.
    """
    if not isinstance(part, Mapping) or not {"boxes", "labels"} <= part.keys():
        came = list(part) if isinstance(part, Mapping) else type(part).__name__
        raise ValueError(f"{name}: expected a dict with boxes and labels, got {came}")
    boxes, labels = part["boxes"], part["labels"]
    rows = len(labels) if isinstance(labels, Tensor) and labels.ndim else 0
    for key, shape in (("boxes", (rows, 4)), ("labels", (rows,)), ("iscrowd", (rows,))):
        column = part.get(key, labels)
        if not isinstance(column, Tensor) or tuple(column.shape) != shape:
            is_tensor = isinstance(column, Tensor)
            came = tuple(column.shape) if is_tensor else type(column).__name__
            raise ValueError(f"{name}[{key!r}]: expected a tensor {shape}, got {came}")
    if labels.is_floating_point() or labels.is_complex():
        raise ValueError(f"{name}['labels']: expected integers, got {labels.dtype}")
    if rows and int(labels.min()) < labels_from:
        raise ValueError(
            f"{name}['labels']: expected labels from {labels_from} on, got {int(labels.min())}"
        )
    crowd = part["iscrowd"] != 0 if "iscrowd" in part else torch.zeros_like(labels) != 0
    return boxes.float(), labels.long() - labels_from, crowd


def check_boxes(name: str, boxes: Tensor) -> None:
    """Raise ValueError unless all coordinates are finite and x1 <= x2, y1 <= y2."""
    check_finite(name, boxes)
    inverted = (boxes[:, 2:] < boxes[:, :2]).any(dim=1)
    if bool(inverted.any()):
        row = int(inverted.nonzero()[0, 0])
        raise ValueError(
            f"{name}: expected x1 <= x2 and y1 <= y2, got {boxes[row].tolist()} in row {row}"
        )


def check_finite(name: str, values: Tensor) -> None:
    """Raise ValueError if a value is NaN or infinite; the message names its row."""
    finite = torch.isfinite(values)
    if not bool(finite.all()):
        row = int((~finite).nonzero()[0, 0])
        raise ValueError(f"{name}: expected finite values, got {values[row].tolist()} in row {row}")


def check_column(name: str, column: object, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Raise ValueError unless a value is a tensor of this shape and dtype."""
    if not isinstance(column, Tensor):
        raise ValueError(f"{name}: expected a tensor, got {type(column).__name__}")
    if tuple(column.shape) != shape or column.dtype != dtype:
        raise ValueError(
            f"{name}: expected {dtype} of shape {shape}, "
            f"got {column.dtype} of {tuple(column.shape)}"
        )


def check_range(name: str, index: Tensor, size: int) -> None:
    """Raise ValueError unless every index is from 0 to ``size`` - 1."""
    if torch.compiler.is_compiling():
        assert_all(
            (index >= 0) & (index < size), f"{name}: expected values from 0 on, below a limit"
        )
        return
    if len(index) and not bool(((index >= 0) & (index < size)).all()):
        raise ValueError(
            f"{name}: expected values from 0 to {size - 1}, "
            f"got {int(index.min())} to {int(index.max())}"
        )


def check_outputs(
    network: str,
    outputs: Mapping[str, Tensor],
    features: Mapping[str, Tensor],
    pixels: Tensor | None = None,
) -> None:
    """Raise UserError if an output of a network is NaN or infinite: its weights have diverged.

    Training is not always stopped by a loss before that. Without this check such outputs would be
    dropped in silence, or end in an error that does not say where they come from.

    Args:
        network: name of the network, for the message.
        outputs: its outputs by name.
        features: the feature maps that went in, by name. If one of them is not finite, the message
            names the backbone.
        pixels: the images that the feature maps come from. If these are not finite, the message
            names them. None: they are not looked at.
    """
    if torch.compiler.is_compiling():
        for name, values in outputs.items():
            assert_all(torch.isfinite(values), f"{network}: {name}: outputs are NaN or infinite")
        return
    named = {f"{network}: {name}": values for name, values in outputs.items()}
    check_named_outputs(named, features, pixels)


def check_named_outputs(
    outputs: Mapping[str, Tensor], features: Mapping[str, Tensor], pixels: Tensor | None = None
) -> None:
    """Do the work of :func:`check_outputs` for outputs of several networks, by their full names.

    The host waits for a GPU once.
    """
    ends = [end for values in outputs.values() if values.numel() for end in values.aminmax()]
    # The smallest and the largest value are NaN if one of the values is.
    if not ends or bool(torch.isfinite(torch.stack(ends)).all()):
        return
    if pixels is not None and not bool(torch.isfinite(pixels).all()):
        raise UserError("images: expected finite pixels, got NaN or infinity")
    of_backbone = {f"backbone: feature map {name!r}": level for name, level in features.items()}
    for name, values in (of_backbone | dict(outputs)).items():
        if wrong := int((~torch.isfinite(values)).sum()):
            raise UserError(
                f"{name}: {wrong} of {values.numel()} outputs are NaN or infinite: the weights "
                "have diverged; start again from earlier ones, or with a lower training.lr"
            )
