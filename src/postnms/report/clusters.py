"""The candidates of the chosen images, and the clusters that their kept boxes come from.

n: candidates, d: detections.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from postnms.candidate_files.dump import dump_candidates
from postnms.candidate_files.reader import CandidateFile, open_candidates
from postnms.candidate_files.writer import CandidateWriter
from postnms.clustering import Representative, cluster, representative_boxes
from postnms.config import Progress, no_progress
from postnms.data.dataset import ImageId
from postnms.data.loader import DetectionData
from postnms.data.records import take_records
from postnms.errors import UserError
from postnms.report.sources import TrainedRun
from postnms.runs.loading import load_detector
from postnms.structures import Candidates, Clusters, Detections
from postnms.suppression import Suppressor

IMAGES_AT_ONCE = 4
"""Number of images in one forward pass. The first pass is made twice, so it is short."""


@dataclass(frozen=True)
class ImageClusters:
    """One image: its candidates in clusters, and the rows that come from them."""

    clusters: Clusters
    representatives: Tensor
    """(k, 4) xyxy, original pixels: the box that sums each cluster up."""
    rows: Mapping[str, Detections]
    """In original pixels."""
    origins: Mapping[str, Tensor]
    """(d,) int64 for each row: the candidate that a detection comes from. -1: it is not there."""


def run_detector(
    run: TrainedRun,
    images: Sequence[ImageId] | None,
    folder: Path,
    device: torch.device | str = "cpu",
    done: Progress = no_progress,
) -> CandidateFile:
    """Run the detector of a run on some images, or on all, and return a file of its candidates.

    Images without a file are left out of those that are named, and are an error otherwise.

    Args:
        run: the run.
        images: the ids of the images. None: all of the split.
        folder: where to write the file.
        device: where the detector computes.
        done: called after every batch with the number of its images.

    Raises:
        UserError: an image cannot be read, or the weights do not fit.
    """
    data = run.data
    if images is not None:
        wanted = set(images)
        rows = [i for i, r in enumerate(data.dataset.records) if r.id in wanted and is_there(r)]
        data = _part(data, np.array(rows, np.int64))
    detector = load_detector(run.folder, run.recipe, device)
    stage = run.recipe.stage
    about = {
        "nms_threshold": detector.network.nms_threshold,
        "max_detections": detector.network.max_detections,
        "recipe": {"stage": None if stage is None else stage.model_dump(mode="json")},
    }
    path = folder / "candidates.safetensors"
    batch_size = min(run.recipe.evaluation.batch_size, IMAGES_AT_ONCE)
    with CandidateWriter(path, data.dataset.categories, None, about) as writer:
        dump_candidates(detector, data, writer, batch_size, done=done)
    return open_candidates(path)


def is_there(record: Any) -> bool:
    """Return whether the pixels of a record are to be had."""
    return not record.has_file or record.path.is_file()


def _part(data: DetectionData, rows: np.ndarray) -> DetectionData:
    part = copy(data)
    part.dataset = replace(data.dataset, records=take_records(data.dataset.records, rows))
    part.cache = None
    return part


def clusters_of(
    file: CandidateFile,
    images: Sequence[ImageId],
    rows: Sequence[str],
    suppressors: Mapping[str, Suppressor],
) -> dict[ImageId, ImageClusters]:
    """Return the clusters of some images, by id. Those that the file lacks are left out.

    Args:
        file: the candidates.
        images: ids of the images.
        rows: names of the rows, which the file has or which are names of ``suppressors``.
        suppressors: what gives the rows that the file does not have.

    Raises:
        UserError: the file is damaged, or lacks what a suppressor needs.
    """
    places = {own: place for place, own in enumerate(file.image_ids)}
    threshold = file.provenance.get("nms_threshold", 0.5)
    method = _representative(file)
    found = {}
    for image in images:
        if image not in places:
            continue
        candidates, stored = file.part(places[image], places[image] + 1)
        try:
            clusters = cluster(candidates, threshold)
            given = {
                name: stored[name] if name in stored else suppressors[name](candidates)
                for name in rows
            }
        except ValueError as error:
            raise UserError(f"{file.path}: {error}") from error
        origins = {name: _origins(row, candidates) for name, row in given.items()}
        boxes = representative_boxes(clusters, method)
        found[image] = ImageClusters(clusters, boxes, given, origins)
    return found


def _origins(row: Detections, candidates: Candidates) -> Tensor:
    """Return the candidate (d,) that each detection of one image comes from. -1: there is none.

    Source and class name a candidate. Where several have the same ones, the first is taken.
    """
    places: dict[tuple[int, int], int] = {}
    named = zip(candidates.source.tolist(), candidates.labels.tolist(), strict=True)
    for place, pair in enumerate(named):
        places.setdefault(pair, place)
    pairs = zip(row.source.tolist(), row.labels.tolist(), strict=True)
    return torch.tensor([places.get(pair, -1) for pair in pairs], dtype=torch.int64)


def _representative(file: CandidateFile) -> Representative:
    """Return how the run of a file sums a cluster up. The union where the file does not say it."""
    recipe: Any = file.provenance.get("recipe")
    stage = recipe.get("stage") if isinstance(recipe, dict) else None
    named = stage.get("representative") if isinstance(stage, dict) else None
    methods: tuple[Representative, ...] = get_args(Representative)
    return methods[methods.index(named)] if named in methods else "union"
