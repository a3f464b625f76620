"""The errors of every row of a file, and the placement of its clusters."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from postnms.analysis.oracle import IMAGES_AT_ONCE
from postnms.analysis.placement import ClusterIoUs, cluster_ious, concatenate_cluster_ious
from postnms.analysis.study import Study
from postnms.candidate_files.replays import as_columns, replay
from postnms.clustering import cluster
from postnms.config import Progress, no_progress
from postnms.data.targets import group_by_image, targets_of
from postnms.evaluation.duplicates import RankedDuplicates, rank_duplicates
from postnms.evaluation.matching import match_results
from postnms.evaluation.tide import ErrorTypes, cost_errors, find_errors
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
    errors: dict[str, ErrorTypes] = {}
    ranked: dict[str, RankedDuplicates] = {}
    for name, row in _rows(study, choices):
        # The matching of one row is in memory at a time.
        matching = match_results(study.truth, as_columns(row, file, study.truth))
        found = find_errors(matching)
        errors[name] = cost_errors(matching, found)
        ranked[name] = rank_duplicates(matching, found)
        done(1)
    if recall is None:
        steps = math.floor(min(row.max_recall for row in ranked.values()) * RECALL_STEPS + 1e-9)
        recall = max(steps, 1) / RECALL_STEPS
    rows = {
        name: AnalysedRow(errors[name], row.max_recall, row.rate(recall))
        for name, row in ranked.items()
    }
    return Analysis(rows, recall, *_placement(study))


def _rows(study: Study, choices: Sequence[Choice]) -> Iterator[tuple[str, Detections]]:
    """Yield the detections of one row after another, by the name of the row."""
    file = study.candidates
    for choice in choices:
        yield choice.name, replay(file, choice.suppressor).detections
    for name in file.rows:
        yield f"run {name}", file.row(name)


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
