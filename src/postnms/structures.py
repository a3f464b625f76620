"""The nouns of the pipeline: flat structures for a whole batch of images, checked when built.

Every structure is a set of columns of equal length plus ``num_images``; the column ``image`` says which image of
the batch a row belongs to, so images with no row at all need no special case. Boxes are xyxy, float32, absolute
pixels; labels are 0..K-1 without a background.

n: candidates, k: clusters, m: ground-truth objects, d: detections, B: images of the batch.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class Level:
    """What a level of a feature pyramid is: (B, channels, H, W), one cell for ``stride`` pixels each way."""

    channels: int
    stride: int


@dataclass(frozen=True)
class Targets:
    """The ground truth of a batch."""

    boxes: Tensor
    """(m, 4) float32, xyxy, pixels."""
    labels: Tensor
    """(m,) int64, 0..K-1."""
    image: Tensor
    """(m,) int64, 0..B-1."""
    crowd: Tensor
    """(m,) bool: the box stands for a group of objects; it is neither trained on nor counted as missed."""
    num_images: int

    def __post_init__(self) -> None:
        _check_columns(self)


@dataclass(frozen=True)
class Candidates:
    """Decoded boxes with ONE class each, as they go into suppression; detached from the graph."""

    boxes: Tensor
    """(n, 4) float32, xyxy, pixels."""
    scores: Tensor
    """(n,) float32, any finite value, usually [0, 1]."""
    labels: Tensor
    """(n,) int64, 0..K-1."""
    image: Tensor
    """(n,) int64, 0..B-1."""
    source: Tensor
    """(n,) int64: row of the proposal or anchor, counted within its image, that the candidate was decoded from."""
    num_images: int
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    """Further columns by name, float32 (n,) or (n, c), for suppressors that need them: predicted IoU, density, ..."""

    def __post_init__(self) -> None:
        _check_columns(self)
        _check_extra(self.extra, self.boxes)
        for name, column in (_columns(self) | dict(self.extra)).items():
            if column.requires_grad:
                raise ValueError(
                    f"Candidates.{name}: expected a constant, got one with a gradient; detach it"
                )

    @property
    def groups(self) -> Tensor:
        """(n,) int64, equal for two candidates exactly if image and label are equal."""
        return self.labels * self.num_images + self.image


@dataclass(frozen=True)
class Clusters:
    """Candidates with the cluster that each belongs to: NMS read as clustering."""

    candidates: Candidates
    keys: Tensor
    """(k,) int64: rows of ``candidates``, by falling score (ties: lower row); what plain NMS keeps."""
    assignment: Tensor
    """(n,) int64, 0..k-1: position in ``keys`` of the key that owns the candidate; a key owns itself."""

    def __post_init__(self) -> None:
        rows = len(self.candidates.scores)
        _check_column("Clusters.keys", self.keys, (len(self.keys),), torch.int64)
        _check_column("Clusters.assignment", self.assignment, (rows,), torch.int64)
        _check_range("Clusters.keys", self.keys, rows)
        _check_range("Clusters.assignment", self.assignment, len(self.keys))
        if not torch.equal(
            self.assignment[self.keys], torch.arange(len(self.keys), device=self.keys.device)
        ):
            raise ValueError("Clusters.assignment: expected that every key owns itself")


@dataclass(frozen=True)
class Detections:
    """What suppression or the stage leaves: by image, and by falling score within an image."""

    boxes: Tensor
    """(d, 4) float32, xyxy, pixels."""
    scores: Tensor
    """(d,) float32."""
    labels: Tensor
    """(d,) int64, 0..K-1."""
    image: Tensor
    """(d,) int64, 0..B-1."""
    source: Tensor
    """(d,) int64: as in :class:`Candidates`."""
    num_images: int

    def __post_init__(self) -> None:
        _check_columns(self)


Structure = TypeVar("Structure", Targets, Candidates, Detections)


def take(structure: Structure, rows: Tensor) -> Structure:
    """The structure with the given rows only: an index (r,) int64 or a mask (n,) bool over its columns."""
    return _map_columns(structure, lambda column: column[rows])


def move(structure: Structure, device: torch.device | str) -> Structure:
    """The structure with its columns on another device."""
    return _map_columns(structure, lambda column: column.to(device, non_blocking=True))


def of_image(structure: Structure, index: int) -> Structure:
    """The rows of one image of the batch, as a batch of that one image."""
    rows = take(structure, structure.image == index)
    return dataclasses.replace(rows, image=torch.zeros_like(rows.image), num_images=1)


def top_per_image(scores: Tensor, image: Tensor, num_images: int, most: int) -> Tensor:
    """Rows of the ``most`` best-scored entries of each image: by image, then by falling score, then by row."""
    order = torch.argsort(scores, descending=True, stable=True)
    order = order[torch.argsort(image[order], stable=True)]
    counts = torch.bincount(image, minlength=num_images)
    starts = counts.cumsum(0) - counts
    rank = torch.arange(len(order), device=order.device) - starts[image[order]]
    return order[rank < most]


def limit(candidates: Candidates, most: int | None) -> Candidates:
    """At most ``most`` candidates of each image, by score; None: all, in the order that they have."""
    if most is None:
        return candidates
    return take(
        candidates, top_per_image(candidates.scores, candidates.image, candidates.num_images, most)
    )


_DTYPES = {
    "boxes": torch.float32,
    "scores": torch.float32,
    "labels": torch.int64,
    "image": torch.int64,
    "source": torch.int64,
    "crowd": torch.bool,
}


def _columns(structure: Targets | Candidates | Detections) -> dict[str, Tensor]:
    named = {field.name: getattr(structure, field.name) for field in dataclasses.fields(structure)}
    return {name: value for name, value in named.items() if name not in ("num_images", "extra")}


def _map_columns(structure, change):
    changed: dict[str, object] = {
        name: change(column) for name, column in _columns(structure).items()
    }
    if isinstance(structure, Candidates):
        changed["extra"] = {name: change(column) for name, column in structure.extra.items()}
    return dataclasses.replace(structure, **changed)


def _check_columns(structure: Targets | Candidates | Detections) -> None:
    kind = type(structure).__name__
    if not isinstance(structure.num_images, int) or structure.num_images < 0:
        raise ValueError(f"{kind}.num_images: expected an int >= 0, got {structure.num_images!r}")
    columns = _columns(structure)
    rows = (
        len(structure.labels)
        if isinstance(structure.labels, Tensor) and structure.labels.ndim
        else 0
    )
    for name, column in columns.items():
        _check_column(
            f"{kind}.{name}", column, (rows, 4) if name == "boxes" else (rows,), _DTYPES[name]
        )
        if column.device != structure.boxes.device:
            raise ValueError(
                f"{kind}.{name}: expected device {structure.boxes.device} as boxes, got {column.device}"
            )
    check_boxes(f"{kind}.boxes", structure.boxes)
    if isinstance(scores := columns.get("scores"), Tensor):
        check_finite(f"{kind}.scores", scores)
    _check_range(f"{kind}.image", structure.image, structure.num_images)
    if rows and bool((structure.labels < 0).any()):
        raise ValueError(f"{kind}.labels: expected values >= 0, got {int(structure.labels.min())}")


def _check_extra(extra: Mapping[str, Tensor], boxes: Tensor) -> None:
    for name, column in extra.items():
        where = f"Candidates.extra[{name!r}]"
        if name in _DTYPES:
            raise ValueError(f"{where}: expected another name than that of a column")
        if (
            not isinstance(column, Tensor)
            or column.dtype != torch.float32
            or column.ndim not in (1, 2)
        ):
            came = (
                (column.dtype, tuple(column.shape))
                if isinstance(column, Tensor)
                else type(column).__name__
            )
            raise ValueError(f"{where}: expected torch.float32 of (n,) or (n, c), got {came}")
        _check_column(where, column, (len(boxes), *column.shape[1:]), torch.float32)
        if column.device != boxes.device:
            raise ValueError(
                f"{where}: expected device {boxes.device} as boxes, got {column.device}"
            )
        check_finite(where, column)


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


def _check_column(name: str, column: object, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    if not isinstance(column, Tensor):
        raise ValueError(f"{name}: expected a tensor, got {type(column).__name__}")
    if tuple(column.shape) != shape or column.dtype != dtype:
        raise ValueError(
            f"{name}: expected {dtype} of shape {shape}, got {column.dtype} of {tuple(column.shape)}"
        )


def _check_range(name: str, index: Tensor, size: int) -> None:
    if len(index) and not bool(((index >= 0) & (index < size)).all()):
        raise ValueError(
            f"{name}: expected values from 0 to {size - 1}, got {int(index.min())} to {int(index.max())}"
        )


def concatenate(parts: Sequence[Detections], num_images: int) -> Detections:
    """Detections one after the other; those of all parts are of one batch of ``num_images``."""
    if not parts:
        nothing = torch.zeros(0, dtype=torch.int64)
        return Detections(torch.zeros(0, 4), torch.zeros(0), nothing, nothing, nothing, num_images)
    names = ("boxes", "scores", "labels", "image", "source")
    columns = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    return Detections(**columns, num_images=num_images)
