"""The candidates of the chosen images, and the clusters that their kept boxes come from.

n: candidates, d: detections.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from postnms.candidate_files.clusters import clusters_of, origins
from postnms.candidate_files.dump import dump_candidates, in_original
from postnms.candidate_files.reader import CandidateFile, open_candidates
from postnms.candidate_files.writer import CandidateWriter
from postnms.clustering import Representative, representative_boxes
from postnms.config import Progress, no_progress
from postnms.data.dataset import ImageId
from postnms.data.loader import DetectionData, collate
from postnms.data.records import sizes_of_records
from postnms.data.transforms import resized_size
from postnms.detectors import Detector
from postnms.errors import UserError
from postnms.report.sources import TrainedRun
from postnms.runs.loading import load_detector
from postnms.structures import Clusters, Detections, Scored, derive, take
from postnms.suppression import Suppressor

Size = tuple[int, int]
"""(height, width) of a resized image."""


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

    An image is padded as in the evaluation, so that the rows are those of its results. Images
    without a file are left out of those that are named, and are an error otherwise.

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
    detector = load_detector(run.folder, run.recipe, device)
    stage = run.recipe.stage
    about = {
        "nms_threshold": detector.network.nms_threshold,
        "max_detections": detector.network.max_detections,
        "recipe": {"stage": None if stage is None else stage.model_dump(mode="json")},
    }
    path = folder / "candidates.safetensors"
    batch_size = run.recipe.evaluation.batch_size
    with CandidateWriter(path, data.dataset.categories, None, about) as writer:
        if images is None:
            dump_candidates(detector, data, writer, batch_size, done=done)
        else:
            for rows, neighbours in padded_groups(data, set(images), batch_size):
                _write(detector, data, rows, neighbours, writer)
                done(len(rows))
    return open_candidates(path)


def padded_groups(
    data: DetectionData, images: set[ImageId], batch_size: int
) -> list[tuple[list[int], tuple[Size, Size]]]:
    """Return the images that are there, in groups of one size of the batch of the evaluation.

    A group has the rows of at most ``batch_size`` images, and the sizes of the highest and of the
    widest of the images that the evaluation has in one batch with each of them.
    """
    records = data.dataset.records
    sizes = [
        resized_size(height, width, data.min_size, data.max_size)
        for height, width in sizes_of_records(records).tolist()
    ]
    by_size: dict[tuple[Size, Size], list[int]] = {}
    for row, record in enumerate(records):
        if record.id in images and is_there(record):
            first = row - row % batch_size
            batch = sizes[first : first + batch_size]
            # Either size comes from an image, so the detector does not resize a blank one of it.
            ends = max(batch), max(batch, key=lambda size: size[::-1])
            by_size.setdefault(ends, []).append(row)
    return [
        (rows[start : start + batch_size], ends)
        for ends, rows in by_size.items()
        for start in range(0, len(rows), batch_size)
    ]


def _write(
    detector: Detector,
    data: DetectionData,
    rows: Sequence[int],
    neighbours: Sequence[Size],
    writer: CandidateWriter,
) -> None:
    """Write the candidates and rows of some images, padded as by images of other sizes."""
    batch = collate([data[row] for row in rows])
    device = next(detector.parameters()).device
    pixels = [image.to(device) for image in batch.images]
    # Blank images make the batch as large as that of the evaluation was.
    missing = set(neighbours) - {tuple(image.shape[1:]) for image in pixels}
    pixels += [torch.zeros(3, *size, dtype=torch.uint8, device=device) for size in missing]
    trace = detector.trace(pixels)
    count = len(rows)
    found = {name: in_original(_first(row, count), batch) for name, row in trace.rows.items()}
    writer.add(in_original(_first(trace.candidates, count), batch), batch.image_ids, found)


def _first(structure: Scored, count: int) -> Scored:
    """Return the rows of the first images of a batch, as a batch of their own."""
    return derive(take(structure, structure.image < count), num_images=count)


def is_there(record: Any) -> bool:
    """Return whether the pixels of a record are to be had."""
    return not record.has_file or record.path.is_file()


def look_up(
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
    method = _representative(file)
    found = {}
    for image in images:
        if image not in places:
            continue
        candidates, stored = file.part(places[image], places[image] + 1)
        clusters = clusters_of(file, candidates)
        try:
            given = {
                name: stored[name] if name in stored else suppressors[name](candidates)
                for name in rows
            }
        except ValueError as error:
            raise UserError(f"{file.path}: {error}") from error
        came_from = {name: origins(row, candidates) for name, row in given.items()}
        boxes = representative_boxes(clusters, method)
        found[image] = ImageClusters(clusters, boxes, given, came_from)
    return found


def _representative(file: CandidateFile) -> Representative:
    """Return how the run of a file sums a cluster up. The union where the file does not say it."""
    recipe: Any = file.provenance.get("recipe")
    stage = recipe.get("stage") if isinstance(recipe, dict) else None
    named = stage.get("representative") if isinstance(stage, dict) else None
    methods: tuple[Representative, ...] = get_args(Representative)
    return methods[methods.index(named)] if named in methods else "union"
