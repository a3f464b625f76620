"""What the rows of a file get wrong, and how well its clusters are placed before and after the stage."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from postnms.analysis.placement import ClusterIoUs, cluster_ious, concatenate
from postnms.candidate_files.columns import REFINED
from postnms.candidate_files.reader import CandidateFile
from postnms.candidate_files.replays import as_results, replay
from postnms.clustering import cluster
from postnms.data.dataset import Truth
from postnms.data.targets import group_by_image, targets_of
from postnms.evaluation.duplicates import duplicate_rate, max_recall
from postnms.evaluation.tide import ErrorTypes, error_types
from postnms.structures import Detections
from postnms.suppression import Suppressor

RECALL_STEPS = 20
"""Of the recalls from 0 to 1 that duplicates are counted at."""
CLUSTER_IOU = 0.5


@dataclass(frozen=True)
class AnalysedRow:
    """Errors of one row."""

    errors: ErrorTypes
    max_recall: float
    """[0, 1], at IoU 0.5 over all classes."""
    duplicates: float | None
    """Per cent of the detections down to the analysis' recall that find an object again; None if it is not reached."""


@dataclass(frozen=True)
class Analysis:
    """Rows by name, and the clusters of the candidates."""

    rows: dict[str, AnalysedRow]
    recall: float
    """The recall that duplicates are counted at, [0, 1]."""
    before: ClusterIoUs
    """Of the positive clusters of plain NMS over IoU 0.5."""
    after: ClusterIoUs | None
    """Of the same clusters as the stage moves their members; None if the file does not tell."""


def analyse(
    file: CandidateFile,
    truth: Truth,
    suppressors: Mapping[str, Suppressor],
    recall: float | None = None,
    done: Callable[[int], None] = lambda rows: None,
) -> Analysis:
    """The suppressors' rows and those of the file. ``recall`` None: the highest step that all rows reach."""
    found: dict[str, Detections] = {
        name: replay(file, rule).detections for name, rule in suppressors.items()
    }
    found |= {f"run {name}": file.row(name) for name in file.rows}
    results = {name: as_results(detections, file) for name, detections in found.items()}
    reached = {name: max_recall(truth.content, row) for name, row in results.items()}
    if recall is None:
        recall = max(math.floor(min(reached.values()) * RECALL_STEPS + 1e-9), 1) / RECALL_STEPS
    rows = {}
    for name, row in results.items():
        rate = duplicate_rate(truth.content, row, recall)
        rows[name] = AnalysedRow(error_types(truth.content, row), reached[name], rate)
        done(1)
    return Analysis(rows, recall, *_placement(file, truth))


def _placement(file: CandidateFile, truth: Truth) -> tuple[ClusterIoUs, ClusterIoUs | None]:
    before, after, by_image = [], [], group_by_image(truth)
    for ids, candidates in file.chunks(
        images=8
    ):  # few: each candidate meets each object of its chunk
        clusters, targets = cluster(candidates, CLUSTER_IOU), targets_of(truth, ids, by_image)
        before.append(cluster_ious(clusters, targets))
        if REFINED in candidates.extra:
            after.append(cluster_ious(clusters, targets, candidates.extra[REFINED]))
    return concatenate(before), concatenate(after) if REFINED in file.extra else None
