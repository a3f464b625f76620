"""Candidates as sequences, one for each image and class, and how networks walk through them.

The rows of all sequences lie one behind the other: by class, then by falling length of the
sequence, then by sequence, and within it by falling score. That no sequence is padded makes layers
that look at one box cheap. Two views serve the others. :class:`Walk` has the steps of a recurrent
layer, and :meth:`Sequences.padded` batches of sequences of similar length.

n: rows of all sequences, g: sequences, K: classes that are there, L: length of the longest sequence
of a batch, G: sequences of a batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Walk:
    """The steps of recurrent layers that go through all sequences at once, in both directions.

    At step t a layer is at row t of each sequence that is longer than t, and in the other direction
    at row t from the end. Sequences of one class share weights, so a step has a line for each class
    and direction, and a column for each sequence of a class. Classes and sequences are ordered by
    falling length, so those that are not yet finished are always the first ones.
    """

    classes: Tensor
    """(K,) int64: label of each class."""
    firsts: Tensor
    """(K, columns) int64: first row of each sequence. 0 where a class has fewer sequences."""
    lasts: Tensor
    """(K, columns) int64: last row of each sequence."""
    steps: tuple[tuple[int, int, Tensor], ...]
    """For each step the numbers of classes and of columns that go on, and (2 * classes * columns,)
    int64, the entries of the layer's input. Entry 2 * i + j is row i in direction j."""
    places: Tensor
    """(n, 2) int64: where the outputs of a row lie, in both directions, if the outputs of all steps
    are put one behind the other."""


@dataclass(frozen=True)
class Sequences:
    """Which rows of the candidates form sequences."""

    rows: Tensor
    """(n,) int64: row of the candidates."""
    labels: NDArray[np.int64]
    """(g,) class of each sequence, rising."""
    starts: NDArray[np.int64]
    """(g,) first row of each sequence."""
    lengths: NDArray[np.int64]
    """(g,) number of rows of each sequence, at least 1, falling within a class."""

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def rank(self) -> Tensor:
        """(n,) int64: number of rows of the same sequence before each row."""
        return torch.from_numpy(np.arange(len(self)) - self.starts.repeat(self.lengths))

    @cached_property
    def segments(self) -> list[tuple[int, int, int]]:
        """Label, first row and end of the rows of each class that is there."""
        labels, first = np.unique(self.labels, return_index=True)
        begins = self.starts[first].tolist()
        return list(zip(labels.tolist(), begins, [*begins[1:], len(self)], strict=True))

    def padded(self, most: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all sequences, long ones first, in batches with at most ``most`` pairs of rows.

        A longer sequence is a batch of its own.

        Yields:
            (G, L) int64 rows. Padding repeats the first row of the sequence.
            (G, L) bool, False where an entry is padding.
        """
        order = np.argsort(-self.lengths, kind="stable")
        done = 0
        while done < len(order):
            longest = int(self.lengths[order[done]])
            batch = order[done : done + max(most // longest**2, 1)]
            done += len(batch)
            steps = np.arange(longest)
            real = steps < self.lengths[batch, None]
            places = self.starts[batch, None] + np.where(real, steps, 0)
            yield torch.from_numpy(places), torch.from_numpy(real)

    @cached_property
    def walk(self) -> Walk:
        """The steps of recurrent layers."""
        labels, begin, count = np.unique(self.labels, return_index=True, return_counts=True)
        # The first sequence of a class is its longest one.
        order = np.argsort(-self.lengths[begin], kind="stable")
        labels, begin, count = labels[order], begin[order], count[order]
        columns = np.arange(int(count.max(initial=0)))
        there = columns < count[:, None]
        number = np.where(there, begin[:, None] + columns, 0)
        lengths = np.where(there, self.lengths[number], 0)
        firsts = np.where(there, self.starts[number], 0)
        lasts = firsts + np.maximum(lengths - 1, 0)
        steps = []
        for step in range(int(lengths.max(initial=0))):
            going = lengths > step
            classes, sequences = int(going.any(axis=1).sum()), int(going.any(axis=0).sum())
            cut = np.s_[:classes, :sequences]
            rows = np.stack([firsts[cut] + step, lasts[cut] - step], axis=1)
            entries = 2 * np.where(going[cut][:, None], rows, 0) + np.array([0, 1])[:, None]
            steps.append((classes, sequences, torch.from_numpy(entries.ravel())))
        places = self._places(order, steps)
        tensors = (torch.from_numpy(grid) for grid in (labels, firsts, lasts))
        return Walk(*tensors, steps=tuple(steps), places=places)

    def _places(self, order: NDArray[np.int64], steps: list[tuple[int, int, Tensor]]) -> Tensor:
        """Return :attr:`Walk.places`. ``order`` has the classes in the order of the lines."""
        line = np.empty(len(order), np.int64)
        line[order] = np.arange(len(order))
        _, begin, of_class = np.unique(self.labels, return_index=True, return_inverse=True)
        column = np.arange(len(self.labels)) - begin[of_class]
        row_line = line[of_class].repeat(self.lengths)
        row_column = column.repeat(self.lengths)
        forward = self.rank.numpy()
        backward = self.lengths.repeat(self.lengths) - 1 - forward
        sizes = np.array([(2 * classes * sequences, sequences) for classes, sequences, _ in steps])
        sizes = sizes.reshape(-1, 2)
        before = np.append(0, sizes[:, 0].cumsum())
        places = [
            before[step] + (2 * row_line + direction) * sizes[step, 1] + row_column
            for direction, step in enumerate((forward, backward))
        ]
        return torch.from_numpy(np.stack(places, axis=1))


def sequences_of(
    scores: Tensor, labels: Tensor, image: Tensor, least: float, most: int | None
) -> Sequences:
    """Return the sequences of candidates (n) by image and class, each by falling score.

    Candidates that score less than ``least`` are left out, and of each sequence all but the
    ``most`` best. Of equal scores, the candidate with the lower row goes first.
    """
    chosen = np.flatnonzero((scores >= least).numpy())
    of_label, of_image = labels.numpy()[chosen], image.numpy()[chosen]
    # The last key counts most. The sort is stable, so ties stay in the order of the rows.
    order = np.lexsort((-scores.numpy()[chosen], of_image, of_label))
    chosen, of_label, of_image = chosen[order], of_label[order], of_image[order]
    new = np.append(True, (np.diff(of_label) != 0) | (np.diff(of_image) != 0))[: len(chosen)]
    starts = np.flatnonzero(new)
    lengths = np.diff(np.append(starts, len(chosen)))
    kept = lengths if most is None else np.minimum(lengths, most)
    by_length = np.lexsort((-kept, of_label[starts]))
    starts, kept = starts[by_length], kept[by_length]
    ends = kept.cumsum()
    within = np.arange(int(kept.sum())) - (ends - kept).repeat(kept)
    rows = chosen[starts.repeat(kept) + within]
    return Sequences(torch.from_numpy(rows), of_label[starts], ends - kept, kept)
