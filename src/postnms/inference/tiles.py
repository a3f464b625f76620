"""Detection in large images: in overlapping tiles, whose results a suppressor joins.

An object at the border of a tile is cut, and a detector gives a box of what it sees. Three rules
keep such pieces out of the result:

1. A box that reaches an inner border of its tile, and lies in the strip that the tile shares with
   its neighbour, is left to the neighbour if it is nearer to the border of this tile. The neighbour
   sees all of it, and more.
2. The whole image is looked at as well. From there come the objects that no tile is sure to see
   whole: those with a side longer than the overlap.
3. A box that reaches an inner border, and that a box of its class covers which goes on beyond this
   border, is a piece of that object. It is left out if the larger box scores at least half as much.

Two tiles see the objects in their overlap twice. So the boxes that overlap a box of another tile go
through the suppressor. The others have gone through that of the detector, and stay.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from PIL import Image
from torch import Tensor

from postnms.boxes import area, intersection
from postnms.config import Progress, as_python, no_progress
from postnms.data.resizing import InputSize
from postnms.detectors import Detector
from postnms.errors import UserError
from postnms.inference.whole_images import Rows, detect_images
from postnms.orders import top_per_image
from postnms.structures import (
    EXTRA_COLUMNS,
    Candidates,
    Detections,
    concatenate_detections,
    take,
)
from postnms.suppression.protocol import Suppressor
from postnms.suppression.registry import choose

NO_LIMIT = 2**31 - 1
"""The number of detections of a large image is limited only if the user says so."""
NEAR = 0.1
"""A box reaches a border from this share of its side on. Boxes of cut objects end near it."""
NEAREST = 2.0
"""A box reaches a border from this distance on in any case, in pixels."""
COVERED = 0.7
"""Share of the area of a piece that the box of the whole object covers."""
HALF = 0.5
"""Share of the score of a piece that the box of the whole object has at least."""
AT_ONCE = 256
"""Number of boxes that are compared with all others at once, to use little memory."""

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Tiling:
    """How a large image is cut into tiles, and how their results are joined."""

    tile: int
    """Side of the square tiles in pixels of the image. An image that fits is not cut."""
    overlap: float = 0.2
    """Least share of the side that neighbouring tiles have in common, in [0, 1)."""
    suppressor: str | Suppressor = "nms"
    """What joins the results of all tiles: ``NAME`` or ``NAME:FIELD=VALUE`` of the registry, which
    then has no limit of detections unless ``max_detections`` is set. Or a suppressor."""
    joined: Suppressor = field(init=False, repr=False)
    """The suppressor itself."""

    def __post_init__(self) -> None:
        for name in ("tile", "overlap"):
            object.__setattr__(self, name, as_python(getattr(self, name)))
        if type(self.tile) is not int or self.tile < 1:
            came = repr(self.tile)
            raise UserError(f"expected a whole number of pixels, got {came}", argument="tile")
        is_number = isinstance(self.overlap, int | float) and not isinstance(self.overlap, bool)
        if not is_number or not 0 <= self.overlap < 1:
            raise UserError(
                f"expected a share from 0 to below 1, got {self.overlap!r}", argument="overlap"
            )
        object.__setattr__(self, "joined", _suppressor(self.suppressor))

    def tiles(self, width: int, height: int) -> list[Box]:
        """Return the corners x1, y1, x2, y2 of the tiles of an image, row by row.

        The last tiles end at the border of the image, so they overlap their neighbours by more.

        Example:
            >>> from postnms.inference.tiles import Tiling
            >>> Tiling(100, overlap=0.2).tiles(220, 90)
            [(0, 0, 100, 90), (80, 0, 180, 90), (120, 0, 220, 90)]
        """
        columns, rows = self._starts(width), self._starts(height)
        return [
            (x, y, min(x + self.tile, width), min(y + self.tile, height))
            for y in rows
            for x in columns
        ]

    def _starts(self, length: int) -> list[int]:
        if length <= self.tile:
            return [0]
        step = max(1, int(self.tile * (1 - self.overlap)))
        return [*range(0, length - self.tile, step), length - self.tile]


def detect_tiled(
    detector: Detector,
    image: Image.Image,
    size: InputSize | None,
    tiling: Tiling,
    batch_size: int = 8,
    cut: Progress = no_progress,
) -> Rows:
    """Detect objects in the tiles of an image and in the whole of it, and join the results.

    Args:
        detector: in evaluation mode.
        image: RGB image. If it fits into one tile, this is detection in the whole image alone.
        size: how a tile, and the whole image, are resized for the detector. None: not at all.
        tiling: the tiles and the suppressor.
        batch_size: number of tiles in one forward pass.
        cut: called with the number of tiles, the whole image included, of which NMS kept more boxes
            than the detector's limit, once for each forward pass.

    Returns:
        The rows of the detector, in pixels of the image, by falling score.

    Raises:
        UserError: the suppressor needs an extra column that the detector does not give.
    """
    whole = detect_images(detector, [image], size, cut)[0]
    tiles = tiling.tiles(*image.size)
    if len(tiles) == 1:
        return whole
    parts: dict[str, list[Detections]] = {name: [] for name in whole}
    for start in range(0, len(tiles), batch_size):
        some = tiles[start : start + batch_size]
        found = detect_images(detector, [image.crop(tile) for tile in some], size, cut)
        for tile, rows in zip(some, found, strict=True):
            for name, row in rows.items():
                parts[name].append(_moved(row, tile))
    return {name: join(tiles, parts[name], whole[name], tiling) for name in whole}


def join(
    tiles: Sequence[Box], parts: Sequence[Detections], whole: Detections, tiling: Tiling
) -> Detections:
    """Return the detections of all tiles and of the whole image as those of one image.

    ``tiles`` and ``parts`` go together. All boxes are in pixels of the image.
    """
    sides = (whole.boxes[:, 2:] - whole.boxes[:, :2]).amax(dim=1)
    views = [*parts, take(whole, sides > tiling.tile * tiling.overlap)]
    columns, rows = (sorted({(tile[i], tile[i + 2]) for tile in tiles}) for i in (0, 1))
    # Of each box the borders of its tile that lie inside the image. The whole image has none.
    ends = [_inner_borders(tile, columns, rows) for tile in tiles] + [(None,) * 4]
    kept = [
        take(view, ~_left_to_neighbours(view.boxes, borders))
        for view, borders in zip(views, ends, strict=True)
    ]
    every = concatenate_detections(kept, num_images=1)
    piece = torch.cat(
        [_is_piece(view, borders, every) for view, borders in zip(kept, ends, strict=True)]
    )
    view = torch.arange(len(kept)).repeat_interleave(
        torch.tensor([len(part.scores) for part in kept])
    )
    return _suppress(take(every, ~piece), view[~piece], tiling.joined)


def _suppress(every: Detections, view: Tensor, suppressor: Suppressor) -> Detections:
    """Suppress what several tiles see, and return all detections by falling score.

    ``view`` (n,) is the number of the tile that gives each of them. A box that no box of another
    tile overlaps stays as the detector has given it: it has gone through suppression already.
    """
    groups = torch.zeros_like(every.labels) if suppressor.class_agnostic else every.labels
    seen_twice = _seen_twice(every.boxes, groups, view)
    doubled = take(every, seen_twice)
    rows = torch.arange(len(doubled.scores))
    joined = suppressor(
        Candidates(
            doubled.boxes, doubled.scores, doubled.labels, rows * 0, rows, 1, extra=doubled.extra
        )
    )
    joined = replace(joined, source=doubled.source[joined.source])
    alone = take(every, ~seen_twice)
    if suppressor.score_threshold is not None:
        alone = take(alone, alone.scores > suppressor.score_threshold)
    both = concatenate_detections([joined, alone], num_images=1)
    return take(both, top_per_image(both.scores, both.image, 1, suppressor.max_detections))


def _seen_twice(boxes: Tensor, groups: Tensor, view: Tensor) -> Tensor:
    """Return a mask (n,) of the boxes that a box of another view and of the same group overlaps."""
    parts = [torch.zeros(0, dtype=torch.bool)]
    for rows in torch.arange(len(boxes)).split(AT_ONCE):
        shared = intersection(boxes[rows][:, None], boxes[None]) > 0
        shared &= view[rows][:, None] != view[None]
        shared &= groups[rows][:, None] == groups[None]
        parts.append(shared.any(dim=1))
    return torch.cat(parts)


Border = tuple[float, float] | None
"""Where an inner border of a tile lies, and where that of the neighbour behind it lies."""


def _inner_borders(
    tile: Box, columns: Sequence[tuple[int, int]], rows: Sequence[tuple[int, int]]
) -> tuple[Border, ...]:
    """Return the left, top, right and bottom border of a tile, None at the border of the image.

    ``columns`` and ``rows`` are the starts and ends of all tiles along x and along y.
    """
    borders: dict[int, Border] = {}
    for axis, spans in ((0, columns), (1, rows)):
        place = spans.index((tile[axis], tile[axis + 2]))
        before = spans[place - 1] if place else None
        after = spans[place + 1] if place + 1 < len(spans) else None
        borders[axis] = None if before is None else (tile[axis], before[1])
        borders[axis + 2] = None if after is None else (tile[axis + 2], after[0])
    return tuple(borders[i] for i in range(4))


def _left_to_neighbours(boxes: Tensor, borders: Sequence[Border]) -> Tensor:
    """Return a mask of the boxes (n, 4) that a neighbour of their tile sees better (rule 1)."""
    left = torch.zeros(len(boxes), dtype=torch.bool)
    for side, border in enumerate(borders):
        if border is None:
            continue
        own, others = border
        axis = side % 2
        near, far = boxes[:, side], boxes[:, (side + 2) % 4]
        in_strip = far >= others if side >= 2 else far <= others
        centre = (boxes[:, axis] + boxes[:, axis + 2]) / 2
        is_nearer = (centre - own).abs() < (centre - others).abs()
        left |= _reaches(near, far, own) & in_strip & is_nearer
    return left


def _is_piece(view: Detections, borders: Sequence[Border], every: Detections) -> Tensor:
    """Return a mask of the boxes of a tile that are pieces of boxes of other tiles (rule 3)."""
    piece = torch.zeros(len(view.scores), dtype=torch.bool)
    if not any(borders) or not len(view.scores):
        return piece
    covered = intersection(view.boxes[:, None], every.boxes[None])
    covered = covered > COVERED * area(view.boxes)[:, None]
    covered &= view.labels[:, None] == every.labels[None]
    covered &= every.scores[None] >= HALF * view.scores[:, None]
    for side, border in enumerate(borders):
        if border is None:
            continue
        near, far = view.boxes[:, side], view.boxes[:, (side + 2) % 4]
        margin = (NEAR * (near - far).abs()).clamp(min=NEAREST)
        beyond = (every.boxes[:, side] - border[0]) * (1 if side >= 2 else -1)
        goes_on = beyond[None] > margin[:, None]
        piece |= _reaches(near, far, border[0]) & (covered & goes_on).any(dim=1)
    return piece


def _reaches(near: Tensor, far: Tensor, border: float) -> Tensor:
    """Return whether boxes from ``far`` to ``near`` end at a border, up to the error of a box."""
    return (near - border).abs() <= (NEAR * (near - far).abs()).clamp(min=NEAREST)


def _moved(detections: Detections, tile: Box) -> Detections:
    """Return the detections of a tile in the pixels of its image."""
    corner = torch.tensor([tile[0], tile[1]] * 2, dtype=torch.float32)
    extra = dict(detections.extra)
    for name, column in extra.items():
        known = EXTRA_COLUMNS.get(name)
        if known is not None and known.unit == "box":
            extra[name] = column + corner
    return replace(detections, boxes=detections.boxes + corner, extra=extra)


def _suppressor(chosen: str | Suppressor) -> Suppressor:
    if isinstance(chosen, Suppressor):
        return chosen
    choice = choose(chosen)
    if "max_detections" in choice.settings:
        return choice.suppressor
    return choice.with_setting("max_detections", NO_LIMIT).suppressor
