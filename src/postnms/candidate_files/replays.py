"""Suppressors on candidates from a file: no network runs."""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass

from postnms.candidate_files.reader import CandidateFile
from postnms.errors import UserError
from postnms.evaluation.results import Result, to_results
from postnms.structures import Detections, concatenate
from postnms.suppression import Suppressor

IMAGES_AT_ONCE = 64


@dataclass(frozen=True)
class Replayed:
    """What a suppressor leaves of a file."""

    detections: Detections
    """``image`` is the position in the file's ``image_ids``."""
    milliseconds: float
    """Mean time of the suppressor alone, an image."""


def replay(
    file: CandidateFile, suppressor: Suppressor, done: Callable[[int], None] = lambda images: None
) -> Replayed:
    """Suppress a file's candidates, chunk by chunk: memory for the detections and one chunk.

    What a first call alone costs, as compiling kernels, is not in the time. Raises UserError that names the file if
    the candidates are not what the suppressor needs.
    """
    parts, seconds = [], 0.0
    for start, (ids, candidates) in enumerate(file.chunks(IMAGES_AT_ONCE)):
        try:
            if not parts:
                suppressor(candidates)
            begin = time.perf_counter()
            found = suppressor(candidates)
            seconds += time.perf_counter() - begin
        except ValueError as error:
            raise UserError(f"{file.path}: {error}") from error
        parts.append(
            dataclasses.replace(
                found, image=found.image + start * IMAGES_AT_ONCE, num_images=len(file)
            )
        )
        done(len(ids))
    return Replayed(concatenate(parts, len(file)), 1000 * seconds / max(len(file), 1))


def as_results(detections: Detections, file: CandidateFile) -> list[Result]:
    """Detections of a file's images as COCO results."""
    ids = [category.id for category in file.categories]
    return to_results(detections, file.image_ids, [(1.0, 1.0)] * len(file), ids)
