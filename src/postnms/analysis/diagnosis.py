"""The errors of every row of a file, and the placement of its clusters."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from postnms.analysis.oracle import IMAGES_AT_ONCE
from postnms.analysis.placement import ClusterIoUs, cluster_ious, concatenate_cluster_ious
from postnms.analysis.study import Study
from postnms.candidate_files.replays import as_results, replay
from postnms.clustering import cluster
from postnms.config import Progress, no_progress
from postnms.data.targets import group_by_image, targets_of
from postnms.evaluation.duplicates import duplicate_rate, max_recall
from postnms.evaluation.tide import ErrorTypes, error_types
from postnms.structures import REFINED, Detections
from postnms.suppression import Choice

RECALL_STEPS = 20
"""Number of steps of the recall from 0 to 1. Duplicates are counted at one of them."""
CLUSTER_IOU = 0.5
"""IoU threshold of the NMS whose clusters are looked at."""


@dataclass(frozen=True)
class AnalysedRow:
    """The errors of one row."""

    errors: ErrorTypes
    max_recall: float
    """Recall of all detections, in [0, 1], at IoU 0.5 over all classes."""
    duplicates: float | None
    """Share of detections, in per cent, that find an object again, among those that are needed to
    reach the recall of the analysis. None: the row does not reach it."""


@dataclass(frozen=True)
class Analysis:
    """The errors of all rows, and the clusters of the candidates."""

    rows: dict[str, AnalysedRow]
    recall: float
    """The recall at which duplicates are counted, in [0, 1]."""
    before: ClusterIoUs
    """IoUs of the positive clusters of plain NMS at IoU 0.5."""
    after: ClusterIoUs | None
    """IoUs of the same clusters after the stage has moved their members. None: the file does not
    hold the refined boxes."""


def analyse(
    study: Study,
    choices: Sequence[Choice],
    recall: float | None = None,
    done: Progress = no_progress,
) -> Analysis:
    """Analyse the rows of the suppressors and the rows that the file holds (as ``run NAME``).

    ``recall`` is where duplicates are counted. None: the highest of 20 steps that all rows reach.
    ``done`` is called after every row. Raises ValueError if there is no row at all.
    """
    file = study.candidates
    if not choices and not file.rows:
        raise ValueError("choices: expected at least one suppressor for a file without rows")
    truth = study.truth
    detections: dict[str, Detections] = {
        choice.name: replay(file, choice.suppressor).detections for choice in choices
    }
    detections |= {f"run {name}": file.row(name) for name in file.rows}
    results = {name: as_results(row, file) for name, row in detections.items()}
    reached = {name: max_recall(truth, row) for name, row in results.items()}
    if recall is None:
        steps = math.floor(min(reached.values()) * RECALL_STEPS + 1e-9)
        recall = max(steps, 1) / RECALL_STEPS
    rows = {}
    for name, row in results.items():
        rate = duplicate_rate(truth, row, recall)
        rows[name] = AnalysedRow(error_types(truth, row), reached[name], rate)
        done(1)
    return Analysis(rows, recall, *_placement(study))


def _placement(study: Study) -> tuple[ClusterIoUs, ClusterIoUs | None]:
    """Return the IoUs of the positive clusters before and after the stage."""
    by_image = group_by_image(study.truth)
    before = []
    after = []
    for ids, candidates in study.candidates.chunks(IMAGES_AT_ONCE):
        clusters = cluster(candidates, CLUSTER_IOU)
        targets = targets_of(study.truth, ids, by_image)
        before.append(cluster_ious(clusters, targets))
        if REFINED in candidates.extra:
            after.append(cluster_ious(clusters, targets, candidates.extra[REFINED]))
    has_refined = REFINED in study.candidates.extra
    return (
        concatenate_cluster_ious(before),
        concatenate_cluster_ious(after) if has_refined else None,
    )
