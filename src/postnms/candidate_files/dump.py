"""A run's candidates of a whole split, written to a file batch by batch, with the run's own rows beside them."""

import dataclasses
import time
from collections.abc import Callable

import torch

from postnms.candidate_files.columns import REFINED
from postnms.candidate_files.writer import CandidateWriter
from postnms.data.loader import Batch, DetectionData, batches
from postnms.detectors import Detector
from postnms.detectors.image_batch import Found, ImageBatch, to_given
from postnms.detectors.modes import eval_mode
from postnms.detectors.network import Selection
from postnms.structures import Candidates, Detections, move


@torch.no_grad()
def dump_candidates(
    detector: Detector,
    data: DetectionData,
    writer: CandidateWriter,
    batch_size: int,
    selection: Selection = Selection(),
    done: Callable[[int], None] = lambda images: None,
) -> int:
    """Write the candidates of all images in their original pixels; returns how many.

    The rows are those of the detector's own selection of candidates, whatever ``selection`` is asked for here.
    """
    count = 0
    with eval_mode(detector):
        for number, batch in enumerate(batches(data, range(len(data)), batch_size)):
            if (
                not number
            ):  # what a first call alone costs, as compiling kernels, is not in the time
                _run(detector, batch, selection)
            candidates, rows, spent = _run(detector, batch, selection)
            writer.add(candidates, batch.image_ids, rows, spent)
            count += len(candidates.scores)
            done(len(batch.images))
    return count


def _run(
    detector: Detector, batch: Batch, selection: Selection
) -> tuple[Candidates, dict[str, Detections], dict[str, float]]:
    """Candidates, rows, and the milliseconds that clustering and the stage took together, if there is one."""
    device = next(detector.parameters()).device
    images = detector.network.prepare([image.to(device) for image in batch.images])
    features = detector.network.features(images)
    own, _ = detector.network.candidates(features, images)
    begin = time.perf_counter()
    rows = detector.finish(features, images, own)
    if device.type != "cpu":
        torch.accelerator.synchronize()
    spent = 1000 * (time.perf_counter() - begin)
    candidates, _ = detector.network.candidates(features, images, None, selection)
    rows = {name: _to_original(row, images, batch) for name, row in rows.items()}
    found = _to_original(candidates, images, batch)
    if detector.stage is not None:
        moved = dataclasses.replace(
            candidates, boxes=detector.stage.refine(features, images.sizes, candidates)
        )
        extra = {**found.extra, REFINED: _to_original(moved, images, batch).boxes}
        found = dataclasses.replace(found, extra=extra)
    return found, rows, {} if detector.stage is None else {"post_nms": spent}


def _to_original(found: Found, images: ImageBatch, batch: Batch) -> Found:
    """From the network's pixels to those of the files, and to the CPU."""
    given = move(to_given(found, images), "cpu")
    factors = torch.tensor(batch.scales, dtype=torch.float32).view(-1, 2).repeat(1, 2)
    return dataclasses.replace(given, boxes=given.boxes * factors[given.image])
