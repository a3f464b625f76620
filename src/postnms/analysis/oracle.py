"""What a perfect choice within clusters would give: an ORACLE, since it sees the truth.

n: candidates, k: clusters, m: ground-truth objects.
"""

import dataclasses

import torch

from postnms.boxes import pairwise_iou
from postnms.candidate_files.reader import CandidateFile
from postnms.clustering import cluster, keep_keys, reduce_members
from postnms.data.dataset import Truth
from postnms.data.targets import group_by_image, targets_of
from postnms.structures import Clusters, Detections, Targets, concatenate


def best_member(clusters: Clusters, targets: Targets, max_detections: int = 100) -> Detections:
    """NMS's detections, each with the box of the member of its cluster that best fits an object. Sees the truth.

    The member is the one with the highest IoU with any object of the key's class in the image, crowd regions apart
    (ties: higher score, then lower index); the key where no member overlaps one. Scores, labels and sources stay
    the keys', and with them which are kept: ``max_detections`` an image.
    """
    candidates = clusters.candidates
    kept, chosen = keep_keys(clusters, max_detections)
    if not len(targets.labels) or not len(clusters.keys):
        return kept
    same_image = candidates.image[:, None] == targets.image
    comparable = same_image & (candidates.labels[:, None] == targets.labels) & ~targets.crowd
    iou = torch.where(comparable, pairwise_iou(candidates.boxes, targets.boxes), 0.0).amax(
        dim=1
    )  # (n,)
    best = reduce_members(iou, clusters, "amax")  # (k,)
    order = torch.argsort(candidates.scores, descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    rank = torch.where(iou == best[clusters.assignment], rank, len(order))
    first = order[reduce_members(rank, clusters, "amin")]
    member = torch.where(best > 0, first, clusters.keys)
    return dataclasses.replace(kept, boxes=candidates.boxes[member[chosen]])


ORACLE = "oracle_box"
"""What choosing boxes could still gain: the baseline with each cluster's best member, which only the truth tells."""


def oracle_boxes(
    file: CandidateFile, truth: Truth, iou_threshold: float, max_detections: int
) -> Detections:
    """The row :data:`ORACLE`."""
    by_image, parts, start = group_by_image(truth), [], 0
    for ids, candidates in file.chunks(
        images=8
    ):  # few: each candidate meets each object of its chunk
        targets = targets_of(truth, ids, by_image)
        found = best_member(cluster(candidates, iou_threshold), targets, max_detections)
        parts.append(dataclasses.replace(found, image=found.image + start, num_images=len(file)))
        start += len(ids)
    return concatenate(parts, len(file))
