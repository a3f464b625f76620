"""The clusters of a file of candidates, and the candidates that detections come from.

n: candidates, d: detections.
"""

import torch
from torch import Tensor

from postnms.candidate_files.reader import CandidateFile
from postnms.clustering import cluster
from postnms.errors import UserError
from postnms.structures import Candidates, Clusters, Detections

USUAL_THRESHOLD = 0.5
"""IoU threshold of the clusters of a file that does not say that of its detector."""


def clusters_of(file: CandidateFile, candidates: Candidates) -> Clusters:
    """Return the clusters of some images of a file, with the IoU threshold of its detector.

    Raises UserError that names the file if it has a threshold that no detector can have.
    """
    threshold = file.provenance.get("nms_threshold", USUAL_THRESHOLD)
    try:
        return cluster(candidates, threshold)
    except ValueError as error:
        raise UserError(f"{file.path}: provenance.nms_threshold: {error}") from error


def origins(detections: Detections, candidates: Candidates | Detections) -> Tensor:
    """Return the candidate (d,) int64 that each detection comes from, -1 where there is none.

    Image, class and source name a candidate. Where several (n) have the same ones, the first is
    taken.
    """
    parts = (candidates, detections)
    columns = ("image", "labels", "source")
    names = torch.stack([torch.cat([getattr(part, name) for part in parts]) for name in columns])
    _, number = names.unique(dim=1, return_inverse=True)
    own, asked = number.split([len(part.scores) for part in parts])
    first = own.new_full((int(number.max()) + 1 if len(number) else 0,), -1)
    rows = torch.arange(len(own))
    return first.scatter_reduce(0, own, rows, "amin", include_self=False)[asked]
