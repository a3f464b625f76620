"""The candidates of a detector on a whole split, written to a file together with its rows."""

from postnms.candidate_files.writer import CandidateWriter
from postnms.config import Progress, no_progress
from postnms.data.loader import Batch, DetectionData, batches
from postnms.detectors import Detector, Selection
from postnms.structures import Scored, move, rescale


def dump_candidates(
    detector: Detector,
    data: DetectionData,
    writer: CandidateWriter,
    batch_size: int,
    selection: Selection = Selection(),
    done: Progress = no_progress,
) -> int:
    """Write the candidates of all images in their original pixels; return their number.

    The rows come from the detector's own selection of candidates, whatever ``selection`` is asked
    for. ``done`` is called after every batch with the number of its images.
    """
    device = next(detector.parameters()).device
    count = 0
    pinned = device.type == "cuda"
    loaded = batches(data, range(len(data)), batch_size, pin_memory=pinned)
    for number, batch in enumerate(loaded):
        images = [image.to(device, non_blocking=True) for image in batch.images]
        if number == 0:
            # The first call compiles kernels. That is not part of the time of the stage.
            detector.trace(images, selection)
        trace = detector.trace(images, selection)
        rows = {name: in_original(row, batch) for name, row in trace.rows.items()}
        candidates = in_original(trace.candidates, batch)
        writer.add(candidates, batch.image_ids, rows, trace.milliseconds)
        count += len(candidates.scores)
        done(len(batch.images))
    return count


def in_original(structure: Scored, batch: Batch) -> Scored:
    """Move a structure to the CPU and into the pixels of the original images."""
    return rescale(move(structure, "cpu"), batch.to_original.float())
