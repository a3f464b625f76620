"""Sequential Context Encoding (NeurIPS 2018): two recurrent stages in place of NMS.

A stage reads the boxes of an image and class by falling score. An encoder and a decoder in both
directions, an attention over the sequence and a gate give every box a factor in [0, 1]. The first
stage learns what greedy NMS keeps, the second one, on the boxes that are left, which box is the
best one of an object. The final score is the product of the detector's score and of both factors.
The second stage takes the product of the first one for its score, also to sort by.

n: candidates, or rows of all sequences of them, F: features of a box.
"""

import torch
from torch import Tensor, nn

from postnms.orders import top_per_image
from postnms.rescoring.attention import AdditiveAttention, ContextGate
from postnms.rescoring.config import SCEConfig
from postnms.rescoring.recurrent import ClassGRU
from postnms.rescoring.sequences import Sequences, sequences_of
from postnms.rescoring.waves import waves
from postnms.structures import BOX_FEATURES, Candidates, Detections, as_detections, derive, take

REPEATS = 8
"""How often each edge of a box is repeated in the description of the box."""
PLACES = 32
"""Numbers that tell the score of a box, and as many that tell its rank."""
DESCRIPTION = 2 * PLACES + 4 * REPEATS
"""Numbers that describe a box beside its features."""
LEAST_EDGE = 0.01
"""Least value of an edge, as a share of the image plus 0.5, of which the logarithm is taken. A box
may lie outside of its image."""


class Stage(nn.Module):
    """Boxes in the order of their scores in, a logit for each of them out."""

    def __init__(self, config: SCEConfig, num_classes: int, features: int) -> None:
        super().__init__()
        width, states = config.width, 2 * config.hidden
        self.features = nn.Linear(features, width)
        self.describe = nn.Linear(width + DESCRIPTION, width)
        self.encoder = ClassGRU(num_classes, width, config.hidden)
        self.decoder = ClassGRU(num_classes, width, config.hidden)
        self.attention = AdditiveAttention(states, config.attention)
        self.gate = ContextGate(width, states)
        self.keep = nn.Linear(states, 1)

    def forward(self, features: Tensor, description: Tensor, sequences: Sequences) -> Tensor:
        """Return (n,) logits.

        Args:
            features: (n, F) in the order of the sequences.
            description: (n, 96), see :func:`describe`.
            sequences: n rows.
        """
        if not len(sequences):
            return features.new_zeros(0)
        of_box = self.features(features).relu()
        of_box = self.describe(torch.cat([of_box, description], dim=1)).relu()
        encoded = self.encoder(of_box, sequences)
        decoded = self.decoder(of_box, sequences, encoded)
        context = self.attention(decoded, encoded, sequences)
        return self.keep(self.gate(of_box, decoded, context)).squeeze(1)


class SCENetwork(nn.Module):
    """Candidates in, detections with new scores out.

    Args:
        config: the settings.
        num_classes: number of classes.
        feature_width: F.
    """

    def __init__(self, config: SCEConfig, num_classes: int, feature_width: int) -> None:
        super().__init__()
        self._config = config
        self.feature_width = feature_width
        self.stages = nn.ModuleList(
            Stage(config, num_classes, feature_width) for _ in config.positive_weights
        )

    def forward(self, candidates: Candidates, sizes: Tensor) -> Detections:
        """Return the boxes that both stages have looked at, with their final scores.

        Args:
            candidates: those of a batch of B images, with the column ``box_features`` (n, F).
            sizes: (B, 2) float32, height and width of each image in pixels.
        """
        scores = candidates.scores
        for number in range(len(self.stages)):
            scores = self.scores_after(number, candidates, scores, sizes)
        plain = derive(candidates, scores=scores, extra={})
        looked_at = take(as_detections(plain), scores >= 0)
        most = self._config.max_detections
        return take(
            looked_at,
            top_per_image(looked_at.scores, looked_at.image, looked_at.num_images, most),
        )

    def scores_after(
        self, number: int, candidates: Candidates, scores: Tensor, sizes: Tensor
    ) -> Tensor:
        """Return the scores (n,) times the factors of stage ``number``.

        A candidate that the stage does not look at has the score -1.
        """
        sequences = self.sequences(candidates, scores)
        factors = self.logits(number, candidates, scores, sizes, sequences).sigmoid()
        rows = (sequences.rows,)
        return torch.full_like(scores, -1.0).index_put(rows, scores[rows] * factors)

    def sequences(self, candidates: Candidates, scores: Tensor) -> Sequences:
        """Return the sequences of the candidates that score enough, by scores (n,)."""
        config = self._config
        columns = (candidates.labels, candidates.image)
        return sequences_of(scores, *columns, config.min_score, config.max_length)

    def logits(
        self,
        number: int,
        candidates: Candidates,
        scores: Tensor,
        sizes: Tensor,
        sequences: Sequences,
    ) -> Tensor:
        """Return the logits of stage ``number``, 0 or 1, in the order of the sequences."""
        rows = sequences.rows
        edges = candidates.boxes[rows] / sizes[candidates.image[rows]][:, [1, 0, 1, 0]]
        description = describe(scores[rows], edges, sequences.rank)
        features = candidates.extra[BOX_FEATURES][rows]
        return self.stages[number](features, description, sequences)


def describe(scores: Tensor, edges: Tensor, rank: Tensor) -> Tensor:
    """Return what a stage reads of boxes beside their features: (n, 96).

    Args:
        scores: (n,) float32.
        edges: (n, 4) float32, the edges as shares of the width or the height of the image.
        rank: (n,) int64, number of boxes of the sequence before each box.

    Returns:
        The score 32 times, log(edge + 0.5) 8 times for each edge, and 16 sines and 16 cosines of
        the rank, whose wavelengths rise from 2 pi to nearly 10000 * 2 pi.
    """
    score = scores[:, None].expand(-1, PLACES)
    logs = (edges + 0.5).clamp(min=LEAST_EDGE).log().repeat_interleave(REPEATS, dim=1)
    return torch.cat([score, logs, waves(rank, PLACES, 10000.0)], dim=1)
