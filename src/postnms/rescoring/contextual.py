"""Contextual rescoring (arXiv 1912.12290): a new score from all detections of the image.

A network reads what remains after suppression, the best detection first: score, class and place of
each. Recurrent layers in both directions and an attention over the image give every detection a new
score. Boxes and classes stay. No picture is looked at, so any detector will do.

d: detections, b: images with a detection, L: detections of the longest of them, K: classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from postnms.orders import sort_by_image
from postnms.rescoring.config import ContextualConfig
from postnms.structures import NMS_ROW, Candidates, Detections, derive, take
from postnms.suppression import get_suppressor


class ContextualNetwork(nn.Module):
    """Candidates in, detections with new scores out.

    Args:
        config: the settings. Without a suppressor, it is greedy NMS at 0.5.
        num_classes: K.
    """

    feature_width = 0

    def __init__(self, config: ContextualConfig, num_classes: int) -> None:
        super().__init__()
        self._suppressor = get_suppressor(config.suppressor or NMS_ROW)
        self._num_classes = num_classes
        self.recurrent = nn.GRU(
            num_classes + 5,
            config.hidden,
            config.layers,
            batch_first=True,
            bidirectional=True,
        )
        self.head = nn.Sequential(
            nn.Linear(4 * config.hidden, config.head), nn.ReLU(), nn.Linear(config.head, 1)
        )

    def forward(self, candidates: Candidates, sizes: Tensor) -> Detections:
        """Return the detections of the suppressor with new scores in [0, 1].

        Args:
            candidates: those of a batch of B images, with the columns that the suppressor needs.
            sizes: (B, 2) float32, height and width of each image in pixels.
        """
        detections = self.suppressed(candidates)
        rescored = derive(detections, scores=self.logits(detections, sizes).sigmoid())
        return take(rescored, sort_by_image(rescored.scores, rescored.image))

    def suppressed(self, candidates: Candidates) -> Detections:
        """Return the detections that get a new score, without extra columns."""
        needed = {name: candidates.extra[name] for name in self._suppressor.columns}
        return derive(self._suppressor(derive(candidates, extra=needed)), extra={})

    def logits(self, detections: Detections, sizes: Tensor) -> Tensor:
        """Return the logits of the new scores: (d,). Images do not influence each other.

        ``detections`` are by image, then by falling score, as a suppressor gives them.
        """
        counts = detections.image.bincount(minlength=detections.num_images)
        counts = counts[counts > 0]
        if not len(counts):
            return torch.zeros(0)
        real = torch.arange(int(counts.max())) < counts[:, None]  # (b, L)
        vectors = describe(detections, sizes, self._num_classes)
        padded = vectors.new_zeros(*real.shape, vectors.shape[1])
        padded[real] = vectors
        packed = pack_padded_sequence(padded, counts, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.recurrent(packed)[0], batch_first=True)
        context = attend(states, real)
        return self.head(torch.cat([states, context], dim=-1)[real]).squeeze(-1)


def describe(detections: Detections, sizes: Tensor, num_classes: int) -> Tensor:
    """Return what the network reads of each detection: (d, 1 + K + 4).

    These are the score, 1 at the place of the class, and x, y, width and height of the box as
    shares of the width and the height of the image.
    """
    size = sizes.flip(1)[detections.image]  # (d, 2): width, height
    corner = detections.boxes[:, :2]
    place = torch.cat([corner / size, (detections.boxes[:, 2:] - corner) / size], dim=1)
    classes = functional.one_hot(detections.labels, num_classes).float()
    return torch.cat([detections.scores[:, None], classes, place], dim=1)


def attend(states: Tensor, real: Tensor) -> Tensor:
    """Return for each detection the mean of the states of its image, weighted by likeness.

    The weights are the softmax of the scalar products of two states over the root of their width.

    Args:
        states: (b, L, c).
        real: (b, L) bool: False where an entry is padding.
    """
    likeness = states @ states.transpose(1, 2) / states.shape[-1] ** 0.5
    likeness = likeness.masked_fill(~real[:, None], -torch.inf)
    return likeness.softmax(dim=-1) @ states
