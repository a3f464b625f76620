"""The errors, duplicates and calibration of every row of a file, and the placement of clusters."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from postnms.analysis.oracle import IMAGES_AT_ONCE
from postnms.analysis.placement import ClusterIoUs, cluster_ious, concatenate_cluster_ious
from postnms.analysis.study import Study
from postnms.candidate_files.replays import as_columns, replay
from postnms.clustering import cluster
from postnms.config import Progress, no_progress
from postnms.data.targets import group_by_image, targets_of
from postnms.evaluation.calibration import Calibration, measure_calibration
from postnms.evaluation.duplicates import (
    DuplicateCounts,
    RankedDuplicates,
    count_duplicates,
    rank_duplicates,
)
from postnms.evaluation.matching import Matching, match_results
from postnms.evaluation.results import BestF1
from postnms.evaluation.thresholds import best_f1
from postnms.evaluation.tide import ErrorTypes, cost_errors, find_errors
from postnms.structures import REFINED, Detections
from postnms.suppression import Choice

RECALL_STEPS = 20
"""Number of steps of the recall from 0 to 1. Duplicates are counted at one of them."""
CLUSTER_IOU = 0.5
"""IoU threshold of the NMS whose clusters are looked at."""


@dataclass(frozen=True)
class AnalysedRow:
    """The errors of one row, and what its scores mean."""

    errors: ErrorTypes
    max_recall: float
    """Recall of all detections, in [0, 1], at IoU 0.5 over all classes."""
    duplicates: float | None
    """Share of detections, in per cent, that find an object again, among those that are needed to
    reach the recall of the analysis. None: the row does not reach it."""
    duplicate_counts: DuplicateCounts
    """Duplicates in an image, among all detections and among those that reach the threshold with
    the best F1."""
    best_f1: BestF1 | None
    """The score threshold with the best F1. None: no detection is right."""
    calibration: Calibration


@dataclass(frozen=True)
class Analysis:
    """The errors of all rows, and the clusters of the candidates."""

    rows: dict[str, AnalysedRow]
    recall: float
    """The recall at which duplicates are counted, in [0, 1]."""
    before: ClusterIoUs
    """IoUs of the clusters of plain NMS at IoU 0.5 that have a truth."""
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
    rows: dict[str, AnalysedRow] = {}
    ranked: dict[str, RankedDuplicates] = {}
    for name, row in _rows(study, choices):
        # The matching of one row is in memory at a time.
        matching = match_results(study.truth, as_columns(row, file, study.truth))
        rows[name], ranked[name] = _analyse_row(matching)
        done(1)
    if recall is None:
        steps = math.floor(min(row.max_recall for row in rows.values()) * RECALL_STEPS + 1e-9)
        recall = max(steps, 1) / RECALL_STEPS
    rows = {name: replace(row, duplicates=ranked[name].rate(recall)) for name, row in rows.items()}
    return Analysis(rows, recall, *place_clusters(study))


def _analyse_row(matching: Matching) -> tuple[AnalysedRow, RankedDuplicates]:
    """Return what a matching says, without the rate of duplicates, and what that is read from.

    The recall at which duplicates are counted follows from all rows together.
    """
    errors = find_errors(matching)
    ranked = rank_duplicates(matching, errors)
    best = best_f1(matching)
    row = AnalysedRow(
        errors=cost_errors(matching, errors),
        max_recall=ranked.max_recall,
        duplicates=None,
        duplicate_counts=count_duplicates(matching, errors, None if best is None else best.score),
        best_f1=best,
        calibration=measure_calibration(matching),
    )
    return row, ranked


def _rows(study: Study, choices: Sequence[Choice]) -> Iterator[tuple[str, Detections]]:
    """Yield the detections of one row after another, by the name of the row."""
    file = study.candidates
    for choice in choices:
        yield choice.name, replay(file, choice.suppressor).detections
    for name in file.rows:
        yield f"run {name}", file.row(name)


def place_clusters(study: Study) -> tuple[ClusterIoUs, ClusterIoUs | None]:
    """Return the IoUs of the clusters of a file before and after the stage (paper: Figure 2).

    They are ``before`` and ``after`` of :class:`Analysis`.
    """
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
