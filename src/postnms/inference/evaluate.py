"""A detector over a whole split: its results in COCO format, and the figures of every row."""

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, broadcast_object_list, gather_object
from torch import distributed

from postnms.config import Progress, no_progress
from postnms.data.loader import DetectionData, batches
from postnms.detectors import Detector
from postnms.detectors.modes import eval_mode
from postnms.evaluation.columns import ResultColumns, Results, concatenate_columns, to_columns
from postnms.evaluation.metrics import evaluate_rows
from postnms.evaluation.results import Evaluation


def evaluate_detector(
    detector: Detector,
    data: DetectionData,
    *,
    batch_size: int = 8,
    bootstrap: int = 1000,
    seed: int = 0,
    accelerator: Accelerator | None = None,
    done: Progress = no_progress,
    cut: Progress = no_progress,
) -> tuple[Evaluation | None, Results]:
    """Detect objects in all images of a split and measure every row.

    Several processes share the images. The first one gathers the results and measures them, while
    the others wait for its figures.

    Args:
        detector: its parameters decide the device.
        data: the split.
        batch_size: number of images in one forward pass.
        bootstrap: number of resamples for the interval of the gain; 0: no interval.
        seed: seed of the resamples.
        accelerator: the processes that share the images. None: this process takes all of them.
        done: called after every batch with the number of its images over all processes.
        cut: called at the end with the number of images of which NMS kept more boxes than the
            detector's limit, so that the rows have only the best of them.

    Returns:
        The evaluation, None if the split is not annotated. All processes return the same.
        The results of each row. The first process has all of them, the others have none.
    """
    rank = 0
    world = 1
    if accelerator is not None:
        rank = accelerator.process_index
        world = accelerator.num_processes
    if world > 1:
        # The statistics of batch norm differ between the processes. Those of process 0 are the
        # ones that are saved, so they are the ones to measure.
        broadcast(list(detector.buffers()))
    counts: list[int] = []
    results = detect_split(detector, data, batch_size, rank, world, done, counts.append)
    if world > 1:
        results = _gather_results(results, rank, world)
        counts = gather_object(counts)
    cut(sum(counts))
    if not data.dataset.annotated:
        return None, results
    evaluation = None
    if rank == 0:
        evaluation = evaluate_rows(data.dataset.truth, results, bootstrap=bootstrap, seed=seed)
    if world > 1:
        # Results of a large split would fill the memory of every process. Figures are small.
        (evaluation,) = broadcast_object_list([evaluation])
    return evaluation, results


def _gather_results(results: Results, rank: int, world: int) -> Results:
    """Return the results of all processes in the first one, and none in the others."""
    parts: list[Results] = [{}] * world if rank == 0 else []
    distributed.gather_object(results, parts or None)
    return {
        row: concatenate_columns([part[row] for part in parts], own.category_ids)
        for row, own in results.items()
    }


@torch.no_grad()
def detect_split(
    detector: Detector,
    data: DetectionData,
    batch_size: int,
    rank: int = 0,
    world: int = 1,
    done: Progress = no_progress,
    cut: Progress = no_progress,
) -> Results:
    """Return the results of images rank, rank + world, ... of a split.

    The detector runs in float32, whatever precision it was trained in. ``cut`` is called after
    every batch with the number of its images whose detections were cut to the detector's limit.
    """
    device = next(detector.parameters()).device
    parts: dict[str, list[ResultColumns]] = {name: [] for name in detector.row_names}
    category_ids = [category.id for category in data.dataset.categories]
    with eval_mode(detector):
        shared = range(rank, len(data), world)
        for batch in batches(data, shared, batch_size, pin_memory=device.type == "cuda"):
            output = detector([image.to(device, non_blocking=True) for image in batch.images])
            cut(0 if output.cut is None else int(output.cut.sum()))
            for name, detections in output.rows.items():
                parts[name].append(
                    to_columns(detections, batch.image_ids, batch.to_original, category_ids)
                )
            done(len(batch.images) * world)
    return {name: concatenate_columns(of_row, category_ids) for name, of_row in parts.items()}
