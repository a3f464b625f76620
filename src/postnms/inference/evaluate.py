"""A detector over a whole split: results in COCO format and in original pixels, and the metrics of every row."""

from collections.abc import Callable

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, gather_object

from postnms.data.loader import DetectionData, batches
from postnms.detectors import Detector
from postnms.detectors.detector import row_names
from postnms.detectors.modes import eval_mode
from postnms.evaluation.metrics import evaluate_rows
from postnms.evaluation.results import Metrics, Results, to_results
from postnms.recipes import Recipe


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
    return evaluate_rows(
        data.dataset.truth, results, bootstrap=settings.bootstrap, seed=recipe.seed
    ), results


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
