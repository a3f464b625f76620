"""The result of a perfect choice within clusters: an ORACLE, since it sees the truth.

n: candidates, k: clusters, m: ground-truth objects.
"""

import dataclasses

import torch

from postnms.analysis.study import Study
from postnms.boxes import pairwise_iou
from postnms.candidate_files.replays import join_chunks
from postnms.clustering import cluster, keep_keys, reduce_members
from postnms.data.targets import group_by_image, targets_of
from postnms.structures import Clusters, Detections, Targets

ORACLE = "oracle_box"
"""Name of the row of greedy NMS with the best member of each cluster in place of the key.

It says how much a better choice of boxes could still gain. Only the truth tells that choice.
"""

IMAGES_AT_ONCE = 8
"""Number of images in memory together: few, since each candidate meets each object of them."""


def oracle_boxes(study: Study, iou_threshold: float, max_detections: int) -> Detections:
    """Return the detections of the row :data:`ORACLE`."""
    file = study.candidates
    by_image = group_by_image(study.truth)
    parts = []
    for ids, candidates in file.chunks(IMAGES_AT_ONCE):
        targets = targets_of(study.truth, ids, by_image)
        parts.append(best_member(cluster(candidates, iou_threshold), targets, max_detections))
    return join_chunks(parts, len(file))


def best_member(clusters: Clusters, targets: Targets, max_detections: int = 100) -> Detections:
    """Return the detections of NMS, each with the best box of its cluster. This sees the truth.

    The best member is the one with the highest IoU with any object of the key's class in the
    image, crowd regions apart (ties: the higher score, then the lower row). The key stays where no
    member overlaps an object. Scores, labels and sources are those of the keys. So the same
    ``max_detections`` for each image are kept as by NMS.
    """
    candidates = clusters.candidates
    kept, chosen = keep_keys(clusters, max_detections)
    if not len(targets.labels) or not len(clusters.keys):
        return kept
    same_image = candidates.image[:, None] == targets.image
    same_class = candidates.labels[:, None] == targets.labels
    is_object = same_image & same_class & ~targets.crowd
    every = torch.where(is_object, pairwise_iou(candidates.boxes, targets.boxes), 0.0)
    iou = every.amax(dim=1)  # (n,)
    best = reduce_members(iou, clusters, "amax")  # (k,)
    # The lowest rank by score among the members that attain the best IoU breaks ties.
    order = torch.argsort(candidates.scores, descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    rank = torch.where(iou == best[clusters.assignment], rank, len(order))
    first = order[reduce_members(rank, clusters, "amin")]
    member = torch.where(best > 0, first, clusters.keys)
    return dataclasses.replace(kept, boxes=candidates.boxes[member[chosen]])
