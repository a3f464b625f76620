"""What the stage looks at in evaluation mode, and the results that follow (paper: section 3.4).

d: keys that NMS keeps, c: candidates that are moved, the kept keys first, q: representative boxes.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from postnms.clustering import cluster, keep_keys, representative_boxes
from postnms.orders import sort_by_image
from postnms.stage.config import StageConfig
from postnms.structures import Candidates, Clusters, Detections, as_detections, derive, take


def fuse(
    s_ori: Tensor,
    s_clu: Tensor,
    s_obj: Tensor,
    weights: tuple[float, float, float],
    mean: Literal["arithmetic", "geometric"] = "arithmetic",
) -> Tensor:
    """Return the scores of the stage (Table 6).

    ``arithmetic``: ``w_ori * s_ori + w_clu * s_clu + w_obj * s_obj``, as in the paper.
    ``geometric``: ``s_ori ** w_ori * s_clu ** w_clu * s_obj ** w_obj``.

    Args:
        s_ori: (d,), the detector's score of each key.
        s_clu: (d,), the objectness of the representative box of each cluster.
        s_obj: (d,), the objectness of each key.
        weights: (w_ori, w_clu, w_obj).
        mean: how the weights join the scores.

    Returns:
        (d,).

    Example:
        >>> import torch
        >>> from postnms.stage.judged import fuse
        >>> fuse(torch.tensor([0.5]), torch.tensor([1.0]), torch.tensor([0.0]), (0.8, 0.1, 0.1))
        tensor([0.5000])
    """
    w_ori, w_clu, w_obj = weights
    if mean == "geometric":
        return s_ori**w_ori * s_clu**w_clu * s_obj**w_obj
    return w_ori * s_ori + w_clu * s_clu + w_obj * s_obj


@dataclass(frozen=True)
class Looked:
    """The boxes that the stage looks at."""

    candidates: Candidates
    """Those that are moved (c): first the kept keys, by image, then by falling score."""
    kept: int
    """Number d of kept keys."""
    differs: Tensor
    """(d,) bool: the representative box of the cluster is not the key itself."""
    boxes: Tensor
    """(c + q, 4) float32, xyxy, pixels: those of the candidates, then the representative boxes that
    differ from their key."""
    image: Tensor
    """(c + q,) int64, 0..B-1."""
    labels: Tensor
    """(c + q,) int64, 0..K-1."""


def keys_alone(clusters: Clusters, config: StageConfig, max_detections: int) -> Looked:
    """Return the best keys of each image, and the representative boxes of their clusters."""
    # These are the keys that plain NMS keeps, so that both results can be compared key by key.
    chosen = keep_keys(clusters, max_detections)[1]
    return _looked(clusters, config, chosen, clusters.keys[:0])


def keys_and_others(clusters: Clusters, config: StageConfig, max_detections: int) -> Looked:
    """Return what :func:`keys_alone` does, and the other candidates that thinning leaves."""
    chosen = keep_keys(clusters, max_detections)[1]
    candidates = clusters.candidates
    left = torch.ones_like(candidates.scores, dtype=torch.bool)
    if config.thinning_iou is not None:
        thinned = cluster(candidates, config.thinning_iou).keys
        left = torch.zeros_like(left).index_fill(0, thinned, True)
    # NMS with a higher threshold may suppress a key. The kept keys are looked at in any case.
    left = left.index_fill(0, clusters.keys[chosen], False)
    return _looked(clusters, config, chosen, left.nonzero().squeeze(1))


def _looked(clusters: Clusters, config: StageConfig, chosen: Tensor, others: Tensor) -> Looked:
    """Return what is looked at: the ``chosen`` (d,) clusters and the rows of other candidates."""
    candidates = take(clusters.candidates, torch.cat([clusters.keys[chosen], others]))
    count = len(chosen)
    keys = candidates.boxes[:count]
    representatives = keys
    if config.has_representatives:
        representatives = representative_boxes(clusters, config.representative)[chosen]
    # Where the representative box is the key itself, s_clu is s_obj. It is not scored again.
    differs = (representatives != keys).any(dim=1)
    rows = differs.nonzero().squeeze(1)
    return Looked(
        candidates=candidates,
        kept=count,
        differs=differs,
        boxes=torch.cat([candidates.boxes, representatives[rows]]),
        image=torch.cat([candidates.image, candidates.image[rows]]),
        labels=torch.cat([candidates.labels, candidates.labels[rows]]),
    )


@dataclass(frozen=True)
class Judged:
    """What the networks of the stage say of the boxes that it has looked at."""

    looked: Looked
    objectness: Tensor
    """(c + q,) float32, in [0, 1]."""
    moved: Tensor
    """(c, 4) float32, xyxy, pixels: the candidates after their refinement."""
    config: StageConfig

    def detections(self) -> Detections:
        """Return the kept keys with new boxes and scores: by image, then by falling score."""
        count = self.looked.kept
        keys = take(self.looked.candidates, slice(count))
        s_obj = self.objectness[:count]
        of_others = self.objectness[len(self.moved) :]
        s_clu = s_obj.masked_scatter(self.looked.differs, of_others)
        scores = _fuse(self.config, keys.scores, s_clu, s_obj)
        rescored = derive(as_detections(keys), boxes=self.moved[:count], scores=scores)
        # The new scores change the order of the keys within their image.
        return take(rescored, sort_by_image(scores, keys.image))

    def candidates(self) -> Candidates:
        """Return all candidates with new boxes and scores, for suppression."""
        objectness = self.objectness[: len(self.moved)]
        return judge_alone(self.looked.candidates, objectness, self.moved, self.config)


def judge_alone(
    candidates: Candidates, objectness: Tensor, moved: Tensor, config: StageConfig
) -> Candidates:
    """Return candidates (c) with new boxes and scores. Each is judged for itself.

    Its own objectness takes the place of s_clu, because a candidate that is no key represents no
    cluster. ``objectness`` (c,) is in [0, 1], ``moved`` is (c, 4), xyxy, pixels.
    """
    scores = _fuse(config, candidates.scores, objectness, objectness)
    return derive(candidates, boxes=moved, scores=scores)


def _fuse(config: StageConfig, s_ori: Tensor, s_clu: Tensor, s_obj: Tensor) -> Tensor:
    return fuse(s_ori, s_clu, s_obj, config.fusion, config.fusion_mean)
