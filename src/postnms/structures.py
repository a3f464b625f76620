"""The nouns of the pipeline: flat structures for a whole batch of images, checked when built.

Shapes and dtypes are checked always, and values where a user builds a structure. What the library
takes, moves or computes from such a structure is not checked again (``postnms.checks.trusted``).

Every structure is a set of columns of equal length plus ``num_images``. The column ``image`` says
which image of the batch a row belongs to, so an image without any row needs no special case.
Boxes are xyxy, float32, in absolute pixels. Labels are 0..K-1 without a background class.

n: candidates, k: clusters, m: ground-truth objects, d: detections, B: images of the batch.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from postnms.checks import (
    check_column,
    check_columns,
    check_extra,
    check_range,
    check_values,
    columns_of_dict,
    trusted,
    values_are_checked,
)
from postnms.devices import number_of_each, repeated
from postnms.orders import top_per_image

NMS_ROW = "nms"
"""Name of the result of plain NMS among the results of a detector."""
POST_NMS_ROW = "post_nms"
"""Name of the result of the stage."""
SECOND_NMS_ROW = "post_nms_second_nms"
"""Name of the result of the stage after a second NMS."""


def suppressed_row(suppressor: str) -> str:
    """Return the name of the result of a suppressor on the boxes that the stage has moved.

    ``suppressor`` is its name, without settings.

    Example:
        >>> from postnms.structures import suppressed_row
        >>> suppressed_row("soft_nms_linear")
        'post_nms+soft_nms_linear'
    """
    return f"{POST_NMS_ROW}+{suppressor}"


@dataclass(frozen=True)
class Level:
    """One level of a feature pyramid: a tensor (B, channels, H, W)."""

    channels: int
    stride: int
    """Pixels between neighbouring cells, along either axis."""


@dataclass(frozen=True)
class ExtraColumn:
    """What is known of an extra column of candidates."""

    width: int
    """Numbers for each candidate. 1: the column is (n,), otherwise (n, width)."""
    unit: Literal["none", "box", "edge_log_variance"] = "none"
    """How the numbers change when the image is scaled.

    ``none``: they stay. ``box``: they are coordinates x1, y1, x2, y2 in pixels.
    ``edge_log_variance``: they are logarithms of the variances, in square pixels, of the left,
    top, right and bottom edge.
    """


REFINED = "refined_boxes"
"""Extra column of detectors with a stage: where the stage would move each candidate."""
OBJECTNESS = "stage_objectness"
"""Extra column of detectors with a stage: the stage's objectness of each candidate, in [0, 1]."""
CLUSTER_OBJECTNESS = "cluster_objectness"
"""Extra column of detectors with a stage: the stage's objectness of the box that represents the
cluster of a key, in [0, 1]. A candidate that is no key has its own objectness here."""

EDGE_LOG_VARIANCE = "edge_log_variance"
"""Extra column of box heads that are trained with the KL loss: how unsure each edge is."""
BOX_FEATURES = "box_features"
"""Extra column that two-stage detectors give on request (``Selection.features``): the output of the
last hidden layer of the box head for the proposal that the candidate comes from, (n, width).

Its width is a setting of the detector, so :data:`EXTRA_COLUMNS` does not list it."""

EXTRA_COLUMNS: dict[str, ExtraColumn] = {
    "iou": ExtraColumn(1),  # predicted IoU with the object (IoU-Net)
    "density": ExtraColumn(1),  # predicted IoU of the object with another one (Adaptive-NMS)
    EDGE_LOG_VARIANCE: ExtraColumn(4, "edge_log_variance"),  # variance voting (Softer-NMS)
    "model": ExtraColumn(1),  # number of the model that gave the candidate (WBF)
    REFINED: ExtraColumn(4, "box"),
    OBJECTNESS: ExtraColumn(1),
    CLUSTER_OBJECTNESS: ExtraColumn(1),
}
"""The extra columns that this library knows, by name.

Heads of networks give them, files of candidates keep them, imports read them, and suppressors ask
for them. A column of any other name is carried along unchanged, also when boxes are rescaled.
"""


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
    """(m,) bool. True: the box covers a group of objects. Such a box is not trained on, and it is
    not counted as missed."""
    num_images: int

    def __post_init__(self) -> None:
        _check_columns(self)

    @classmethod
    def from_dicts(
        cls, dicts: Sequence[Mapping[str, Tensor]], *, labels_from: int, name: str = "dicts"
    ) -> "Targets":
        """Make one structure of the dicts that torchvision's detectors take.

        The class of an object is its label minus ``labels_from``.

        Args:
            dicts: for each image ``boxes`` (m, 4), xyxy, and ``labels`` (m,), any integers. An
                entry ``iscrowd`` (m,) is not 0 for crowd regions. Other entries are not used.
            labels_from: the label of class 0. It is 1 where label 0 is the background, as in Faster
                R-CNN and SSD of torchvision, and 0 for its RetinaNet and FCOS.
            name: how the user calls the dicts, for messages.

        Raises:
            ValueError: an entry is missing or has another form, or a label is too low.

        Example:
            >>> import torch
            >>> from postnms import Targets
            >>> image = {"boxes": torch.tensor([[0.0, 0, 9, 9]]), "labels": torch.tensor([3])}
            >>> Targets.from_dicts([image], labels_from=1).labels
            tensor([2])
        """
        if not len(dicts):
            raise ValueError(f"{name}: expected one for each image, got none")
        parts = [columns_of_dict(f"{name}[{i}]", part, labels_from) for i, part in enumerate(dicts)]
        boxes, labels, crowd = (torch.cat(column) for column in zip(*parts, strict=True))
        image = repeated([len(part[1]) for part in parts], labels.device)
        return cls(boxes, labels, image, crowd, num_images=len(parts))

    def pin_memory(self) -> "Targets":
        """Return the targets in page-locked memory, from where copies to a GPU need no wait."""
        return _map_columns(self, Tensor.pin_memory)


@dataclass(frozen=True)
class Candidates:
    """Decoded boxes with ONE class each, as they go into suppression. All tensors are detached.

    Example:
        >>> import torch
        >>> from postnms import Candidates
        >>> zeros = torch.zeros(2, dtype=torch.int64)
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10]])
        >>> scores = torch.tensor([0.9, 0.8])
        >>> candidates = Candidates(
        ...     boxes, scores, labels=zeros, image=zeros, source=torch.arange(2), num_images=1
        ... )
        >>> candidates.groups.tolist()
        [0, 0]
    """

    boxes: Tensor
    """(n, 4) float32, xyxy, pixels."""
    scores: Tensor
    """(n,) float32, any finite value, usually in [0, 1]."""
    labels: Tensor
    """(n,) int64, 0..K-1."""
    image: Tensor
    """(n,) int64, 0..B-1."""
    source: Tensor
    """(n,) int64: the proposal or anchor that the candidate was decoded from, as its row among
    those of the same image."""
    num_images: int
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    """Further columns by name, float32, (n,) or (n, c), for suppressors that need them.

    :data:`EXTRA_COLUMNS` lists the known ones."""

    def __post_init__(self) -> None:
        _check_columns(self)
        for name, column in (_columns(self) | dict(self.extra)).items():
            if column.requires_grad:
                raise ValueError(
                    f"Candidates.{name}: expected a constant, got one with a gradient; detach it"
                )

    @property
    def groups(self) -> Tensor:
        """(n,) int64: equal for two candidates if and only if image and label are equal."""
        return self.labels * self.num_images + self.image


@dataclass(frozen=True)
class Clusters:
    """Candidates, and the cluster that each of them belongs to: NMS read as clustering."""

    candidates: Candidates
    keys: Tensor
    """(k,) int64: rows of ``candidates`` by falling score (ties: lower row). NMS keeps these."""
    assignment: Tensor
    """(n,) int64, 0..k-1: position in ``keys`` of the key that owns the candidate. A key owns
    itself."""

    def __post_init__(self) -> None:
        rows = len(self.candidates.scores)
        if torch.compiler.is_compiling():  # The operator of cluster_nms gives what is checked here.
            return
        check_column("Clusters.keys", self.keys, (len(self.keys),), torch.int64)
        check_column("Clusters.assignment", self.assignment, (rows,), torch.int64)
        if not values_are_checked():
            return
        check_range("Clusters.keys", self.keys, rows)
        check_range("Clusters.assignment", self.assignment, len(self.keys))
        positions = torch.arange(len(self.keys), device=self.keys.device)
        if not torch.equal(self.assignment[self.keys], positions):
            raise ValueError("Clusters.assignment: expected that every key owns itself")

    @cached_property
    def keys_of_images(self) -> tuple[int, ...]:
        """Number of keys of each image, on the host, which waits for a GPU the first time."""
        image = self.candidates.image[self.keys]
        return tuple(number_of_each(image, self.candidates.num_images).tolist())


@dataclass(frozen=True)
class Detections:
    """The result of suppression or of the stage: by image, then by falling score."""

    boxes: Tensor
    """(d, 4) float32, xyxy, pixels."""
    scores: Tensor
    """(d,) float32."""
    labels: Tensor
    """(d,) int64, 0..K-1."""
    image: Tensor
    """(d,) int64, 0..B-1."""
    source: Tensor
    """(d,) int64, as in :class:`Candidates`."""
    num_images: int
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    """The extra columns of the candidates that the detections come from."""

    def __post_init__(self) -> None:
        if not torch.compiler.is_compiling():  # In a graph, the operators that give them check.
            _check_columns(self)


Structure = TypeVar("Structure", Targets, Candidates, Detections)
Scored = TypeVar("Scored", Candidates, Detections)


def derive(structure: Structure, **changes: Any) -> Structure:
    """Return the structure with other columns, which the library has computed from sound ones.

    Their values are not checked.
    """
    with trusted():
        return dataclasses.replace(structure, **changes)


def take(structure: Structure, rows: Tensor | slice) -> Structure:
    """Return the structure with some of its rows.

    ``rows`` is an index (r,) int64, a mask (n,) bool over the columns, or a slice of them.
    """
    return _map_columns(structure, lambda column: column[rows])


def move(structure: Structure, device: torch.device | str) -> Structure:
    """Return the structure with its columns on another device."""
    # A copy to the CPU has to be waited for: its reader would see memory that is not yet written.
    non_blocking = torch.device(device).type != "cpu"
    return _map_columns(structure, lambda column: column.to(device, non_blocking=non_blocking))


def of_image(structure: Structure, index: int) -> Structure:
    """Return the rows of one image, as a batch of that one image."""
    rows = take(structure, structure.image == index)
    return derive(rows, image=torch.zeros_like(rows.image), num_images=1)


def join_images(parts: Sequence[Candidates]) -> Candidates:
    """Return the candidates of one image each as those of a batch, in the order of the parts."""
    counts = torch.tensor([len(part.scores) for part in parts], device="cpu")
    image = torch.arange(len(parts), device="cpu").repeat_interleave(counts)
    columns = {
        name: torch.cat([getattr(part, name) for part in parts]) for name in _columns(parts[0])
    }
    columns["image"] = image.to(columns["boxes"].device)
    extra = {name: torch.cat([part.extra[name] for part in parts]) for name in parts[0].extra}
    return derive(parts[0], **columns, num_images=len(parts), extra=extra)


def rescale(structure: Scored, factors: Tensor, *, undo: bool = False) -> Scored:
    """Return the structure in the pixels of scaled images, extra columns included.

    ``factors`` (B, 2): what x and y of each image are multiplied by. ``undo`` divides by them
    instead, so that the original factors lead back without a rounding error of their inverse.
    """
    factor = factors[structure.image]  # (n, 2)
    four = factor.repeat(1, 2)  # x, y, x, y, as the columns of a box are
    extra = {}
    for name, column in structure.extra.items():
        known = EXTRA_COLUMNS.get(name)
        if known is not None and known.unit == "box":
            column = column / four if undo else column * four
        elif known is not None and known.unit == "edge_log_variance":
            # A standard deviation scales as a length does, so a variance by the squared factor.
            shift = 2 * torch.log(four)
            column = column - shift if undo else column + shift
        extra[name] = column
    boxes = structure.boxes / four if undo else structure.boxes * four
    return derive(structure, boxes=boxes, extra=extra)


def limit(candidates: Candidates, most: int | None) -> Candidates:
    """Return at most ``most`` candidates of each image, chosen and ordered by score.

    None: all candidates in their present order.
    """
    if most is None:
        return candidates
    rows = top_per_image(candidates.scores, candidates.image, candidates.num_images, most)
    return take(candidates, rows)


def as_detections(candidates: Candidates) -> Detections:
    """Return the candidates as detections, with all of their columns and in their order."""
    with trusted():
        return Detections(
            **_columns(candidates), num_images=candidates.num_images, extra=candidates.extra
        )


def concatenate_detections(parts: Sequence[Detections], num_images: int) -> Detections:
    """Return the detections of all parts, one part after another.

    The parts belong to one batch of ``num_images``: their ``image`` columns count through it.
    Raises ValueError unless all parts have the same extra columns.
    """
    if not parts:
        nothing = torch.zeros(0, dtype=torch.int64, device="cpu")
        scores = nothing.float()
        boxes = scores.view(0, 4)
        return Detections(boxes, scores, nothing, nothing, nothing, num_images=num_images)
    names = [set(part.extra) for part in parts]
    if any(other != names[0] for other in names):
        raise ValueError(
            f"parts: expected the extra columns {sorted(names[0])} in all, "
            f"got {[sorted(other) for other in names]}"
        )
    columns = {
        name: torch.cat([getattr(part, name) for part in parts]) for name in _columns(parts[0])
    }
    extra = {name: torch.cat([part.extra[name] for part in parts]) for name in parts[0].extra}
    return Detections(**columns, num_images=num_images, extra=extra)


def _columns(structure: Targets | Candidates | Detections) -> dict[str, Tensor]:
    named = {field.name: getattr(structure, field.name) for field in dataclasses.fields(structure)}
    return {name: value for name, value in named.items() if name not in ("num_images", "extra")}


def _map_columns(structure: Structure, change: Callable[[Tensor], Tensor]) -> Structure:
    changed: dict[str, Any] = {name: change(column) for name, column in _columns(structure).items()}
    if isinstance(structure, Candidates | Detections):
        changed["extra"] = {name: change(column) for name, column in structure.extra.items()}
    return derive(structure, **changed)


def _check_columns(structure: Targets | Candidates | Detections) -> None:
    kind = type(structure).__name__
    columns = _columns(structure)
    check_columns(kind, columns, structure.num_images)
    extra = structure.extra if isinstance(structure, Candidates | Detections) else {}
    check_extra(kind, extra, structure.boxes)
    if values_are_checked():
        check_values(kind, columns, extra, structure.num_images)
