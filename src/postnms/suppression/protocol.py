"""What every suppressor is: a frozen config that turns the candidates of a batch into detections.

A suppressor sees :class:`Ranked` candidates and says what it keeps; thresholds on the score, grouping by image and
class, the limit of detections and all ties are settled here, once for all of them. Two boxes suppress each other if
their overlap is OVER a threshold, never at it.

n: candidates, d: detections, g: groups, L: candidates of the largest of G groups.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from postnms.config import Config
from postnms.errors import UserError
from postnms.structures import Candidates, Detections, take, top_per_image

Backend = Literal["cpu", "eager"]
"""Kernels that numba compiles, for CPU tensors, or torch operations, for any device."""

MAX_PAIRS = 2**22
"""Pairs of boxes that the torch path looks at together, unless a single group has more."""


@dataclass(frozen=True)
class Padded:
    """Some groups side by side, filled up to the length of the longest."""

    places: Tensor
    """(G, L) int64: places in the ranking; fillings repeat the first of the group."""
    real: Tensor
    """(G, L) bool: no filling."""

    @property
    def ahead(self) -> Tensor:
        """(G, L, L) bool: both are real, and the first is ranked ahead of the second."""
        return (self.real[:, :, None] & self.real[:, None, :]).triu(diagonal=1)


@dataclass(frozen=True)
class Ranked:
    """Candidates by group (image and class, or image), then by falling rank, then by the row that they had."""

    candidates: Candidates
    rank: Tensor
    """(n,) float32: what they are ranked by, usually the score."""
    rows: Tensor
    """(n,) int64: the row of each in the candidates as given."""
    group: Tensor
    """(n,) int64, 0..g-1, rising."""
    backend: Backend

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def boxes(self) -> Tensor:
        """(n, 4)."""
        return self.candidates.boxes

    @property
    def scores(self) -> Tensor:
        """(n,)."""
        return self.candidates.scores

    @property
    def starts(self) -> Tensor:
        """(g + 1,) int64: group i has the places starts[i] to starts[i + 1] - 1."""
        counts = torch.bincount(self.group)
        return torch.cat([counts.new_zeros(1), counts.cumsum(0)])

    def padded(self) -> Iterator[Padded]:
        """All groups, long ones first, in batches of at most MAX_PAIRS pairs."""
        starts = self.starts
        lengths, order = starts.diff().sort(descending=True, stable=True)
        firsts, sizes, done = starts[:-1][order], lengths.tolist(), 0
        while done < len(sizes):
            longest = sizes[done]
            some = slice(done, done + max(MAX_PAIRS // longest**2, 1))
            done += len(sizes[some])
            steps = torch.arange(longest, device=starts.device)
            real = steps < lengths[some, None]
            yield Padded(firsts[some, None] + torch.where(real, steps, 0), real)


@dataclass(frozen=True)
class Kept:
    """What a suppressor keeps, in any order."""

    places: Tensor
    """(d,) int64: places in the ranking that label, image and source come from."""
    boxes: Tensor
    """(d, 4) float32."""
    scores: Tensor
    """(d,) float32."""


class Suppressor(Config, ABC):
    """The protocol. Deterministic: ties go to the candidate with the lower row, here and within each suppressor."""

    score_threshold: float | None = None
    """Only candidates that score more take part; None: all."""
    class_agnostic: bool = False
    """Boxes of one image meet whatever their classes; each keeps its own label."""
    max_detections: Annotated[int, Field(gt=0, lt=2**31)] = 100
    """Most detections of an image."""

    columns: ClassVar[dict[str, int]] = {}
    """Names of the extra columns that are needed, and how many numbers each has."""
    needs_probabilities: ClassVar[bool] = False
    """Scores must be in [0, 1]."""

    def __call__(self, candidates: Candidates, *, backend: Backend | None = None) -> Detections:
        """Detections of the whole batch, exact for each image (and class), with the ``source`` of what was kept.

        ``backend``: None: ``cpu`` for CPU tensors, else ``eager``. Raises UserError if an extra column is missing,
        ValueError for one of a wrong shape and for scores outside [0, 1] where a definition needs probabilities.
        """
        self._check(candidates)
        if self.score_threshold is not None:
            candidates = take(candidates, candidates.scores > self.score_threshold)
        groups = candidates.image if self.class_agnostic else candidates.groups
        device = candidates.boxes.device.type
        if backend not in (None, "cpu", "eager"):
            raise ValueError(f"backend: expected 'cpu', 'eager' or None, got {backend!r}")
        if backend == "cpu" and device != "cpu":
            raise ValueError(f"backend: 'cpu' needs CPU tensors, got candidates on {device}")
        ranked = rank(
            candidates,
            self.rank_by(candidates),
            groups,
            backend or ("cpu" if device == "cpu" else "eager"),
        )
        return _best_of_images(ranked, self.suppress(ranked), self.max_detections)

    @abstractmethod
    def suppress(self, ranked: Ranked) -> Kept:
        """What is kept, before the limit of detections."""

    def rank_by(self, candidates: Candidates) -> Tensor:
        """(n,) float32: who goes first; the score unless a suppressor says otherwise."""
        return candidates.scores

    def check_columns(self, present: Collection[str]) -> None:
        """Raise UserError if an extra column that is needed is not among those present."""
        for column in self.columns:
            if column not in present:
                named = ", ".join(sorted(present)) or "none"
                name = type(self).__name__
                raise UserError(
                    f"{name}: needs the extra column {column!r}, the candidates have: {named}"
                )

    def _check(self, candidates: Candidates) -> None:
        name = type(self).__name__
        self.check_columns(candidates.extra)
        for column, width in self.columns.items():
            shape = (len(candidates.scores),) if width == 1 else (len(candidates.scores), width)
            if tuple(candidates.extra[column].shape) != shape:
                came = tuple(candidates.extra[column].shape)
                raise ValueError(
                    f"Candidates.extra[{column!r}]: expected shape {shape} for {name}, got {came}"
                )
        scores = candidates.scores
        if (
            self.needs_probabilities
            and len(scores)
            and not bool(((scores >= 0) & (scores <= 1)).all())
        ):
            least, most = scores.min().item(), scores.max().item()
            raise ValueError(
                f"Candidates.scores: expected values in [0, 1] for {name}, got {least:g} to {most:g}"
            )


def rank(candidates: Candidates, by: Tensor, groups: Tensor, backend: Backend) -> Ranked:
    """Put candidates in the order of :class:`Ranked`."""
    rows = torch.argsort(by, descending=True, stable=True)
    rows = rows[torch.argsort(groups[rows], stable=True)]
    _, group = torch.unique_consecutive(groups[rows], return_inverse=True)
    return Ranked(take(candidates, rows), by[rows], rows, group, backend)


def kept_as_they_are(ranked: Ranked, places: Tensor) -> Kept:
    """The candidates at these places (an index or a mask) with their own boxes and scores."""
    places = places.nonzero().squeeze(1) if places.dtype == torch.bool else places
    return Kept(places, ranked.boxes[places], ranked.scores[places])


def _best_of_images(ranked: Ranked, kept: Kept, most: int) -> Detections:
    by_row = torch.argsort(ranked.rows[kept.places], stable=True)
    places, boxes, scores = kept.places[by_row], kept.boxes[by_row], kept.scores[by_row]
    found = ranked.candidates
    best = top_per_image(scores, found.image[places], found.num_images, most)
    places = places[best]
    return Detections(
        boxes[best],
        scores[best],
        found.labels[places],
        found.image[places],
        found.source[places],
        found.num_images,
    )
