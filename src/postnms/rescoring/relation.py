"""Duplicate removal of Relation Networks (arXiv 1711.11575, section 4.3): learned, in place of NMS.

The boxes of an image and class are looked at together, those of all classes by the same weights. A
box is a vector, made of its features and of its rank by score. A relation module adds what the
other boxes say of it. They are weighted by an attention that also sees how two boxes lie to each
other. From the sum come several factors in [0, 1], one for each IoU threshold: is this the box to
keep for an object? The final score is that of the detector times the mean of the factors.

n: rows of all sequences, F: features of a box, c: width of the vectors, R: relations, T:
thresholds, G: sequences of a batch, L: boxes of the longest of them.
"""

import torch
from torch import Tensor, nn

from postnms.orders import top_per_image
from postnms.rescoring.config import RelationConfig
from postnms.rescoring.sequences import Sequences, sequences_of
from postnms.rescoring.waves import waves
from postnms.structures import BOX_FEATURES, Candidates, Detections, as_detections, derive, take

RANK_NUMBERS = 1024
"""Numbers that tell the rank of a box."""
PLACE_NUMBERS = 16
"""Numbers that tell one of the four differences between the places of two boxes."""
LONGEST = 1000.0
"""The longest wavelength of both, as a multiple of the shortest one."""
PLACE_FACTOR = 100.0
"""What the differences are multiplied by before their sines and cosines are taken."""
LEAST_SIDE = 1.0
"""Least width and height of a box that its differences from others are divided by, in pixels."""
LEAST_DISTANCE = 1e-3
"""Least distance of two centres, in widths or heights of a box, of which the logarithm is taken."""
LEAST_WEIGHT = 1e-6
"""Least weight that the places of two boxes give to their relation."""
FIRST_STD = 0.01
"""Standard deviation of the first weights of all layers. All biases but the last one begin at 0."""
FIRST_BIAS = -3.0
"""First value of the bias of the last layer: a box is rarely the one to keep."""
MOST_PAIRS = 1 << 15
"""Largest number of pairs of boxes that are looked at together, unless one sequence has more. The
limit does not hold for the memory of training, which keeps what it needs of all pairs."""


class RelationModule(nn.Module):
    """What the other boxes of a sequence say of each box: R attentions side by side.

    The weight of box j for box i is softmax over j of log(max(relu(W p_ij), 1e-6)) + q_i k_j /
    sqrt(d), with p_ij from :func:`places`. The source multiplies the vectors by the weights before
    a layer of each relation makes them narrow. Here the layer comes first, which gives the same.
    """

    def __init__(self, width: int, keys: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.query = nn.Linear(width, keys)
        self.key = nn.Linear(width, keys)
        self.value = nn.Linear(width, width)
        self.place = nn.Linear(4 * PLACE_NUMBERS, heads)

    def forward(self, vectors: Tensor, boxes: Tensor, sequences: Sequences) -> Tensor:
        """Return (n, c) from vectors (n, c) and boxes (n, 4) in the order of the sequences."""
        query, key, value = (
            layer(vectors).unflatten(1, (self._heads, -1))  # (n, R, ...)
            for layer in (self.query, self.key, self.value)
        )
        means, order = [], []
        for rows, real in sequences.padded(MOST_PAIRS):
            asking, answering, given = (
                part[rows].transpose(1, 2)  # (G, R, L, ...)
                for part in (query, key, value)
            )
            weight = self.place(places(boxes[rows])).clamp(min=LEAST_WEIGHT).log()  # (G, L, L, R)
            likeness = asking @ answering.transpose(2, 3) / query.shape[2] ** 0.5
            likeness = likeness + weight.permute(0, 3, 1, 2)
            likeness = likeness.masked_fill(~real[:, None, None], -torch.inf)
            mean = likeness.softmax(dim=-1) @ given  # (G, R, L, c / R)
            means.append(mean.transpose(1, 2).flatten(2)[real])
            order.append(rows[real])
        return torch.cat(means)[torch.cat(order).argsort()]


class RelationNetwork(nn.Module):
    """Candidates in, detections with new scores out.

    Args:
        config: the settings.
        feature_width: F.
    """

    def __init__(self, config: RelationConfig, feature_width: int) -> None:
        super().__init__()
        self._config = config
        self.feature_width = feature_width
        self.features = nn.Linear(feature_width, config.width)
        self.rank = nn.Linear(RANK_NUMBERS, config.width)
        self.relation = RelationModule(config.width, config.keys, config.heads)
        self.keep = nn.Linear(config.width, len(config.thresholds))
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=FIRST_STD)
                nn.init.zeros_(layer.bias)
        nn.init.constant_(self.keep.bias, FIRST_BIAS)

    def forward(self, candidates: Candidates, sizes: Tensor) -> Detections:
        """Return the boxes that were looked at, with their final scores.

        Args:
            candidates: those of a batch of B images, with the column ``box_features`` (n, F).
            sizes: (B, 2) height and width of each image. They are not needed.
        """
        sequences = self.sequences(candidates)
        looked_at = take(candidates, sequences.rows)
        factors = self.logits(looked_at, sequences).sigmoid().mean(dim=1)
        plain = derive(looked_at, scores=looked_at.scores * factors, extra={})
        # Ties go by the order of the candidates.
        detections = take(as_detections(plain), sequences.rows.argsort())
        most = self._config.max_detections
        return take(
            detections,
            top_per_image(detections.scores, detections.image, detections.num_images, most),
        )

    def sequences(self, candidates: Candidates) -> Sequences:
        """Return the sequences of the candidates whose class has a box that scores enough."""
        scores, group = candidates.scores, candidates.image
        if len(scores):
            group = group * (int(candidates.labels.max()) + 1) + candidates.labels
            best = scores.new_zeros(int(group.max()) + 1)
            best = best.scatter_reduce(0, group, scores, "amax", include_self=False)
            scores = torch.where(best[group] >= self._config.min_score, scores, -1.0)
        columns = (candidates.labels, candidates.image)
        return sequences_of(scores, *columns, 0.0, self._config.max_length)

    def logits(self, looked_at: Candidates, sequences: Sequences) -> Tensor:
        """Return the logits of the factors (n, T) of candidates in the order of the sequences."""
        if not len(sequences):
            return looked_at.scores.new_zeros(0, len(self._config.thresholds))
        rank = waves(sequences.rank, RANK_NUMBERS, LONGEST)
        vectors = self.features(looked_at.extra[BOX_FEATURES]) + self.rank(rank)
        said = self.relation(vectors, looked_at.boxes, sequences)
        return self.keep((vectors + said).relu())


def places(boxes: Tensor) -> Tensor:
    """Return how the boxes of each sequence lie to each other: (G, L, L, 64) from (G, L, 4).

    For boxes i and j these are 8 sines and 8 cosines of 100 times each of log(|x_i - x_j| / w_i),
    log(|y_i - y_j| / h_i), log(w_j / w_i) and log(h_j / h_i), with the centres (x, y) and the sides
    (w, h) of the boxes (arXiv 1711.11575, section 3.1).
    """
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    side = (boxes[..., 2:] - boxes[..., :2]).clamp(min=LEAST_SIDE)
    distance = (centre[:, :, None] - centre[:, None]).abs() / side[:, :, None]
    ratio = side[:, None] / side[:, :, None]
    logs = torch.cat([distance.clamp(min=LEAST_DISTANCE), ratio], dim=-1).log()
    return waves(PLACE_FACTOR * logs, PLACE_NUMBERS, LONGEST).flatten(3)
