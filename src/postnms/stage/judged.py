"""What the stage looks at in evaluation mode, and the results that follow (paper: section 3.4).

d: keys that NMS keeps, c: candidates that are moved, the kept keys first, q: representative boxes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from postnms.clustering import cluster, keep_keys, representative_boxes
from postnms.orders import sort_by_image
from postnms.stage.config import StageConfig
from postnms.stage.fusion import Fusion
from postnms.structures import (
    CLUSTER_OBJECTNESS,
    OBJECTNESS,
    REFINED,
    Candidates,
    Clusters,
    Detections,
    as_detections,
    derive,
    take,
)


@dataclass(frozen=True)
class Looked:
    """The boxes that the stage looks at."""

    candidates: Candidates
    """Those that are moved (c): first the kept keys, by image, then by falling score."""
    rows: Tensor
    """(c,) int64: their rows among the candidates of the clusters."""
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


def everything(clusters: Clusters, config: StageConfig) -> Looked:
    """Return all candidates and the representative boxes of all clusters."""
    others = torch.ones_like(clusters.assignment, dtype=torch.bool)
    others = others.index_fill(0, clusters.keys, False).nonzero().squeeze(1)
    chosen = torch.arange(len(clusters.keys), device=others.device)
    return _looked(clusters, config, chosen, others)


def _looked(clusters: Clusters, config: StageConfig, chosen: Tensor, others: Tensor) -> Looked:
    """Return what is looked at: the ``chosen`` (d,) clusters and the rows of other candidates."""
    rows = torch.cat([clusters.keys[chosen], others])
    candidates = take(clusters.candidates, rows)
    count = len(chosen)
    keys = candidates.boxes[:count]
    representatives = keys
    if config.has_representatives:
        representatives = representative_boxes(clusters, config.representative)[chosen]
    # Where the representative box is the key itself, s_clu is s_obj. It is not scored again.
    differs = (representatives != keys).any(dim=1)
    unequal = differs.nonzero().squeeze(1)
    return Looked(
        candidates=candidates,
        rows=rows,
        kept=count,
        differs=differs,
        boxes=torch.cat([candidates.boxes, representatives[unequal]]),
        image=torch.cat([candidates.image, candidates.image[unequal]]),
        labels=torch.cat([candidates.labels, candidates.labels[unequal]]),
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
        scores = self.config.fuse(keys.scores, self._of_clusters(), self.objectness[:count])
        rescored = derive(as_detections(keys), boxes=self.moved[:count], scores=scores)
        # The new scores change the order of the keys within their image.
        return take(rescored, sort_by_image(scores, keys.image))

    def candidates(self) -> Candidates:
        """Return all candidates with new boxes and scores, for suppression."""
        # Candidates are constants. No gradient goes through suppression.
        moved, objectness = self.moved.detach(), self.objectness[: len(self.moved)].detach()
        return judge_alone(self.looked.candidates, moved, objectness, self.config.fuse)

    def columns(self) -> dict[str, Tensor]:
        """Return it as extra columns of the candidates, all of which have been looked at."""
        own = self.objectness[: len(self.moved)]
        of_clusters = torch.cat([self._of_clusters(), own[self.looked.kept :]])
        values = {REFINED: self.moved, OBJECTNESS: own, CLUSTER_OBJECTNESS: of_clusters}
        rows = self.looked.rows
        constants = {name: value.detach() for name, value in values.items()}
        return {name: value.index_copy(0, rows, value) for name, value in constants.items()}

    def _of_clusters(self) -> Tensor:
        """Return s_clu of each kept key: (d,)."""
        s_obj = self.objectness[: self.looked.kept]
        return s_obj.masked_scatter(self.looked.differs, self.objectness[len(self.moved) :])


def judge_alone(
    candidates: Candidates, moved: Tensor, objectness: Tensor, fuse: Fusion
) -> Candidates:
    """Return candidates (c) with new boxes and scores. Each is judged for itself.

    Its own objectness takes the place of s_clu, because a candidate that is no key represents no
    cluster. ``moved`` is (c, 4), xyxy, pixels, ``objectness`` (c,) is in [0, 1].
    """
    return derive(candidates, boxes=moved, scores=fuse(candidates.scores, objectness, objectness))
