"""Suppressors on the candidates of a file. No network runs."""

import dataclasses
import time
from collections.abc import Iterable
from dataclasses import dataclass

from postnms.candidate_files.reader import CandidateFile
from postnms.candidate_files.refined import check_refined, refined
from postnms.config import Progress, no_progress
from postnms.data.dataset import Truth
from postnms.errors import UserError
from postnms.evaluation.columns import ResultColumns, columns_of
from postnms.stage.fusion import Fusion
from postnms.structures import Detections, concatenate_detections
from postnms.suppression import Suppressor

IMAGES_AT_ONCE = 64
"""Number of images whose candidates are in memory together."""


@dataclass(frozen=True)
class Replayed:
    """The result of a suppressor on a file."""

    detections: Detections
    """``image`` is the position in the file's ``image_ids``."""
    milliseconds: float
    """Mean time of the suppressor alone for one image."""
    cut: int
    """Number of images with more detections than ``max_detections``, which has cut the rest."""


def replay(
    file: CandidateFile,
    suppressor: Suppressor,
    done: Progress = no_progress,
    *,
    fusion: Fusion | None = None,
) -> Replayed:
    """Run a suppressor on the candidates of a file, one chunk of images after another.

    Memory holds the detections and one chunk. The time excludes one-off costs of the first call,
    such as compiling kernels.

    Args:
        file: the candidates.
        suppressor: the suppressor.
        done: called after every chunk with the number of its images.
        fusion: runs the suppressor on the boxes of the stage, with scores that are joined like
            this. None: on the boxes and the scores of the detector.

    Raises:
        UserError: the candidates are not what the suppressor needs, or no stage has judged them.
            The message names the file.
    """
    if fusion is not None:
        check_refined(file)
    parts: list[Detections] = []
    seconds = 0.0
    cut = 0
    for ids, candidates in file.chunks(IMAGES_AT_ONCE):
        if fusion is not None:
            candidates = refined(candidates, fusion)
        try:
            if not parts:
                suppressor(candidates)  # compiles the kernels
            begin = time.perf_counter()
            detections, cut_here = suppressor.limited(candidates)
            seconds += time.perf_counter() - begin
        except ValueError as error:
            raise UserError(f"{file.path}: {error}") from error
        cut += int(cut_here.sum())
        parts.append(detections)
        done(len(ids))
    milliseconds = 1000 * seconds / max(len(file), 1)
    return Replayed(join_chunks(parts, len(file)), milliseconds, cut)


def join_chunks(parts: Iterable[Detections], num_images: int) -> Detections:
    """Return the detections of the chunks of a file, in their order, as those of one batch.

    The column ``image`` of each part counts within its chunk, that of the result through all
    ``num_images``.
    """
    placed = []
    start = 0
    for part in parts:
        placed.append(dataclasses.replace(part, image=part.image + start, num_images=num_images))
        start += part.num_images
    return concatenate_detections(placed, num_images)


def as_columns(detections: Detections, file: CandidateFile, truth: Truth) -> ResultColumns:
    """Return detections of a file's images, which are in original pixels, as columns of results.

    Detections of a class that the truth does not list are left out. Raises ValueError for a
    detection in an image that the truth does not list.
    """
    return columns_of(truth, detections, file.image_ids, file.categories)
