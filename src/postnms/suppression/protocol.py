"""The interface of all suppressors: settings that turn the candidates of a batch into detections.

The base class settles what all suppressors have in common: the score threshold, the groups (image
and class), the limit of detections per image, and ties. A suppressor sees :class:`Ranked`
candidates and returns the ones that it keeps. An overlap suppresses only if it is above a
threshold. An overlap equal to the threshold does not suppress.

n: candidates, d: detections, g: groups, G: groups of one padded batch, L: candidates of the largest
of these G groups.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from postnms.config import Config
from postnms.errors import UserError
from postnms.orders import cut_images, top_per_image
from postnms.structures import (
    Candidates,
    Detections,
    as_detections,
    take,
)
from postnms.suppression.backends import Backend, chosen_backend
from postnms.suppression.graphs import limited_in_graph

MAX_PAIRS = 2**22
"""Memory limit of the ``eager`` backend. Groups are batched so that a batch has at most this many
pairs of boxes. A larger group is processed alone."""


@dataclass(frozen=True)
class Padded:
    """A batch of groups, padded to the length of its longest group."""

    places: Tensor
    """(G, L) int64: positions in the ranking. Padding repeats the first position of the group."""
    real: Tensor
    """(G, L) bool: False where an entry is padding."""

    @property
    def ahead(self) -> Tensor:
        """(G, L, L) bool: True at [:, i, j] where i ranks ahead of j and neither is padding."""
        return (self.real[:, :, None] & self.real[:, None, :]).triu(diagonal=1)


@dataclass(frozen=True)
class Ranked:
    """Candidates in the order of the ranking.

    They are ordered by group, then by falling rank, then by the row that they had in the input. All
    columns are in this order.
    """

    candidates: Candidates
    rank: Tensor
    """(n,) float32: the value by which the candidates are ordered, usually the score."""
    rows: Tensor
    """(n,) int64: row of each candidate in the input of the suppressor."""
    group: Tensor
    """(n,) int64, 0..g-1, rising: number of the group. A group is an image and a class, or an image
    if the suppressor is class-agnostic."""
    starts: Tensor
    """(g + 1,) int64: group i holds the positions starts[i] to starts[i + 1] - 1."""
    backend: Backend

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def boxes(self) -> Tensor:
        """(n, 4) float32, xyxy, pixels: boxes of the candidates."""
        return self.candidates.boxes

    @property
    def scores(self) -> Tensor:
        """(n,) float32: scores of the candidates."""
        return self.candidates.scores

    def padded(self) -> Iterator[Padded]:
        """Yield all groups, long ones first, in batches of at most MAX_PAIRS pairs of boxes."""
        starts = self.starts
        # Groups of similar length share a batch, so that little of it is padding.
        lengths, order = starts.diff().sort(descending=True, stable=True)
        firsts = starts[:-1][order]
        sizes = lengths.tolist()
        done = 0
        while done < len(sizes):
            longest = sizes[done]
            batch = slice(done, done + max(MAX_PAIRS // longest**2, 1))
            done += len(sizes[batch])
            steps = torch.arange(longest, device=starts.device)
            real = steps < lengths[batch, None]
            yield Padded(firsts[batch, None] + torch.where(real, steps, 0), real)


@dataclass(frozen=True)
class Kept:
    """The result of a suppressor before the limit of detections, in any order."""

    places: Tensor
    """(d,) int64: positions in the ranking that give each detection its label, image and source."""
    boxes: Tensor
    """(d, 4) float32, xyxy, pixels."""
    scores: Tensor
    """(d,) float32."""


class Suppressor(Config, ABC):
    """Base class of all suppressors: settings, and a call that turns candidates into detections.

    The result is deterministic. A tie goes to the candidate with the lower row, here and within
    each suppressor. A subclass implements :meth:`suppress`. It may also override :meth:`rank_by`
    and :meth:`idle_fields`, and set the class variables ``columns`` and ``needs_probabilities``.
    """

    score_threshold: float | None = None
    """Only candidates with a score above this take part. None: all candidates take part."""
    class_agnostic: bool = False
    """Boxes of different classes suppress each other too. Each kept box keeps its label."""
    max_detections: Annotated[int, Field(gt=0, lt=2**31)] = 100
    """Largest number of detections per image. The detections with the best scores stay."""

    columns: ClassVar[dict[str, int]] = {}
    """Extra columns that the candidates must have: the name, and the numbers for each candidate."""
    needs_probabilities: ClassVar[bool] = False
    """Whether all scores must be in [0, 1]."""

    def __call__(self, candidates: Candidates, *, backend: Backend | None = None) -> Detections:
        """Return the detections of a batch. Groups do not influence each other.

        Args:
            candidates: Candidates of all images, in any order.
            backend: Implementation to use. None: ``cpu`` for CPU tensors, ``triton`` for CUDA
                tensors where Triton works, and ``eager`` otherwise. No backend has run on a GPU so
                far.

        Returns:
            At most ``max_detections`` detections per image, by image, then by falling score, then
            by the row of the kept candidate. The label, image and source are those of the kept
            candidate.

        Raises:
            UserError: A required extra column is missing.
            ValueError: An extra column has a wrong shape, scores are outside [0, 1] although the
                suppressor needs probabilities, or the backend is unknown or does not fit the
                device.
        """
        return self.limited(candidates, backend=backend)[0]

    def limited(
        self, candidates: Candidates, *, backend: Backend | None = None
    ) -> tuple[Detections, Tensor]:
        """Return the detections as a call does, and the images whose detections were cut.

        The second result is (B,) bool: more than ``max_detections`` boxes of the image were left.
        """
        if torch.compiler.is_compiling():
            return limited_in_graph(self, candidates, backend)
        self._check(candidates)
        if self.score_threshold is not None:
            over = candidates.scores > self.score_threshold
            candidates = take(candidates, over.nonzero().squeeze(1))
        groups = candidates.image if self.class_agnostic else candidates.groups
        ranked = rank(
            candidates,
            self.rank_by(candidates),
            groups,
            chosen_backend(backend, candidates.boxes.device),
        )
        kept = self.suppress(ranked)
        image = ranked.candidates.image[kept.places]
        cut = cut_images(image, candidates.num_images, self.max_detections)
        return _best_of_images(ranked, kept, self.max_detections), cut

    @abstractmethod
    def suppress(self, ranked: Ranked) -> Kept:
        """Return the boxes and scores that are kept, before the limit of detections."""

    def rank_by(self, candidates: Candidates) -> Tensor:
        """Return the value (n,) float32 that orders the candidates. By default it is the score."""
        return candidates.scores

    def idle_fields(self) -> dict[str, str]:
        """Return the fields that the other settings leave without effect, each with the reason.

        The reason completes the sentence "the field has no effect", as in "with method='linear'".
        A setting of such a field to anything but its default is an error.
        """
        return {}

    @model_validator(mode="after")
    def _refuse_idle_fields(self) -> Self:
        for field, reason in self.idle_fields().items():
            value = getattr(self, field)
            if value != type(self).model_fields[field].default:
                raise ValueError(f"{field} has no effect {reason}, got {value!r}")
        return self

    def check_columns(self, present: Collection[str]) -> None:
        """Raise UserError if a required extra column is not among the names in ``present``."""
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
            least = scores.min().item()
            most = scores.max().item()
            raise ValueError(
                f"Candidates.scores: expected values in [0, 1] for {name}, "
                f"got {least:g} to {most:g}"
            )


def rank(candidates: Candidates, by: Tensor, groups: Tensor, backend: Backend) -> Ranked:
    """Return the candidates in the order of the ranking, see :class:`Ranked`.

    Args:
        candidates: Candidates in the order of the input.
        by: (n,) float32, the value that orders the candidates of a group. The largest goes first.
        groups: (n,) int64, equal for candidates of the same group. Any numbers are allowed.
        backend: Implementation that the suppressor will use.
    """
    # Stable sorts leave ties in the order of the input, so the lower row goes first.
    rows = torch.argsort(by, descending=True, stable=True)
    rows = rows[torch.argsort(groups[rows], stable=True)]
    _, group, counts = torch.unique_consecutive(
        groups[rows], return_inverse=True, return_counts=True
    )
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return Ranked(take(candidates, rows), by[rows], rows, group, starts, backend)


def kept_as_they_are(ranked: Ranked, places: Tensor) -> Kept:
    """Return the candidates at some positions with their boxes and scores unchanged.

    ``places`` is an index (d,) int64 of positions in the ranking, or a mask (n,) bool.
    """
    places = places.nonzero().squeeze(1) if places.dtype == torch.bool else places
    return Kept(places, ranked.boxes[places], ranked.scores[places])


def kept_where(kept: Tensor, boxes: Tensor, scores: Tensor) -> Kept:
    """Return the candidates that ``kept`` (n,) bool marks, with new boxes and scores.

    ``boxes`` (n, 4) and ``scores`` (n,) are those of all candidates.
    """
    # On a GPU, the host waits for each index by a mask, but not for one by numbers.
    places = kept.nonzero().squeeze(1)
    return Kept(places, boxes[places], scores[places])


def _best_of_images(ranked: Ranked, kept: Kept, max_detections: int) -> Detections:
    # `top_per_image` keeps ties in the order that it gets, so this sort decides them by row.
    by_row = torch.argsort(ranked.rows[kept.places], stable=True)
    places = kept.places[by_row]
    boxes = kept.boxes[by_row]
    scores = kept.scores[by_row]
    candidates = ranked.candidates
    image = candidates.image[places]
    best = top_per_image(scores, image, candidates.num_images, max_detections)
    places = places[best]
    # Image, label, source and the extra columns are those of the candidate that was kept.
    chosen = as_detections(take(candidates, places))
    return dataclasses.replace(chosen, boxes=boxes[best], scores=scores[best])
