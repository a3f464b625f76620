"""A detector over a whole split: results in COCO format and in original pixels, and the metrics of every row."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, gather_object

from postnms.data.loader import Batch, DetectionData, collate
from postnms.detectors import Detector
from postnms.evaluation.metrics import evaluate_rows, to_results
from postnms.files.atomic import write_json
from postnms.recipes import Recipe
from postnms.runs.loading import RunFolder

Results = dict[str, list[dict[str, Any]]]
"""COCO results of each row by its name."""
Metrics = dict[str, dict[str, float | None]]


def evaluate_detector(
    detector: Detector,
    data: DetectionData,
    recipe: Recipe,
    accelerator: Accelerator | None = None,
    done: Callable[[int], None] = lambda images: None,
) -> tuple[Metrics, Results]:
    """Metrics and results of all rows; each process takes its share of the images, all return the same.

    No metrics (an empty dict) if the split is not annotated.
    ``done`` is called after every batch, with the images that it held over all processes.
    """
    rank, world = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    if world > 1:  # batch norm's statistics differ between processes; those of process 0 are saved
        broadcast(list(detector.buffers()))
    results = detect_split(detector, data, recipe.evaluation.batch_size, rank, world, done)
    if world > 1:
        parts = gather_object([results])
        results = {row: [entry for part in parts for entry in part[row]] for row in results}
    if not data.dataset.annotated:
        return {}, results
    settings = recipe.evaluation
    return evaluate_rows(data.dataset.truth, results, bootstrap=settings.bootstrap, seed=recipe.seed), results


@torch.no_grad()
def detect_split(
    detector: Detector,
    data: DetectionData,
    batch_size: int,
    rank: int = 0,
    world: int = 1,
    done: Callable[[int], None] = lambda images: None,
) -> Results:
    """Detections of images rank, rank + world, ... of a split, in float32 whatever it was trained in."""
    device = next(detector.parameters()).device
    results: Results = {name: [] for name in row_names(detector)}
    ids = [category.id for category in data.dataset.categories]
    with eval_mode(detector):
        for batch in batches(data, range(rank, len(data), world), batch_size):
            rows = detector([image.to(device) for image in batch.images]).rows
            for name, detections in rows.items():
                results[name] += to_results(detections, batch.image_ids, batch.scales, ids)
            done(len(batch.images) * world)
    return results


@contextmanager
def eval_mode(detector: Detector) -> Iterator[None]:
    """The detector as at test time; its mode is restored afterwards."""
    training = detector.training
    detector.eval()
    try:
        yield
    finally:
        detector.train(training)


def row_names(detector: Detector) -> tuple[str, ...]:
    """Names of the rows that a detector gives."""
    if detector.stage is None:
        return ("nms",)
    second = () if detector.stage.config.second_nms is None else ("post_nms_second_nms",)
    return ("nms", "post_nms", *second)


def write_results(folder: RunFolder, metrics: Mapping[str, Any], results: Results) -> None:
    """One COCO results file a row in place of earlier ones, and ``metrics.json`` if there are metrics."""
    for row, entries in results.items():
        write_json(folder.results(row), entries, indent=None)
    for stale in set(folder.root.glob("results_*.json")) - {folder.results(row) for row in results}:
        stale.unlink()
    if metrics:
        write_json(folder.metrics, metrics)


def batches(data: DetectionData, indices: range, batch_size: int) -> Iterator[Batch]:
    """The given images of a split, in order."""
    for start in range(0, len(indices), batch_size):
        yield collate([data[index] for index in indices[start : start + batch_size]])
